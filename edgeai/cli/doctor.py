"""`edgeai doctor`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgeai.doctor import Check

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command("doctor", short_help="Check this machine and the models on it.")
@json_option
def doctor_command(as_json: bool) -> None:
    """Check Python, SQLite, llama.cpp, CPU, GPU, data directory and models, each with the command that mends it.

    Exits 1 when something edgeai cannot do without is broken; what only makes it slower or plainer is a warning.
    """
    from edgeai.cli import console
    from edgeai.config import load_settings
    from edgeai.doctor import diagnose, healthy

    checks = diagnose(load_settings())
    if as_json:
        console.print_json({"ok": healthy(checks), "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            _show(check)
    if not healthy(checks):
        raise SystemExit(1)


def _show(check: Check) -> None:
    """A line of columns; the command under it is not broken into lines, so that it can be copied."""
    from rich.table import Table
    from rich.text import Text

    from edgeai.cli import console

    word, style = ("ok", "green") if check.ok else ("FAILED", "bold red") if check.required else ("warning", "yellow")
    detail = console.clean(check.detail)
    if console.out().is_terminal:
        line = Table.grid(padding=(0, 2))
        for width in (7, 14, None):
            line.add_column(width=width)
        line.add_row(Text(word, style), Text(check.name, "bold"), detail)
        console.out().print(line, markup=False)
    else:
        console.say(f"{word:<7}  {check.name:<14}  {detail}")
    if check.fix and check.fix not in check.detail:
        console.out().print(Text(f"{'':<25}{console.clean(check.fix)}", "cyan"), soft_wrap=True)
