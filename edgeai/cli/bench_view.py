"""The object `edgeai bench --json` prints, as a terminal shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeai.bench.statistics import PERCENTILES, histogram
from edgeai.cli import console

BINS = 12
BAR_WIDTH = 40  # characters
EIGHTHS = "▏▎▍▌▋▊▉█"


def show(record: Mapping[str, Any]) -> None:
    """Machine, table, histogram, shares, comparisons and the verdict on the budget."""
    machine, index, report = record["machine"], record["index"], record["report"]
    console.say(f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['system']}, Python {machine['python']}")
    console.say(f"{record['model']} · {index['documents']} documents, {index['chunks']} chunks")
    _table("ms, warm", report["stages"])
    _histogram(record["times_ms"]["total"], report["budget_ms"])
    console.say(" · ".join(_facts(report, record["resources"])))
    if record["repeat"] > 1:
        console.say("Questions were repeated, so part of this was answered from warm caches.", "yellow")
    if cold := record["cold"]:
        _table("ms, cold", {name: cold[name] for name in ("wall", "answer")})
        console.say(f"{cold['processes']} fresh processes; the page cache was not dropped.")
    if plain := record["plain"]:
        _table("ms, plain stack", plain["stages"])
        found = {name: _ratio(one) for name, one in plain["speedup"].items()}
        console.say(
            f"edgeai is {found['pairs']} times as fast as the plain stack question by question, "
            f"{found['p50']} at p50, {found['p95']} at p95."
        )
    if baseline := record["baseline"]:
        _show_baseline(baseline)
    _show_verdict(report)


def bars(values: Sequence[float], *, ascii_only: bool = False) -> list[tuple[str, str, int]]:
    """A row for each bin of at least one value: its range, a bar of up to 40 characters, its count."""
    bins = histogram(values, BINS)
    most = max(one.count for one in bins)
    digits = 0 if all(one.low == round(one.low) for one in bins) else 1
    return [
        (f"{one.low:,.{digits}f}–{one.high:,.{digits}f}", _bar(one.count / most, ascii_only), one.count) for one in bins
    ]


def _bar(share: float, ascii_only: bool) -> str:
    if ascii_only:
        return "#" * round(share * BAR_WIDTH)
    eighths = round(share * BAR_WIDTH * 8)
    return EIGHTHS[-1] * (eighths // 8) + (EIGHTHS[eighths % 8 - 1] if eighths % 8 else "")


def _histogram(values: Sequence[float], budget: float | None) -> None:
    """The distribution; bins that lie wholly beyond the budget are red."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right")
    table.add_column()
    table.add_column(justify="right")
    rows = zip(bars(values, ascii_only=console.out().options.ascii_only), histogram(values, BINS), strict=True)
    for (span, bar, count), one in rows:
        late = budget is not None and one.low >= budget
        table.add_row(span, bar, str(count) if count else "", style="red" if late else "cyan")
    console.out().print(table)


def _table(title: str, stages: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(title)
    for column in (*PERCENTILES, "95 % interval of p95", "mean", "answers"):
        table.add_column(column, justify="right")
    for name, times in stages.items():
        low, high = times["intervals"]["p95"]
        cells = [*(f"{times[one]:.1f}" for one in PERCENTILES), f"{low:.1f}–{high:.1f}", f"{times['mean']:.1f}"]
        style = "bold" if name in {"total", "wall"} else ""
        table.add_row(name.replace("_", " "), *cells, str(times["count"]), style=style)
    console.out().print(table)


def _facts(report: Mapping[str, Any], resources: Mapping[str, Any]) -> list[str]:
    facts = [f"{report['answers']} answers"]
    facts += [f"{name} {report[name]:.0%}" for name in ("generated", "extractive", "refused")]
    facts += [f"{reason} {share:.0%}" for reason, share in report["degraded"].items()]
    facts += [f"{mean:.0f} {name} tokens" for name, mean in report["tokens"].items()]
    if peak := resources["peak_memory_bytes"]:
        facts.append(f"{peak / 1e6:.0f} MB at most")
    if joules := resources["joules_per_answer"]:
        facts.append(f"{joules:.1f} J an answer")
    return facts


def _show_baseline(baseline: Mapping[str, Any]) -> None:
    for name in ("p50", "p95"):
        one = baseline[name]
        style = {"faster": "green", "slower": "red"}.get(one["verdict"], "")
        console.say(f"{name} is {_ratio(one)} times the baseline's: {one['verdict']}", style)
    if baseline["different"]:
        console.say(f"Not the same in both runs: {', '.join(baseline['different'])}", "yellow")


def _ratio(one: Mapping[str, Any]) -> str:
    low, high = one["interval"]
    return f"{one['value']:.2f} [{low:.2f}, {high:.2f}]"


def _show_verdict(report: Mapping[str, Any]) -> None:
    if report["met"] is None:
        return
    verdict, style = ("met", "green") if report["met"] else ("missed", "bold red")
    within = f"{report['within_budget']:.0%} of answers within it"
    console.say(f"Budget of {report['budget_ms']:g} ms at p95: {verdict}, {within}", style)
