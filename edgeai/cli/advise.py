"""`edgeai advise`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from edgeai.cli.index import json_option, writing
from edgeai.errors import UsageProblem

if TYPE_CHECKING:
    from edgeai.advise import Advice


@click.command("advise", short_help="What would help most, and what it costs, from an evaluation.")
@click.argument("run", default="last")
@click.option("--facts", type=click.File("r", encoding="utf-8-sig"), metavar="FILE", help="Facts about your workload.")
@click.option("--init", type=click.Path(path_type=Path), metavar="FILE", help="Write such a file, for you to fill in.")
@click.option("--runs", type=click.Path(path_type=Path), metavar="FILE", help="Where runs are kept [data directory].")
@json_option
def advise_command(run: str, facts: TextIO | None, init: Path | None, runs: Path | None, as_json: bool) -> None:
    """Name the gap that an evaluation shows and recommend prompt, retrieval, fine-tuning or a mix of them.

    RUN is the number of a run of 'edgeai eval', 'last' or its JSON file. The costs come from your own prices and the
    measured times and tokens, with the arithmetic. The rules behind it are in edgeai/advise.py.
    """
    from edgeai import advise
    from edgeai.cli import console
    from edgeai.cli.evaluate import runs_file
    from edgeai.evaluation import runs as kept

    if init is not None:
        if init.exists():
            raise UsageProblem(f"{init} exists already; name a new file with --init.")
        with writing(init) as stream:
            stream.write(advise.TEMPLATE)
        console.say(f"{init} written; put your own numbers in, then run `edgeai advise --facts {init}`.")
        return
    if facts is None:
        raise UsageProblem(
            "The advice depends on your workload; write its facts down with `edgeai advise --init FILE`."
        )
    given = advise.read_facts(facts.read())
    advice = advise.advise(kept.load_baseline(run, runs or runs_file()), given)
    if as_json:
        console.print_json(advice.as_dict())
    else:
        _show(advice)


def _show(advice: Advice) -> None:
    from rich.table import Table

    from edgeai.cli import console

    counts = ", ".join(f"{gap} {count}" for gap, count in advice.gaps.items())
    console.say(f"Largest gap: {advice.gap} (questions: {counts})" if advice.gap else "No gap: every answer was right.")
    console.say("Recommended: " + ", then ".join(advice.methods), "bold")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("dimension", "speaks for", "because"):
        table.add_column(column)
    for one in advice.dimensions:
        table.add_row(one.name, one.method, one.reason)
    console.out().print(table)
    for line in advice.costs.arithmetic:
        console.say(line)
