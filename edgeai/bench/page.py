"""The object `edgeai bench --json` prints as one HTML page without scripts or outside files.

It only shows what the object says, and measures and judges nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from edgeai.bench import charts
from edgeai.bench.compare import TOLERANCE
from edgeai.bench.statistics import PERCENTILES
from edgeai.markup import document, section

CONSECUTIVE = ("embed", "search", "read", "prefill", "generate")  # stages of which a total is made, in order

STYLE = """
h1 { font-size: 1rem; font-weight: 600; }
.headline { font-size: clamp(2.75rem, 9vw, 4.5rem); font-weight: 700; letter-spacing: -.03em; line-height: 1.1; }
.headline small { font-size: .35em; font-weight: 500; letter-spacing: 0; color: var(--soft); }
.verdict { display: inline-block; padding: .15rem .7rem; border-radius: 1rem; font-weight: 600;
  border: 1.5px solid currentColor; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: 1.5rem 0; }
.tile { padding: .7rem .9rem; background: var(--card); border: 1px solid var(--line); border-radius: .6rem; }
.tile b { display: block; font-size: 1.35rem; line-height: 1.3; } .tile span { color: var(--soft); font-size: .85rem; }
svg .lane { font-size: 14px; } svg .inside { fill: var(--card); stroke: none; font-weight: 600; }
.generated { fill: var(--main); } .late, .extractive { fill: var(--other); } .refused { fill: var(--quiet); }
.limit { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 6 4; }
svg .limit-label { fill: var(--bad); font-weight: 600; } .curve.second { stroke: var(--other); }
svg .name { font-weight: 600; } svg .name.first { fill: var(--main); } svg .name.second { fill: var(--other); }
tr.total td { font-weight: 600; } tr.total small { font-weight: 400; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.25rem; margin: .5rem 0 0; font-size: .9rem; }
dd { margin: 0; overflow-wrap: anywhere; }
"""


def render(record: Mapping[str, Any]) -> str:
    """A whole HTML document for one run."""
    budget, totals = record["report"]["budget_ms"], record["times_ms"]["total"]
    sections = [
        section("Where the time goes", _waterfall_note(record), charts.waterfall(stage_means(record), budget)),
        section("How long answers took", _distribution_note(record), _distribution(record)),
        section("Complete after", "", charts.cumulative(_curves(record), budget)),
        section("Every stage", "Milliseconds with 95 % intervals.", _stage_table(record["report"]["stages"])),
        *_plain(record.get("plain")),
        *_baseline(record.get("baseline")),
        *_cold(record.get("cold")),
        section("Measured on", "", _conditions(record)),
    ]
    return document(f"edgeai bench: {len(totals)} answers", STYLE, _head(record) + "".join(sections))


def stage_means(record: Mapping[str, Any]) -> dict[str, float]:
    """Milliseconds of every consecutive stage in the mean of all answers, with what is left of the total as "other"."""
    report = record["report"]
    ran = {name: report["stages"][name] for name in CONSECUTIVE if name in report["stages"]}
    means = {name: times["mean"] * times["count"] / report["answers"] for name, times in ran.items()}
    rest = report["stages"]["total"]["mean"] - sum(means.values())
    return {**means, "other": max(rest, 0.0)}


def _head(record: Mapping[str, Any]) -> str:
    report = record["report"]
    total = report["stages"]["total"]
    low, high = total["intervals"]["p95"]
    outcomes = {name: report[name] for name in ("generated", "extractive", "refused")}
    return (
        f'<header><h1>edgeai bench</h1><div class="headline">{total["p95"]:,.0f} <small>ms, 95th percentile of '
        f"{report['answers']} complete answers</small></div><p>{_verdict(report)} "
        f'<span class="soft">95 % interval {low:,.0f} to {high:,.0f} ms</span></p></header>'
        f'<div class="tiles">{_tiles(record)}</div>'
        + section("Outcomes", _outcomes(report, outcomes), charts.shares(outcomes))
    )


def _verdict(report: Mapping[str, Any]) -> str:
    if report["met"] is None:
        return '<span class="soft">no budget</span> ·'
    kind, style = ("met", "good") if report["met"] else ("missed", "bad")
    return f'<span class="verdict {style}">budget of {report["budget_ms"]:g} ms {kind}</span>'


def _tiles(record: Mapping[str, Any]) -> str:
    report, resources = record["report"], record["resources"]
    stages, tokens = report["stages"], report["tokens"]
    tiles = {
        "median": f"{stages['total']['p50']:,.0f} ms",
        "first token, p95": f"{stages['first_token']['p95']:,.0f} ms",
    }
    if report["within_budget"] is not None:
        tiles["within the budget"] = f"{report['within_budget']:.0%}"
    if tokens:
        tiles["tokens in / out"] = f"{tokens['prompt']:.0f} / {tokens['output']:.0f}"
    if resources["peak_memory_bytes"]:
        tiles["peak memory"] = f"{resources['peak_memory_bytes'] / 1e6:,.0f} MB"
    if resources["joules_per_answer"]:
        tiles["energy an answer"] = f"{resources['joules_per_answer']:.1f} J"
    tiles["documents / chunks"] = f"{record['index']['documents']:,} / {record['index']['chunks']:,}"
    return "".join(f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for name, value in tiles.items())


def _outcomes(report: Mapping[str, Any], outcomes: Mapping[str, float]) -> str:
    said = ", ".join(f"{name} {share:.0%}" for name, share in outcomes.items())
    reasons = ", ".join(f"{reason} {share:.0%}" for reason, share in report["degraded"].items())
    return f"{said}. Degraded: {reasons or 'none'}."


def _waterfall_note(record: Mapping[str, Any]) -> str:
    mean = record["report"]["stages"]["total"]["mean"]
    return (
        f"Stages of the mean answer, {mean:,.1f} ms; “other” is what lies between them, checks and the choice of words."
    )


def _distribution_note(record: Mapping[str, Any]) -> str:
    report = record["report"]
    asked = f"{report['questions']:,} different questions after a warm-up of {record['warmup']}, in one warm process."
    return asked if record["repeat"] == 1 else f"{asked} Repeated {record['repeat']} times: partly from warm caches."


def _distribution(record: Mapping[str, Any]) -> str:
    total = record["report"]["stages"]["total"]
    marks = {name: total[name] for name in ("p50", "p95")}
    return charts.distribution(record["times_ms"]["total"], marks, record["report"]["budget_ms"])


def _curves(record: Mapping[str, Any]) -> dict[str, Sequence[float]]:
    curves = {"edgeai": record["times_ms"]["total"]}
    if record.get("plain"):
        curves["plain stack"] = record["plain"]["times_ms"]["total"]
    return curves


def _stage_table(stages: Mapping[str, Any]) -> str:
    head = "".join(f"<th>{name}</th>" for name in (*PERCENTILES, "mean", "answers"))
    return f"<table><tr><th>stage</th>{head}</tr>{''.join(_rows(stages))}</table>"


def _rows(stages: Mapping[str, Any]) -> Iterable[str]:
    for name, times in stages.items():
        cells = "".join(_cell(times[one], times["intervals"][one]) for one in PERCENTILES)
        kind = ' class="total"' if name == "total" else ""
        label = escape(name.replace("_", " "))
        yield f"<tr{kind}><td>{label}</td>{cells}<td>{times['mean']:,.1f}</td><td>{times['count']}</td></tr>"


def _cell(value: float, interval: Sequence[float]) -> str:
    return f"<td>{value:,.1f}<small>{interval[0]:,.1f} to {interval[1]:,.1f}</small></td>"


def _plain(plain: Mapping[str, Any] | None) -> list[str]:
    if not plain:
        return []
    found = {name: _ratio(one) for name, one in plain["speedup"].items()}
    note = (
        f"llama-cpp-python's chat completion over the best {plain['setup']['passages']} chunks, same model file and "
        f"index, question by question in turns. edgeai is {found['pairs']} times as fast (geometric mean of the pairs; "
        f"{found['p50']} at the median, {found['p95']} at p95). Every pair counts, also where edgeai refused."
    )
    return [section("Beside the plain stack", note, _stage_table(plain["stages"]))]


def _ratio(one: Mapping[str, Any]) -> str:
    low, high = one["interval"]
    return f"{one['value']:.2f} [{low:.2f}, {high:.2f}]"


def _baseline(baseline: Mapping[str, Any] | None) -> list[str]:
    if not baseline:
        return []
    note = "; ".join(f"{name} {_ratio(baseline[name])}: {baseline[name]['verdict']}" for name in ("p50", "p95"))
    if baseline["different"]:
        note += f". Not the same in both runs: {', '.join(baseline['different'])}"
    rows = {name: (baseline[name]["value"], *baseline[name]["interval"]) for name in ("p50", "p95")}
    return [section("Beside the baseline", f"{note}.", charts.ratios(rows, TOLERANCE))]


def _cold(cold: Mapping[str, Any] | None) -> list[str]:
    if not cold:
        return []
    note = (
        f"{cold['processes']} fresh processes with one question each, from process start to end (wall) and inside them "
        "from question to answer. The page cache was not dropped."
    )
    return [section("Cold start", note, _stage_table({name: cold[name] for name in ("wall", "answer")}))]


def _conditions(record: Mapping[str, Any]) -> str:
    machine = record["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    settings = ", ".join(f"{name} {value}" for name, value in record["settings"].items() if value != "")
    rows = {
        "processor": f"{machine['cpu']}, {machine['cpus']} CPUs",
        "system": f"{machine['system']}, Python {machine['python']}",
        "models": f"{record['model']}, {record['embedder']}",
        "versions": versions,
        "settings": settings,
    }
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in rows.items()) + "</dl>"
