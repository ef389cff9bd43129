"""`edgeai chat`: reads questions and commands, from a terminal or line by line from a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeai import sessions
from edgeai.cli.ask import show_reply
from edgeai.cli.chat_commands import (
    COMMANDS,
    Chat,
    Downloads,
    Leave,
    load_models,
    run_command,
    show_notices,
    sync_existing,
)
from edgeai.cli.index import sync_docs
from edgeai.cli.options import filter_options, index_options, index_path, model_options, open_assistant, read_filter
from edgeai.errors import EdgeAIError, UsageProblem

if TYPE_CHECKING:
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

# Gives the next line for a prompt; raises EOFError at the end of input and KeyboardInterrupt for Ctrl-C.
ReadLine = Callable[[str], str]

PROMPT = "> "
MORE = "… "
QUOTES = '"""'  # a message of several lines stands between two of these


def _saved_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in sessions.names() if name.startswith(incomplete)]


@click.command("chat", short_help="Ask question after question, with follow-ups.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--continue", "resume", is_flag=True, help="Go on with the chat that was saved last.")
@click.option("--session", metavar="NAME", shell_complete=_saved_names, help="Go on with this saved chat, or start it.")
@index_options
@filter_options
@model_options
@click.option("--ahead/--no-ahead", default=None, help="Search while the question is typed [yes, except on battery].")
def chat_command(paths: tuple[Path, ...], resume: bool, session: str | None, **flags: Any) -> None:
    """Chat with PATHS (as with --docs), or with the index chosen by --index.

    Follow-up questions are understood from what was said before. Every chat is saved as it goes, on this machine only.
    Type /help for the commands. Questions may also be piped in, one a line.
    """
    where = read_filter(flags)
    flags["docs"] = (*paths, *flags["docs"])
    saved = _find_session(resume, session)
    go_on = bool(saved.index) and flags["index"] is None and not flags["docs"]
    flags["index"] = Path(saved.index) if go_on else index_path(flags["index"], flags["docs"])
    if not go_on:
        docs = tuple(str(path.expanduser().resolve()) for path in flags["docs"])
        saved = replace(saved, index=str(flags["index"].absolute()), docs=docs)
    downloads = Downloads()
    with open_assistant(flags, downloads) as assistant:
        chat = Chat(assistant, saved, where, _interactive(), downloads, named=session is not None)
        _prepare(chat, go_on)
        _talk(chat, _terminal_reader(chat) if chat.interactive else _plain_reader())


def _interactive() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


def _find_session(resume: bool, name: str | None) -> sessions.Session:
    """The saved chat the options mean, or a new one without an index."""
    if resume and name is not None:
        raise UsageProblem("Give either --continue or --session NAME, not both.")
    if resume:
        return sessions.latest()
    if name is not None and sessions.exists(name):
        return sessions.load(name)
    return sessions.Session(sessions.new_name() if name is None else name, index="")


def _prepare(chat: Chat, go_on: bool) -> None:
    """Bring the index up to date, load the models, and greet."""
    if go_on:
        sync_existing(chat, quiet=True)
    else:
        sync_docs(chat.assistant, tuple(map(Path, chat.session.docs)))
    load_models(chat.assistant, chat.downloads)
    if chat.interactive:
        _greet(chat)


def _greet(chat: Chat) -> None:
    from edgeai.cli import console

    status = chat.assistant.status()
    model = chat.assistant.settings.model
    console.aside(f"{status['documents']} documents · {status['chunks']} chunks · model {model}")
    console.aside("Ask a question. /help lists the commands, Ctrl-D leaves.")
    if chat.session.exchanges:
        console.aside(f"Going on with {chat.session.name!r}:")
        console.aside(f"{PROMPT}{chat.session.exchanges[-1].question}")
        console.say(chat.session.exchanges[-1].answer)


def _talk(chat: Chat, read: ReadLine) -> None:
    """Read and answer until the end of input or /exit; an error or Ctrl-C ends one answer, not the chat."""
    from edgeai.cli import console

    while True:
        try:
            message = read_message(read)
        except EOFError:
            break
        except KeyboardInterrupt:
            _interrupted(chat, "Type /exit or press Ctrl-D to leave.")
            continue
        try:
            _respond(chat, message)
        except Leave:
            break
        except KeyboardInterrupt:
            _interrupted(chat, "Stopped.")
        except EdgeAIError as error:
            console.notice(str(error))
        if chat.interactive:
            console.aside("")
    if chat.interactive and chat.session.exchanges:
        console.aside(f"Saved as {chat.session.name!r}; go on with: edgeai chat --continue")


def _interrupted(chat: Chat, hint: str) -> None:
    """Go on after Ctrl-C where somebody can type; a script is to end."""
    from edgeai.cli import console

    if not chat.interactive:
        raise KeyboardInterrupt
    console.notice(hint)


def read_message(read: ReadLine) -> str:
    """A line, or what stands between two lines of three quotes; the end of input ends the latter too."""
    line = read(PROMPT).strip()
    if not line.startswith(QUOTES):
        return line
    lines = [line.removeprefix(QUOTES)]
    while not lines[-1].rstrip().endswith(QUOTES):
        try:
            lines.append(read(MORE))
        except EOFError:
            break
    return "\n".join(lines).rstrip().removesuffix(QUOTES).strip()


def _respond(chat: Chat, message: str) -> None:
    from edgeai.cli import console

    if message and not chat.interactive:  # a transcript needs the questions too
        console.say(f"{PROMPT}{message}")
    if message.startswith("/"):
        run_command(message, chat)
    elif message:
        _answer(chat, message)


def _answer(chat: Chat, question: str) -> None:
    from edgeai.cli import console

    with chat.assistant.ask(question, history=chat.history, where=chat.where) as reply:
        try:
            show_reply(reply)
        except KeyboardInterrupt:
            reply.close()
            if said := "".join(piece.text for piece in reply):
                console.say(f"{said} …")
            raise
    show_notices(chat.assistant)
    chat.keep(sessions.Exchange(question, reply.answer.text, reply.answer.citations))


# reading --------------------------------------------------------------------------------------------------------------


def _plain_reader() -> ReadLine:
    def read(prompt: str) -> str:
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\r\n")

    return read


def _terminal_reader(chat: Chat) -> ReadLine:
    """Line editing with history, completion of commands, and Alt-Enter for a new line; looks ahead while one types."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter

    prompt: PromptSession[str] = PromptSession(
        history=_typed_before(),
        key_bindings=_key_bindings(),
        completer=WordCompleter(list(COMMANDS), sentence=True),
        multiline=True,
        prompt_continuation=MORE,
    )
    prompt.default_buffer.on_text_changed += lambda buffer: look_ahead(chat, buffer.text)

    def read(text: str) -> str:
        return prompt.prompt([("bold ansicyan", text)])

    return read


def look_ahead(chat: Chat, text: str) -> None:
    """Let the assistant begin with what may become a question; with nothing for a command or a quoted message."""
    message = text.strip()
    question = "" if message.startswith(("/", QUOTES)) else message
    chat.assistant.prepare(question, history=chat.history, where=chat.where)


def _typed_before() -> History:
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    from edgeai.cli import console

    try:
        return FileHistory(str(sessions.history_file()))
    except EdgeAIError as error:
        console.notice(str(error))
        return InMemoryHistory()


def _key_bindings() -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings

    bindings = KeyBindings()

    @bindings.add("enter")
    def submit(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @bindings.add("escape", "enter")
    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @bindings.add("c-c")
    def discard(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt)

    return bindings
