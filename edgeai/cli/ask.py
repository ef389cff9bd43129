"""`edgeai ask`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from edgeai.cli.options import filter_options, index_options, model_options, read_filter, read_settings
from edgeai.errors import UsageProblem

if TYPE_CHECKING:
    from edgeai.assistant import Assistant
    from edgeai.config import Settings
    from edgeai.filters import Filter
    from edgeai.kept.keepalive import Plan
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
@click.option("--keep-alive", metavar="MINUTES", help="Leave the models loaded for the next ask [10 on a terminal].")
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

    After a question on a terminal a process of yours keeps the models loaded and answers the next one. It opens no
    network and ends after 10 minutes without a question, or by "edgeai stop"; --keep-alive 0 does without it.
    """
    from edgeai.cli import console
    from edgeai.kept import keepalive

    asked = {"where": read_filter(flags), **_read_form(schema, choices)}
    docs = flags["docs"]
    if batch is None and not (question := (question or _from_stdin()).strip()):
        raise UsageProblem('There is no question; ask one like this: edgeai ask "How long is parental leave?"')
    index, settings = read_settings(flags)
    if batch is not None:
        with _opened(index, settings, docs) as assistant:
            for record in _answers(batch, assistant, asked):
                console.print_json(record, indent=None)
        return
    plain = schema is None and choices is None  # the process that keeps models loaded answers in prose
    kept = keepalive.plan(index, settings, docs=docs, terminal=sys.stdout.isatty()) if plain else None
    status = _ask_kept(kept, str(question), asked["where"], as_json) if kept else None
    if status is None:
        with _opened(index, settings, docs) as assistant:
            status = _show(assistant.ask(str(question), **asked), as_json)
        _show_notices(assistant.notices)
        if kept:
            keepalive.leave(kept)
    if status == "refused":
        raise SystemExit(NO_GROUNDED_ANSWER)


def _read_form(schema: Path | None, choices: str | None) -> dict[str, Any]:
    """What the answer has to be, checked before any model is loaded."""
    if schema is None and choices is None:
        return {}
    from edgeai.structured.forms import read_form
    from edgeai.structured.schema import read_schema

    form: dict[str, Any] = {"schema": read_schema(schema) if schema else None}
    form["choices"] = choices.split(",") if choices is not None else ()
    read_form(**form)
    return form


def _from_stdin() -> str:
    return "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()


def _ask_kept(kept: Plan, question: str, where: Filter, as_json: bool) -> str | None:
    """The status of an answer that the process which keeps models loaded gave; None when there was none."""
    from edgeai.kept import keepalive

    given = keepalive.ask(kept, question, where)
    if given is None:
        return None
    try:
        status = _show(given.reply, as_json)
    except keepalive.Lost:  # before anything that stays on the screen was printed
        return None
    _show_notices(given.notices)
    return status


@contextmanager
def _opened(index: Path, settings: Settings, docs: tuple[Path, ...]) -> Iterator[Assistant]:
    """An assistant in this process that gets what is missing, with the index of --docs brought up to date."""
    from edgeai.assistant import Assistant
    from edgeai.cli import console
    from edgeai.cli.index import sync_docs

    with (
        console.progress_bar("Getting the model") as progress,
        Assistant(index, settings=settings, pull=True, progress=progress) as assistant,
    ):
        sync_docs(assistant, docs)
        yield assistant


def _show(reply: Reply, as_json: bool) -> str:
    """Print the answer; returns its status."""
    from edgeai.cli import console

    if as_json:
        console.print_json(reply.answer.as_dict())
    else:
        show_reply(reply)
    return reply.answer.status


def _show_notices(notices: Iterable[str]) -> None:
    from edgeai.cli import console

    for line in notices:
        console.notice(line)


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
    if answer.support == "weak":
        console.aside("weak support: read the sources before you rely on this")
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
