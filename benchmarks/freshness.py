"""Is what was edited a moment ago answered from the new text, and never from the old one? And how soon?

A temporary folder of small files, one fact each, is indexed by one assistant that stays open, as in a chat. Then, edit
after edit, a value in a file changes, a file is added, removed or renamed; the folder is synced and the question about
that file asked at once. New values are as long as old ones and follow each other as fast as they can be written, so
that only the modification time tells a changed file from an unchanged one. Every value occurs once in a run: one that
is shown after it was replaced, or a citation of a path that is gone, is stale.

Fresh means the new value was shown, cited from where it now is; after a removal, that nothing of the file was. The
files have nothing in common, because whether an answer is found at all is the business of other benchmarks. Times run
from the save to the complete answer; loading the models is not in them. The last line is one JSON document.

    python benchmarks/freshness.py [--edits 100] [--files 20] [--model none] [--budget 300]
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import edgeai
from edgeai.bench import statistics
from edgeai.bootstrap import resample
from edgeai.config import DEFAULT_GENERATOR, DEFAULT_READER
from edgeai.evaluation import metrics
from edgeai.records import Answer

# A file each: what it says, and the question about it.
FACTS = {
    "boiler": (
        "Leaks of the boiler are reported by telephone on {value}.",
        "On which number are leaks of the boiler reported?",
    ),
    "library": (
        "The reading room holds {value} books on birds.",
        "How many books on birds does the reading room hold?",
    ),
    "ferry": (
        "In summer the ferry carried {value} bicycles.",
        "How many bicycles did the ferry carry in summer?",
    ),
    "orchard": (
        "The orchard gave {value} kilos of pears.",
        "How many kilos of pears did the orchard give?",
    ),
    "alarm": (
        "The burglar alarm is switched off with the code {value}.",
        "With which code is the burglar alarm switched off?",
    ),
    "choir": (
        "The choir has sold {value} tickets for the concert.",
        "How many tickets has the choir sold for the concert?",
    ),
    "tunnel": (
        "The tunnel under the pass is {value} metres long.",
        "How many metres long is the tunnel under the pass?",
    ),
    "printer": (
        "The printer has a tray of {value} sheets.",
        "How many sheets does the tray of the printer take?",
    ),
    "well": (
        "The well in the yard is tested by laboratory {value}.",
        "Which laboratory tests the well in the yard?",
    ),
    "bakery": (
        "The bakery makes {value} rolls before noon.",
        "How many rolls does the bakery make before noon?",
    ),
    "museum": (
        "The oldest coin of the museum has the inventory number {value}.",
        "Which inventory number has the oldest coin of the museum?",
    ),
    "server": (
        "The mail server listens on port {value}.",
        "On which port does the mail server listen?",
    ),
    "pension": (
        "The pension fund pays {value} francs a month.",
        "How many francs does the pension fund pay a month?",
    ),
    "tower": (
        "The clock tower has {value} steps.",
        "How many steps does the clock tower have?",
    ),
    "cellar": (
        "The cellar stores {value} bottles of cider.",
        "How many bottles of cider does the cellar store?",
    ),
    "marathon": (
        "The marathon was finished by {value} runners.",
        "How many runners finished the marathon?",
    ),
    "solar": (
        "The solar panels on the roof deliver {value} watts.",
        "How many watts do the solar panels on the roof deliver?",
    ),
    "stamp": (
        "The blue stamp was printed {value} times.",
        "How many times was the blue stamp printed?",
    ),
    "glacier": (
        "The glacier lost {value} cubic metres of ice.",
        "How many cubic metres of ice did the glacier lose?",
    ),
    "passport": (
        "Passport photographs are taken in booth {value}.",
        "In which booth are passport photographs taken?",
    ),
    "beehive": (
        "The beehives are registered under {value} with the county vet.",
        "Under what are the beehives registered with the county vet?",
    ),
    "cinema": (
        "The cinema seats {value} people.",
        "How many people does the cinema seat?",
    ),
    "tram": (
        "The tram depot repairs {value} wheels a year.",
        "How many wheels does the tram depot repair a year?",
    ),
    "violin": (
        "The violin was insured for {value} euros.",
        "For how many euros was the violin insured?",
    ),
}
KINDS = ("change", "add", "remove", "rename")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one edit came to."""

    kind: str
    fresh: bool
    stale: bool
    sync_ms: float
    total_ms: float  # from the save to the complete answer


