"""`edgeai models`: list, show, pull, path, verify, rm."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgeai.registry import Registry
    from edgeai.registry.catalog import Entry

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
name_argument = click.argument("name")


@click.group("models", short_help="List, pull, verify and remove models.")
def models_command() -> None:
    """The models edgeai knows, and those installed on this machine.

    Only 'pull' opens the network.
    """


@models_command.command("list", short_help="The catalog.")
@click.option("--installed", is_flag=True, help="Only what is installed.")
@json_option
def list_command(installed: bool, as_json: bool) -> None:
    """List every model of the catalog.

    run: we ran this very file; pinned: its hash is known beforehand; here: it is installed on this machine
    ('outdated': not as this version builds it; pull it again)."""
    from edgeai.cli import console

    registry = _registry()
    entries = [entry for entry in registry.entries() if not installed or registry.installed(entry.name)]
    if as_json:
        console.print_json([_record(entry, registry) for entry in entries])
        return
    _table(entries, registry)


def _table(entries: list[Entry], registry: Registry) -> None:
    from rich.table import Table

    from edgeai.cli import console

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "role", "MB", "licence", "run", "pinned", "here"):
        # On a narrow terminal the licence is what wraps.
        table.add_column(column, justify="right" if column == "MB" else "left", no_wrap=column != "licence")
    for entry in entries:
        size = f"{entry.size / 1e6:.0f}" if entry.size else "?"
        marks = ("yes" if mark else "-" for mark in (entry.run, entry.pinned))
        table.add_row(entry.name, entry.role, size, entry.licence, *marks, _here(entry.name, registry))
    console.out().print(table)


def _here(name: str, registry: Registry) -> str:
    if registry.outdated(name):
        return "outdated"
    return "yes" if registry.installed(name) else "-"


@models_command.command("show", short_help="Everything the catalog says about a model.")
@name_argument
def show_command(name: str) -> None:
    """Print the catalog entry of NAME as JSON."""
    from edgeai.cli import console

    registry = _registry()
    console.print_json(_record(registry.entry(name), registry))


@models_command.command("pull", short_help="Fetch, verify and build a model.")
@click.argument("names", nargs=-1)
@click.option("--allow-unverified", is_flag=True, help="Accept a model whose hash is not pinned in the catalog.")
def pull_command(names: tuple[str, ...], allow_unverified: bool) -> None:
    """Install NAMES (without any: the default models) from the first source that can be reached."""
    from edgeai.cli import console
    from edgeai.config import DEFAULT_EMBEDDER, DEFAULT_GENERATOR, DEFAULT_READER

    registry = _registry(allow_unverified=allow_unverified)
    for name in names or (DEFAULT_EMBEDDER, DEFAULT_READER, DEFAULT_GENERATOR):
        with console.progress_bar(name) as progress:
            path = registry.pull(name, progress)
        console.say(f"{name}: {path}")


@models_command.command("path", short_help="Where a model lies on disk.")
@name_argument
def path_command(name: str) -> None:
    """Print the file of an installed model."""
    from edgeai.cli import console

    console.say(str(_registry().path(name)))


@models_command.command("verify", short_help="Hash installed models again.")
@click.argument("names", nargs=-1)
def verify_command(names: tuple[str, ...]) -> None:
    """Compare the bytes of NAMES (without any: of everything installed) with the recorded hashes."""
    from edgeai.cli import console

    registry = _registry()
    chosen = names or tuple(entry.name for entry in registry.entries() if registry.installed(entry.name))
    for name in chosen:
        console.say(f"{name}: {registry.verify(name)}")


@models_command.command("rm", short_help="Remove an installed model.")
@name_argument
def rm_command(name: str) -> None:
    """Delete the files of NAME; the catalog entry stays."""
    from edgeai.cli import console

    console.say(f"{name}: {_registry().remove(name) / 1e6:.0f} MB freed")


def _registry(*, allow_unverified: bool = False) -> Registry:
    from edgeai.config import load_settings
    from edgeai.models import open_registry

    settings = load_settings()
    return open_registry(offline=settings.offline, allow_unverified=allow_unverified or settings.allow_unverified)


def _record(entry: Entry, registry: Registry) -> dict[str, Any]:
    return {
        **asdict(entry),
        "installed": registry.installed(entry.name),
        "outdated": registry.outdated(entry.name),
        "made_of": registry.made_of(entry.name),
    }
