"""`edgeai ask`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from edgeai.cli.options import filter_options, index_options, model_options, open_assistant, read_filter
from edgeai.errors import UsageProblem

if TYPE_CHECKING:
    from edgeai.assistant import Assistant
    from edgeai.records import Answer
    from edgeai.reply import Reply

NO_GROUNDED_ANSWER = 4


@click.command("ask", short_help="Answer one question, or many with --batch.")
@click.argument("question", required=False)
@index_options
@filter_options
@model_options
@click.option(
    "--batch", type=click.File("r", encoding="utf-8-sig"), metavar="FILE", help="JSON Lines of questions, '-' = stdin."
)
@click.option(
    "--schema", type=click.Path(path_type=Path), metavar="FILE", help="Answer with a JSON value valid against a schema."
)
@click.option("--choices", metavar="A,B,...", help="Answer with one of these, the likeliest.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per answer.")
def ask_command(
    question: str | None,
    batch: TextIO | None,
    schema: Path | None,
    choices: str | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Answer QUESTION from your documents, with citations.

    Without QUESTION it is read from standard input. --batch FILE reads objects with "question" and an optional "id",
    one a line, and prints one JSON object a line. Exits 4 when the documents do not contain the answer.
    """
    from edgeai.cli import console
    from edgeai.cli.index import sync_docs

    asked = {"where": read_filter(flags), **_read_form(schema, choices)}
    docs = flags["docs"]
    if batch is None and not (question := (question or _from_stdin()).strip()):
        raise UsageProblem('There is no question; ask one like this: edgeai ask "How long is parental leave?"')
    with console.progress_bar("Getting the model") as progress, open_assistant(flags, progress) as assistant:
        sync_docs(assistant, docs)
        if batch is not None:
            for record in _answers(batch, assistant, asked):
                console.print_json(record, indent=None)
            return
        answer = _answer(assistant, str(question), asked, as_json)
    for line in assistant.notices:
        console.notice(line)
    if answer.status == "refused":
        raise SystemExit(NO_GROUNDED_ANSWER)


def _read_form(schema: Path | None, choices: str | None) -> dict[str, Any]:
    """What the answer has to be, checked before any model is loaded."""
    if schema is None and choices is None:
        return {}
    from edgeai.forms import read_form
    from edgeai.schema import read_schema

    form: dict[str, Any] = {"schema": read_schema(schema) if schema else None}
    form["choices"] = choices.split(",") if choices is not None else ()
    read_form(**form)
    return form


def _from_stdin() -> str:
    return "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()


def _answer(assistant: Assistant, question: str, asked: dict[str, Any], as_json: bool) -> Answer:
    from edgeai.cli import console

    reply = assistant.ask(question, **asked)
    if as_json:
        console.print_json(reply.answer.as_dict())
        return reply.answer
    show_reply(reply)
    return reply.answer


def show_reply(reply: Reply) -> None:
    """Stream an answer to the terminal, then show it as checked, with its sources and one timing line."""
    from edgeai.cli import console

    if console.out().is_terminal:
        _stream(reply)
    answer = reply.answer
    console.say(answer.text, "bold" if answer.status == "answered" else "")
    if answer.status == "refused":
        console.show_closest(answer)
    console.show_sources(answer.citations)
    console.show_timing(answer)


def _stream(reply: Reply) -> None:
    """Show the words as they come, in a region that is cleared for the checked answer."""
    from rich.live import Live
    from rich.text import Text

    from edgeai.cli import console

    with Live(Text("…", "dim"), console=console.out(), transient=True, refresh_per_second=15) as live:
        said = ""
        for piece in reply:
            said += piece.text
            live.update(Text(console.clean(said)))


def _answers(lines: TextIO, assistant: Assistant, asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            record = _question(line, number)
            answer = assistant.ask(record["question"], **asked).answer.as_dict()
            yield {"id": record["id"], **answer} if "id" in record else answer


def _question(line: str, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict) or not isinstance(record.get("question"), str) or not record["question"].strip():
        raise UsageProblem(f'Line {number} of the batch is not an object like {{"question": "…"}}.')
    return record