class Shed:
    """The folder, and which value each of its files holds now."""

    def __init__(self, folder: Path, files: int, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.values = iter(self.random.sample(range(1000, 10_000), 9000))  # each is used once
        self.paths: dict[str, Path] = {}
        self.held: dict[str, int] = {}
        for name in list(FACTS)[:files]:
            self.write(name)

    def write(self, name: str) -> None:
        """Give a file a new value, and make it where there is none."""
        self.paths.setdefault(name, self.folder / f"{name}.md")
        self.held[name] = next(self.values)
        self.paths[name].write_text(FACTS[name][0].format(value=self.held[name]), encoding="utf-8")

    def edit(self, kind: str) -> tuple[str, Callable[[Answer], tuple[bool, bool]]]:
        """Do an edit; returns the name to ask about, and how to tell of an answer whether it is fresh and stale."""
        unused = [name for name in FACTS if name not in self.held]
        name = self.random.choice(unused if kind == "add" and unused else list(self.held))
        value, path = str(self.held.get(name, "")), self.paths.get(name)
        if kind == "remove":
            self.paths.pop(name).unlink()
            del self.held[name]
        elif kind == "rename":
            self.paths[name] = self.paths[name].rename(self.folder / f"{name}-{value}.md")
        else:
            self.write(name)
        wanted, now = str(self.held.get(name, "")), self.paths.get(name)

        def judged(answer: Answer) -> tuple[bool, bool]:
            cited = {Path(citation.path) for citation in answer.citations}
            gone = path is not None and path != now and path.resolve() in cited
            stale = gone or (value not in ("", wanted) and value in answer.text)
            shown = wanted in answer.text and now is not None and now.resolve() in cited
            return not stale and (shown or kind == "remove"), stale

        return name, judged


def main() -> None:
    """Do the edits, print a table and, as the last line, JSON."""
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch).resolve() / "shed"
        folder.mkdir()
        shed = Shed(folder, options.files, options.seed)
        with edgeai.Assistant(
            Path(scratch) / "index.db", model=options.model, reader=options.reader, budget_ms=options.budget
        ) as assistant:
            assistant.sync(folder)
            assistant.warm()
            assistant.ask(FACTS[next(iter(FACTS))][1]).answer  # noqa: B018 - opens what is opened at first use
            outcomes = [one_edit(KINDS[number % len(KINDS)], shed, assistant) for number in range(options.edits)]
    summary = summarise(outcomes)
    for line in table(summary):
        print(line)
    settings = {name: getattr(options, name) for name in ("edits", "files", "model", "reader", "budget")}
    print(json.dumps({"benchmark": "freshness", **settings, "kinds": summary}))


def one_edit(kind: str, shed: Shed, assistant: edgeai.Assistant) -> Outcome:
    """Edit, sync, ask at once."""
    name, judged = shed.edit(kind)
    saved = time.perf_counter()
    assistant.sync(shed.folder)
    synced = time.perf_counter()
    answer = assistant.ask(FACTS[name][1]).answer
    answered = time.perf_counter()
    fresh, stale = judged(answer)
    return Outcome(kind, fresh, stale, (synced - saved) * 1000, (answered - saved) * 1000)


def summarise(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    """Shares with intervals and times, for "all" edits and for each kind."""
    kinds = dict.fromkeys(outcome.kind for outcome in outcomes)
    groups = {"all": list(outcomes)} | {kind: [one for one in outcomes if one.kind == kind] for kind in kinds}
    return {
        kind: {
            "fresh": _share([one.fresh for one in group]),
            "stale": _share([one.stale for one in group]),
            "sync_ms": statistics.spread([one.sync_ms for one in group]).as_dict(),
            "save_to_answer_ms": statistics.spread([one.total_ms for one in group]).as_dict(),
        }
        for kind, group in groups.items()
    }


def _share(values: Sequence[bool]) -> dict[str, Any]:
    found = metrics.estimate_mean(np.array(values, dtype=np.float64), resample(len(values)))
    return {"value": round(found.value, 4), "interval": [round(found.low, 4), round(found.high, 4)], "n": found.count}


def table(summary: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Lines for a person."""
    yield f"{'edit':<8}{'n':>5}{'fresh':>8}{'stale':>8}{'sync p50':>10}{'save to answer p50':>20}{'p95, ms':>10}"
    for kind, figures in summary.items():
        shares = f"{figures['fresh']['n']:>5}{figures['fresh']['value']:>8.3f}{figures['stale']['value']:>8.3f}"
        times = figures["save_to_answer_ms"]
        yield f"{kind:<8}{shares}{figures['sync_ms']['p50']:>10.0f}{times['p50']:>20.0f}{times['p95']:>10.0f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--edits", type=int, default=100)
    parser.add_argument("--files", type=int, default=20, help=f"in the folder at first, at most {len(FACTS)}")
    parser.add_argument("--model", default=DEFAULT_GENERATOR, help="generator, by name or path, or none")
    parser.add_argument("--reader", default=DEFAULT_READER, help="reader, by name or path, or none")
    parser.add_argument("--budget", type=float, default=300.0, help="milliseconds for an answer, 0 = none")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
