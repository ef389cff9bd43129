"""The state of a chat and the commands that start with a slash, as a table from which /help is made."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgeai import sessions
from edgeai.cli import console
from edgeai.cli.options import parse_budget
from edgeai.errors import EdgeAIError, PathNotFound, UsageProblem

if TYPE_CHECKING:
    from edgeai.assistant import Assistant
    from edgeai.filters import Filter
    from edgeai.records import Citation, Progress, Turn

CONTEXT_CHARACTERS = 300  # shown on either side of a quote by /open

# Opening anything else could run it: what a program does with a document is harmless, a double-clicked script is not.
_OPENABLE = {*".md .markdown .txt .rst .pdf .docx .html .htm .csv .tsv .json .jsonl .epub .eml".split()}  # noqa: SIM905


class Leave(Exception):
    """The chat is over."""


@dataclass
class Chat:
    """One conversation: what it is held over, and what was said."""

    assistant: Assistant
    session: sessions.Session
    where: Filter
    interactive: bool
    downloads: Downloads
    named: bool = False  # the user chose the session's name

    def keep(self, exchange: sessions.Exchange) -> None:
        """Remember an exchange, on disk too."""
        self.session = replace(self.session, exchanges=(*self.session.exchanges, exchange))
        sessions.save(self.session)

    @property
    def history(self) -> list[Turn]:
        """What was said, for the next question to be understood."""
        return [exchange.turn for exchange in self.session.exchanges]

    @property
    def sources(self) -> tuple[Citation, ...]:
        """What the last answer cites."""
        return self.session.exchanges[-1].citations if self.session.exchanges else ()


@dataclass
class Downloads:
    """Where download progress is drawn at the moment: a bar exists only while models are loaded."""

    show: Callable[[Progress], None] = field(default=lambda _: None)

    def __call__(self, step: Progress) -> None:
        self.show(step)


def load_models(assistant: Assistant, downloads: Downloads) -> None:
    """Get and load the models, with a progress bar for what has to be fetched; then say what is missing."""
    with console.progress_bar("Getting the model") as downloads.show:
        assistant.warm()
    downloads.show = lambda _: None
    show_notices(assistant)


def show_notices(assistant: Assistant) -> None:
    """Print what the assistant has to say to the user, once."""
    while assistant.notices:
        console.notice(assistant.notices.pop(0))


def run_command(line: str, chat: Chat) -> None:
    """Run a line that starts with a slash; raises `UsageProblem` for an unknown command and `Leave` for /exit."""
    name, _, argument = line.partition(" ")
    name = ALIASES.get(name.lower(), name.lower())
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1)
        raise UsageProblem(f"There is no command {name}; " + (f"did you mean {near[0]}?" if near else "see /help."))
    COMMANDS[name].run(chat, argument.strip())


# the commands ---------------------------------------------------------------------------------------------------------


def show_help(chat: Chat, argument: str) -> None:
    for name, command in COMMANDS.items():
        console.say(f"{f'{name} {command.argument}':<16} {command.help}")
    console.say('Anything else is a question. Alt-Enter starts a new line; so do lines between """ and """.')
    console.say("Ctrl-C stops an answer, Ctrl-D leaves.")


def show_sources(chat: Chat, argument: str) -> None:
    if not chat.sources:
        raise UsageProblem("There is no answer with sources yet; ask something first.")
    console.show_sources(chat.sources)


def open_source(chat: Chat, argument: str) -> None:
    citation = _cited(chat, argument)
    document = chat.assistant.document(citation.path)
    console.say(console.place(citation.path, citation.heading, citation.page), "cyan")
    if document is None or document.text[citation.start : citation.end] != citation.quote:
        console.notice("The file has changed since this answer; what was quoted then:")
        console.say(citation.quote)
        return
    console.show_in_context(document.text, citation.start, citation.end, CONTEXT_CHARACTERS)
    if chat.interactive:
        _open(Path(citation.path))


def add_path(chat: Chat, argument: str) -> None:
    if not argument:
        raise UsageProblem("Say what to add: /add PATH.")
    path = Path(argument.strip("'\"")).expanduser().resolve()
    sync(chat, path)
    if str(path) not in chat.session.docs:
        chat.session = replace(chat.session, docs=(*chat.session.docs, str(path)))
        if chat.session.exchanges:
            sessions.save(chat.session)


def sync_paths(chat: Chat, argument: str) -> None:
    if not chat.session.docs:
        raise UsageProblem("This chat was started without paths; add some with /add PATH.")
    sync_existing(chat)


def search(chat: Chat, argument: str) -> None:
    from edgeai.text.terms import words

    if not argument:
        raise UsageProblem("Say what to search for: /search QUERY.")
    hits = chat.assistant.search(argument, where=chat.where)
    for number, hit in enumerate(hits, 1):
        console.show_hit(number, hit, words(argument))
    if not hits:
        console.notice("Nothing in your documents fits this query.")


def change_model(chat: Chat, argument: str) -> None:
    if argument:
        _reconfigure(chat, "model", argument)
    console.say(f"Model: {chat.assistant.settings.model}")


def change_adapter(chat: Chat, argument: str) -> None:
    if argument:
        _reconfigure(chat, "adapter", "" if argument == "none" else argument)
    console.say(f"Adapter: {chat.assistant.settings.adapter or 'none'}")


def change_budget(chat: Chat, argument: str) -> None:
    if argument:
        chat.assistant.reconfigure(budget_ms=parse_budget(argument))
    budget = chat.assistant.settings.budget_ms
    console.say(f"Budget: {budget:g} ms" if budget else "Budget: none")


def save(chat: Chat, argument: str) -> None:
    if argument and argument != chat.session.name:
        if sessions.exists(argument):
            raise UsageProblem(f"There is a saved chat called {argument!r} already; choose another name.")
        before = chat.session.name
        chat.session = replace(chat.session, name=argument)
        sessions.save(chat.session)
        if not chat.named:
            sessions.remove(before)
        chat.named = True
    console.say(f"Saved as {sessions.save(chat.session)}")


def clear(chat: Chat, argument: str) -> None:
    chat.session = replace(chat.session, name=sessions.new_name(), exchanges=())
    chat.named = False
    console.say("A new chat; the earlier one stays saved.")


def leave(chat: Chat, argument: str) -> None:
    raise Leave


class Command(NamedTuple):
    """What a slash command does, what it takes, and its line in /help."""

    run: Callable[[Chat, str], None]
    argument: str
    help: str


COMMANDS = {
    "/help": Command(show_help, "", "this list"),
    "/sources": Command(show_sources, "", "the sources of the last answer again"),
    "/open": Command(open_source, "N", "source N in its context, and its file in the program for it"),
    "/add": Command(add_path, "PATH", "index a file or folder and use it too"),
    "/sync": Command(sync_paths, "", "bring the index in line with the files"),
    "/search": Command(search, "QUERY", "passages that fit, without an answer"),
    "/model": Command(change_model, "[NAME]", "show or change the model; 'none' quotes the best sentence"),
    "/adapter": Command(change_adapter, "[NAME]", "show or change the LoRA adapter of the model; 'none' for none"),
    "/budget": Command(change_budget, "[MS]", "show or change the time budget of an answer; 'none' for no limit"),
    "/save": Command(save, "[NAME]", "save this chat under a name, for edgeai chat --session NAME"),
    "/clear": Command(clear, "", "forget what was said and start a new chat"),
    "/exit": Command(leave, "", "leave; edgeai chat --continue goes on later"),
}
ALIASES = {"/?": "/help", "/quit": "/exit", "/bye": "/exit"}


# helpers --------------------------------------------------------------------------------------------------------------


def sync_existing(chat: Chat, *, quiet: bool = False) -> None:
    """Index the paths of this chat again, without those that are gone."""
    paths = [Path(path) for path in chat.session.docs]
    for path in paths:
        if not path.exists():
            console.notice(f"{path} is not there any more; what was indexed of it is still used.")
    there = [path for path in paths if path.exists()]
    if there:
        sync(chat, *there, quiet=quiet)


def sync(chat: Chat, *paths: Path, quiet: bool = False) -> None:
    """Index paths with a progress bar and say what changed, `quiet` only if something did."""
    with console.progress_bar("Indexing") as progress:
        report = chat.assistant.sync(*paths, progress=progress)
    if not quiet or report.chunks or report.removed or report.moved:
        console.show_report(report, verbose=not quiet)


def _reconfigure(chat: Chat, setting: str, value: str) -> None:
    """Change a setting of the model and load what it needs; an error leaves it as it was."""
    before = getattr(chat.assistant.settings, setting)
    chat.assistant.reconfigure(**{setting: value})
    try:
        load_models(chat.assistant, chat.downloads)
    except EdgeAIError:
        chat.assistant.reconfigure(**{setting: before})
        raise


def _cited(chat: Chat, argument: str) -> Citation:
    chosen = [citation for citation in chat.sources if argument.strip("[]") == str(citation.n)]
    if not chosen:
        numbers = ", ".join(str(citation.n) for citation in chat.sources)
        raise UsageProblem(
            f"Say which source: /open N, N one of {numbers}." if numbers else "There are no sources yet."
        )
    return chosen[0]


def _open(path: Path) -> None:
    """Hand a document to the program the desktop has for it."""
    if not path.is_file():
        raise PathNotFound(f"{path} is not there any more.")
    if path.suffix.lower() not in _OPENABLE:
        console.notice(f"Not opened: a {path.suffix or 'nameless'} file could be run instead of shown.")
    elif sys.platform == "win32":
        os.startfile(path)
    elif sys.platform == "darwin":
        subprocess.run(["open", str(path)], check=False)
    elif not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        console.notice("Not opened: there is no desktop here.")
    else:
        _open_on_linux(path)


def _open_on_linux(path: Path) -> None:
    quiet = subprocess.DEVNULL
    try:  # not waited for: it may run as long as the program it starts
        subprocess.Popen(["xdg-open", str(path)], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    except FileNotFoundError:
        console.notice("Not opened: xdg-open is not installed here.")
