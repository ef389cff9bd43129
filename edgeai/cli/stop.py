"""`edgeai stop`."""

from __future__ import annotations

import click

from edgeai.errors import EdgeAIError


@click.command("stop", short_help="End the process that keeps models loaded between questions.")
def stop_command() -> None:
    """End the process that `edgeai ask` leaves behind, and free its memory."""
    from edgeai.kept import keepalive

    stopped = keepalive.stop()
    if stopped is None:
        click.echo("No process keeps models loaded.")
    elif stopped:
        click.echo(f"Process {stopped['pid']} ends.")
    else:
        raise EdgeAIError("The process is busy with a question; try again when that is answered.")
