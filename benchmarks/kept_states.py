"""What does a passage cost that an earlier process computed, beside one that nobody has computed yet?

Each question is asked in a process of its own, on a copy of the index: first in one that computes its passages and
leaves their states in the file beside the index, then, in turns, in one that finds them there and one that does
without. Time for loading is not counted. With the default budget passages may be shortened, so that two prompts
differ; `--budget 0` shows the same passages in all. `same` is how many of the answers are alike. The very last line
is one JSON document.

    python benchmarks/kept_states.py --index FILE [--questions FILE] [--count 10] [--budget 0]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from edgeai import Assistant
from edgeai.bench.machine import describe
from edgeai.bench.questions import make_questions, read_questions
from edgeai.bench.statistics import spread
from edgeai.config import Settings
from edgeai.store import Store, kept_states

LIMIT_MB = Settings().kept_states_mb


def main() -> None:
    """Ask, and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--questions", type=Path)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--budget", type=float, default=Settings().budget_ms)
    parser.add_argument("--one", nargs=2, metavar=("QUESTION", "MB"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        question, limit = options.one
        print(json.dumps(answer(options.index, question, options.budget, int(limit))))
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "index.db"
        copy.write_bytes(options.index.read_bytes())
        print(json.dumps(measured(copy, options)))


def measured(index: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of questions that a model answers."""
    found: dict[str, list[dict[str, Any]]] = {"with": [], "without": []}
    for question in chosen(index, options.questions):
        if not asked(index, question, options.budget, LIMIT_MB)["prefill"]:
            continue  # the model was not asked
        rows = {"with": asked(index, question, options.budget, LIMIT_MB)}
        rows["without"] = asked(index, question, options.budget, 0)
        print(json.dumps({"question": question, **rows}), file=sys.stderr)
        for name, row in rows.items():
            found[name].append(row)
        if len(found["with"]) == options.count:
            break
    figures = {
        f"{name} {what}": spread([row[what] for row in rows]).as_dict()
        for name, rows in found.items()
        for what in ("prefill", "total")
    }
    same = sum(one["text"] == other["text"] for one, other in zip(found["with"], found["without"], strict=True))
    return {**figures, "same": same, "bytes": kept_states.size(index), "machine": describe()}


def chosen(index: Path, file: Path | None) -> list[str]:
    """The questions of a file, or as many as the index gives."""
    if file is not None:
        return read_questions(file.read_text(encoding="utf-8").splitlines())
    with Store.open(index, maker=None) as store:
        return make_questions(store, 200)


def asked(index: Path, question: str, budget: float, limit: int) -> dict[str, Any]:
    """An answer of a process of its own."""
    command = [sys.executable, __file__, "--index", str(index), "--budget", str(budget), "--one", question, str(limit)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, encoding="utf-8", check=True)
    row: dict[str, Any] = json.loads(done.stdout)
    return row


def answer(index: Path, question: str, budget: float, limit: int) -> dict[str, Any]:
    """An answer of this process, with everything loaded before the question."""
    with Assistant(index, settings=Settings(offline=True, budget_ms=budget, kept_states_mb=limit)) as assistant:
        assistant.warm(wait=True)
        given = assistant.ask(question).answer
    times = given.timings
    return {"prefill": times.prefill, "total": times.total, "text": given.text, **given.tokens}


if __name__ == "__main__":
    main()
