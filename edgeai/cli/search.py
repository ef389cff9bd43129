"""`edgeai search`."""

from __future__ import annotations

from typing import Any

import click

from edgeai.cli.options import filter_options, index_options, open_assistant, read_filter


@click.command("search", short_help="Show the passages that fit a query.")
@click.argument("query")
@click.option("-k", "--limit", type=click.IntRange(1, 1000), default=8, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@index_options
@filter_options
def search_command(query: str, limit: int, as_json: bool, **flags: Any) -> None:
    """List the passages that fit QUERY best, with file, page, heading and the words of the query highlighted.

    Needs no language model. Exits 4 when nothing is found.
    """
    from edgeai.cli import console
    from edgeai.cli.index import sync_docs
    from edgeai.text.terms import words

    where = read_filter(flags)
    docs = flags["docs"]
    with open_assistant(flags) as assistant:
        sync_docs(assistant, docs)
        hits = assistant.search(query, limit, where=where)
        empty = assistant.open_store().count_documents() == 0
    if as_json:
        console.print_json({"query": query, "hits": [hit.as_dict() for hit in hits]})
    for number, hit in enumerate(() if as_json else hits, 1):
        console.show_hit(number, hit, words(query))
    if not hits:
        console.notice(
            "The index is still empty; fill it with `edgeai sync FOLDER`."
            if empty
            else "Nothing in your documents fits this query."
        )
        raise SystemExit(4)
