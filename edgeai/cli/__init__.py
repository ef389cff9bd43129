"""The `edgeai` command: parses, calls one function, prints.

Importing this package imports click and nothing else that is heavy; each command loads what it needs when it runs.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import click

from edgeai import __version__
from edgeai.errors import DiskFull, EdgeAIError, UsageProblem

INTERRUPTED = 130  # as shells report a process that SIGINT ended

COMMANDS = {
    "advise": "advise",
    "ask": "ask",
    "bench": "bench",
    "chat": "chat",
    "check": "index",
    "doctor": "doctor",
    "eval": "evaluate",
    "export": "index",
    "import": "index",
    "models": "models",
    "rm": "index",
    "search": "search",
    "status": "index",
    "stop": "stop",
    "sync": "index",
    "tune": "tune",
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
        _mend_streams()
        try:
            return super().invoke(ctx)
        except EdgeAIError as error:
            raise Failure(error) from error
        except KeyboardInterrupt:
            click.echo("Stopped; what was written is kept, and the same command goes on from there.", err=True)
            raise SystemExit(INTERRUPTED) from None
        except BrokenPipeError:
            # The reader of our output went away (`edgeai search x | head`): nobody is left to be told.
            sys.stderr.close()
            raise SystemExit(0) from None
        except UnicodeDecodeError as error:
            raise Failure(UsageProblem("The input is not UTF-8 text; save it as UTF-8 and try again.")) from error
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            # What is still buffered has to go somewhere when Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise Failure(DiskFull("The output could not be written, the disk is full; free some space.")) from error


def _mend_streams() -> None:
    """Replace closed standard streams by silent ones, and put "?" where the encoding of a stream does not fit."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 open until the end
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="edgeai")
def main() -> None:
    """Ask your own files. Answers are short, cited, and made on this machine.

    \b
    edgeai ask "How long is parental leave?" --docs handbook/
    edgeai chat handbook/

    Exit codes: 0 ok, 1 error, 2 usage, 3 a gate failed, 4 no grounded answer, 130 interrupted.
    """
