"""The commands that make and keep an index: sync, status, check, rm, export, import."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from edgeai.cli.options import index_options, index_path, open_assistant
from edgeai.errors import DiskFull, ReadOnly

if TYPE_CHECKING:
    from edgeai.assistant import Assistant

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@contextmanager
def unlogged_assistant(flags: dict[str, Any]) -> Iterator[Assistant]:
    """An assistant whose index holds what the flags name, for questions that are no user's and are not logged."""
    from edgeai.cli import console

    docs = flags["docs"]
    with console.progress_bar("Getting the model") as progress, open_assistant(flags, progress) as assistant:
        sync_docs(assistant, docs)
        # Figures are for questions never asked before: passages that an earlier run computed must not be found.
        assistant.reconfigure(log_questions=False, kept_states_mb=0)
        yield assistant


def sync_docs(assistant: Assistant, docs: tuple[Path, ...]) -> None:
    """Bring the index of --docs up to date, saying what changed."""
    from edgeai.cli import console

    if docs:
        with console.progress_bar("Indexing") as progress:
            report = assistant.sync(*docs, progress=progress)
        if report.chunks or report.removed or report.moved:
            console.show_report(report, verbose=False)
        if assistant.index == index_path(None, docs):
            _forget_others(assistant, docs)


def _forget_others(assistant: Assistant, docs: tuple[Path, ...]) -> None:
    """Take out what a chat added to the index of --docs: it is to hold just these."""
    roots = tuple(f"{path.expanduser().resolve().as_posix().rstrip('/')}/" for path in docs)
    assistant.remove(*(path for path in assistant.open_store().files() if not f"{path}/".startswith(roots)))


@click.command("sync", short_help="Bring the index in line with files and folders.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--include", multiple=True, metavar="PATTERN", help="Take only files that match (.gitignore syntax).")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out files that match (.gitignore syntax).")
@click.option("--tag", multiple=True, help="Tag every file taken. Repeatable.")
@click.option("--label", help="Access label of every file taken.")
@click.option("--rebuild", is_flag=True, help="Start a new index file, e.g. for another embedder.")
@json_option
@index_options
def sync_command(
    paths: tuple[Path, ...],
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    tag: tuple[str, ...],
    label: str | None,
    rebuild: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Index PATHS: new and changed files are read, moved ones recognised, deleted ones forgotten.

    Unchanged files cost nothing. Files that cannot be read are listed with the reason and never stop the rest.
    """
    from edgeai.cli import console

    with open_assistant(flags) as assistant, console.progress_bar("Indexing") as progress:
        report = assistant.sync(
            *paths,
            include=include,
            exclude=exclude,
            tags=tag or None,
            label=label,
            rebuild=rebuild,
            progress=progress,
        )
    for line in assistant.notices:
        console.notice(line)
    if as_json:
        console.print_json(report.as_dict())
    else:
        console.show_report(report)


@click.command("status", short_help="What the index holds.")
@json_option
@index_options
def status_command(as_json: bool, **flags: Any) -> None:
    """Show documents, chunks, types, sizes and the embedder of the index."""
    from edgeai.cli import console

    with open_assistant(flags) as assistant:
        status = assistant.status()
    if as_json:
        console.print_json(status)
        return
    for name, value in status.items():
        text = ", ".join(f"{key} {number}" for key, number in value.items()) if isinstance(value, dict) else value
        console.say(f"{name.replace('_', ' '):<16} {'none' if text is None else text}")


@click.command("check", short_help="Check that text, keyword and vector index agree.")
@json_option
@index_options
def check_command(as_json: bool, **flags: Any) -> None:
    """Check the index file; exits 1 and names every problem when there is one."""
    from edgeai.cli import console

    with open_assistant(flags) as assistant:
        problems = assistant.check()
    if as_json:
        console.print_json({"ok": not problems, "problems": problems})
    else:
        console.say("\n".join(problems) or "ok: text, keyword and vector index agree")
    if problems:
        raise SystemExit(1)


@click.command("rm", short_help="Forget files or folders.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@index_options
def rm_command(paths: tuple[Path, ...], **flags: Any) -> None:
    """Remove PATHS from the index; the files themselves are not touched."""
    from edgeai.cli import console

    with open_assistant(flags) as assistant:
        console.say(f"{assistant.remove(*paths)} documents removed from the index")


@click.command("export", short_help="Write the index as JSON Lines.")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@index_options
def export_command(file: Path, **flags: Any) -> None:
    """Write every document with its text, metadata and chunk boundaries to FILE ('-' = standard output)."""
    from edgeai.transfer import export_lines

    with open_assistant(flags) as assistant, writing(file) as stream:
        for line in export_lines(assistant.open_store()):
            stream.write(line + "\n")


@contextmanager
def writing(file: Path) -> Iterator[IO[str]]:
    """A file that takes the place of an earlier one only once it is complete, or standard output."""
    if str(file) == "-" or (file.exists() and not file.is_file()):  # a pipe or device cannot be replaced
        with click.open_file(str(file), "w", encoding="utf-8") as stream:
            yield stream
        return
    part = file.with_name(f"{file.name}.part")
    try:
        with part.open("w", encoding="utf-8") as stream:
            yield stream
        part.replace(file)
    except OSError as error:
        kind = DiskFull if error.errno == errno.ENOSPC else ReadOnly
        raise kind(f"{file} cannot be written ({error.strerror}); name another place.") from error
    finally:
        part.unlink(missing_ok=True)


@click.command("import", short_help="Add the documents of an export.")
@click.argument("file", type=click.File("r", encoding="utf-8-sig"))
@index_options
def import_command(file: Any, **flags: Any) -> None:
    """Read FILE made by 'edgeai export' into the index; vectors are computed anew."""
    from edgeai.cli import console
    from edgeai.transfer import import_lines

    with open_assistant(flags) as assistant:
        count = import_lines(file, store=assistant.open_store(create=True), embedder=assistant.embedder)
        console.say(f"{count} documents imported")
