"""The handbook of the benchmarks, and the command line as a user runs it on it; conftest.py makes its index."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from edgeai.cli import main

HANDBOOK = Path(__file__).resolve().parent.parent / "benchmarks" / "handbook"


def run(*arguments: object, stdin: str | None = None, **environ: str) -> Result:
    """A command in this process; fails where a user would see a traceback."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin, env=environ)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result
