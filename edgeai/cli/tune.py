"""`edgeai tune`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from edgeai.cli.options import parse_budget

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeai.config import Settings
    from edgeai.registry import Registry
    from edgeai.tune import Tuned


@click.command("tune", short_help="Measure this machine, and what a time budget buys on it.")
@click.option("--budget", metavar="MS", default="300", show_default=True, help="Time budget per answer in ms.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def tune_command(budget: str, as_json: bool) -> None:
    """Measure reading and generating with every installed generator, and with different numbers of threads.

    Takes about ten seconds a model. What is learnt about the default model is kept, so that the first answers are
    planned with it. "fits" is how many tokens of passages nobody asked about before there is time for: a sentence takes
    about 40, a passage 160; passages that were shown before take none.

    \b
    --json prints a list of {"model", "threads", "rates", "tokens", "best"}; rates are ms per character read, per token
    of a prompt and per forward.
    """
    from edgeai.cli import console
    from edgeai.config import load_settings
    from edgeai.registry import Registry

    settings, limit = load_settings(), parse_budget(budget)
    registry = Registry(offline=True)
    measured = list(_measure(settings, registry, limit))
    if not measured:
        console.notice("No generator is installed; run `edgeai models pull`.")
    if as_json:
        console.print_json([asdict(one) | {"best": _is_best(one, measured)} for one in measured])
        return
    _show(measured, limit)


def _measure(settings: Settings, registry: Registry, limit: float) -> Iterator[Tuned]:
    from edgeai import pace, tune
    from edgeai.budget import Costs
    from edgeai.cores import physical_cores
    from edgeai.llm.generate import LlamaGenerator
    from edgeai.onnx.onnxfile import available_cpus

    read = _reading(settings, registry)
    for entry in registry.entries("generator"):
        if not registry.installed(entry.name):
            continue
        tried = []
        for threads in tune.thread_counts(physical_cores(), available_cpus()):
            generator = LlamaGenerator(registry.generator(entry.name), threads=threads, context=settings.context)
            tried.append(tune.tuned(generator, threads, read, limit))
            generator.close()
        yield from tried
        if entry.name == settings.model and not settings.threads:
            own = next(one for one in tried if one.threads == physical_cores())
            pace.save(pace.key(settings), Costs(own.rates))


def _reading(settings: Settings, registry: Registry) -> float:
    """Milliseconds per character, 0 without a reader."""
    from edgeai import tune
    from edgeai.errors import ModelMissing
    from edgeai.onnx.reader import OnnxReader

    if settings.reader == "none":
        return 0.0
    try:
        reader = OnnxReader(registry.reader(settings.reader), threads=settings.threads or None)
    except ModelMissing:
        return 0.0
    try:
        return tune.measure_reader(reader)
    finally:
        reader.close()


def _is_best(one: Tuned, measured: list[Tuned]) -> bool:
    from edgeai.tune import best

    return one == best([other for other in measured if other.model == one.model])


def _show(measured: list[Tuned], limit: float) -> None:
    from rich.table import Table

    from edgeai.cli import console
    from edgeai.tune import PAIRS

    if not measured:
        return
    table: Any = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("model", "threads", "prompt tok/s", "ms/forward", f"fits {limit:g} ms"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for one in measured:
        style = "bold" if _is_best(one, measured) else ""
        fits = f"{one.tokens} tokens" if one.tokens else "-"
        speeds = (f"{1000 / one.rates.prefill.mean:.0f}", f"{one.rates.forward.mean:.1f}")
        table.add_row(one.model, str(one.threads), *speeds, fits, style=style)
    console.out().print(table)
    console.aside(
        f"Reading a passage of 600 characters takes {720 * measured[0].rates.read.mean:.0f} ms; "
        f"{PAIRS} are read before the prompt is written."
    )
