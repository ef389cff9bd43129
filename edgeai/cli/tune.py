"""`edgeai tune`."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from edgeai.cli.options import parse_budget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeai.config import Settings
    from edgeai.llm.generate import LlamaGenerator
    from edgeai.registry import Registry
    from edgeai.registry.catalog import Entry
    from edgeai.tune import Tuned, Way


@click.command("tune", short_help="Measure this machine, and what a time budget buys on it.")
@click.option("--budget", metavar="MS", default="300", show_default=True, help="Time budget per answer in ms.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def tune_command(budget: str, as_json: bool) -> None:
    """Measure reading and generating with every installed generator: with different numbers of threads, and with the
    best of these also without flash attention. What the others of the catalog would do is estimated by their size.

    Takes about ten seconds a model. What is learnt about the default model is kept, so that the first answers are
    planned with it. "fits" is how many tokens of passages nobody asked about before there is time for: a sentence takes
    about 40, a passage 160; passages that were shown before take none.

    \b
    --json prints a list of {"model", "weights", "threads", "flash_attention", "rates", "tokens", "measured", "best"};
    rates are ms per character read, per token of a prompt and per forward.
    """
    from edgeai.cli import console
    from edgeai.config import load_settings
    from edgeai.registry import Registry

    settings, limit = load_settings(), parse_budget(budget)
    registry = Registry(offline=True)
    measured = list(_measure(settings, registry, limit))
    if not measured:
        console.notice("No generator is installed; run `edgeai models pull`.")
    found = measured + list(_estimate(registry, measured, limit))
    if as_json:
        console.print_json([_plain(one) | {"best": _is_best(one, found)} for one in found])
        return
    _show(found, limit)


def _measure(settings: Settings, registry: Registry, limit: float) -> Iterator[Tuned]:
    """Every installed generator, in several ways."""
    from edgeai import tune
    from edgeai.cores import physical_cores
    from edgeai.llm.generate import LlamaGenerator
    from edgeai.onnx.onnxfile import available_cpus

    read = _reading(settings, registry)
    for entry in registry.entries("generator"):
        if registry.installed(entry.name):
            open_ = partial(LlamaGenerator, registry.generator(entry.name), context=settings.context)
            run = partial(_tuned, entry, open_, read, limit)
            counts = tune.thread_counts(physical_cores(), available_cpus())
            tried = [run(tune.Way(threads, flash_attention=True)) for threads in counts]
            tried.append(run(tune.best(tried).way._replace(flash_attention=False)))
            yield from tried
            _keep(settings, entry.name, tried)


def _tuned(entry: Entry, open_: Callable[..., LlamaGenerator], read: float, limit: float, way: Way) -> Tuned:
    """One generator, computed in one way."""
    from edgeai import tune

    generator = open_(threads=way.threads, flash_attention=way.flash_attention)
    try:
        rates = tune.measured_rates(generator, read)
    finally:
        generator.close()
    weights = tune.count_weights(entry.parameters)
    return tune.Tuned(entry.name, weights, way, rates, tune.room(rates, limit))


def _keep(settings: Settings, model: str, tried: list[Tuned]) -> None:
    """Note what was learnt about the way in which answers are computed."""
    from edgeai import pace
    from edgeai.budget import Costs
    from edgeai.cores import physical_cores
    from edgeai.tune import Way

    own = Way(settings.threads or physical_cores(), settings.flash_attention)
    for one in tried:
        if model == settings.model and one.way == own:
            pace.save(pace.key(settings), Costs(one.rates))


def _estimate(registry: Registry, measured: list[Tuned], limit: float) -> Iterator[Tuned]:
    """The other generators of the catalog, by the largest that was measured."""
    from edgeai import tune

    known = [one for one in measured if one.weights]
    if not known:
        return
    size = max(one.weights for one in known)
    like = tune.best([one for one in known if one.weights == size])
    for entry in registry.entries("generator"):
        weights = tune.count_weights(entry.parameters)
        if weights and entry.name not in {one.model for one in measured}:
            yield tune.estimated(entry.name, weights, like, limit)


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


def _plain(one: Tuned) -> dict[str, Any]:
    values = asdict(one)
    del values["way"]
    return {**values, **one.way._asdict()}


def _is_best(one: Tuned, measured: list[Tuned]) -> bool:
    from edgeai.tune import best

    return one == best([other for other in measured if other.model == one.model])


def _show(found: list[Tuned], limit: float) -> None:
    from rich.table import Table

    from edgeai.cli import console
    from edgeai.tune import PAIRS, largest

    if not found:
        return
    table: Any = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("model", "threads", "flash attention", "prompt tok/s", "ms/forward", f"fits {limit:g} ms"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for one in found:
        style = "bold" if one.measured and _is_best(one, found) else ""
        way = (
            (str(one.way.threads), "on" if one.way.flash_attention else "off")
            if one.measured
            else ("not installed", "")
        )
        about = "" if one.measured else "about "
        speeds = (f"{about}{1000 / one.rates.prefill.mean:.0f}", f"{about}{one.rates.forward.mean:.1f}")
        table.add_row(one.model, *way, *speeds, f"{one.tokens} tokens" if one.tokens else "-", style=style)
    console.out().print(table)
    console.aside(
        f"Reading a passage of 600 characters takes {720 * found[0].rates.read.mean:.0f} ms; "
        f"{PAIRS} are read before the prompt is written."
    )
    chosen = largest(found)
    console.aside(
        f"{chosen.model} is the largest that has time for an answer in its own words within {limit:g} ms."
        if chosen
        else f"Within {limit:g} ms none has time for an answer in its own words; what the reader finds is quoted."
    )
