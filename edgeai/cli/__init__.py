"""The `edgeai` command: parses, calls one function, prints.

Importing this package imports click and nothing else that is heavy; each command loads what it needs when it runs.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click

from edgeai import __version__
from edgeai.errors import EdgeAIError

COMMANDS = {
    "ask": "ask",
    "bench": "bench",
    "chat": "chat",
    "check": "index",
    "doctor": "doctor",
    "export": "index",
    "import": "index",
    "models": "models",
    "rm": "index",
    "search": "search",
    "status": "index",
    "sync": "index",
}


class Failure(click.ClickException):
    """An error of the library as the command line reports it."""

    def __init__(self, error: EdgeAIError) -> None:
        super().__init__(str(error))
        self.exit_code = error.exit_code  # type: ignore[misc]  # click declares it per class; ours varies


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is listed or run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"edgeai.cli.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Turn every error a user can cause into one sentence and its exit code."""
        try:
            return super().invoke(ctx)
        except EdgeAIError as error:
            raise Failure(error) from error
        except BrokenPipeError:
            # The reader of our output went away (`edgeai search x | head`): nobody is left to be told.
            sys.stderr.close()
            raise SystemExit(0) from None


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="edgeai")
def main() -> None:
    """Ask your own files. Answers are short, cited, and made on this machine.

    \b
    edgeai ask "How long is parental leave?" --docs handbook/
    edgeai chat handbook/

    Exit codes: 0 ok, 1 error, 2 usage, 3 a gate failed, 4 no grounded answer.
    """
