"""How long does `edgeai ask` take, from process start to exit, when an earlier one left the models loaded?

The first question pays for starting Python, importing engines and reading about 200 MB of models; the second for
starting Python, importing what reads arguments and prints (about 100 ms of one core), one round trip over a Unix socket
(well below 1 ms) and the answer itself. The floor is an interpreter that does nothing, plus the answer as the process
that gave it timed it; what lies between is the command line's own, and `overhead` is that.

Questions are made from the index, or read from --questions; none is asked twice, every fifth is asked in a process of
its own, and passages computed before this run are forgotten. Where the kept process is busy or gone, a question takes
as long as the first: `kept` says whether the same process was there at the end. The last line is one JSON document.

    python benchmarks/second_ask.py --index FILE [--questions FILE] [--count 100]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from edgeai.bench.machine import describe
from edgeai.bench.questions import make_questions, read_questions
from edgeai.bench.statistics import spread
from edgeai.kept import keepalive
from edgeai.store import Store, kept_states

ANSWERED = {0, 4}  # exit codes: an answer, and none in the documents
COLD_EVERY = 4  # questions to the kept process
LOADING_S = 60
PREPARING_S = 3.0  # the kept process computes passages for the next question; a cold one is to have no such neighbour


def main() -> None:
    """Ask, and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--questions", type=Path)
    parser.add_argument("--count", type=int, default=100)
    options = parser.parse_args()
    wanted = 1 + options.count + -(-options.count // COLD_EVERY)
    first, *questions = chosen(options.index, options.questions, wanted)
    questions, others = questions[: options.count], iter(questions[options.count :])
    keepalive.stop()
    kept_states.discard(options.index)
    ask(first, options.index, keep=5)
    process = wait_for_process()
    kept, overhead, cold, bare = [], [], [], []
    for number, question in enumerate(questions):
        wall, answer = ask(question, options.index, keep=5)
        kept.append(wall)
        overhead.append(wall - answer)
        bare.append(run([sys.executable, "-c", "pass"], 0)[0])
        if number % COLD_EVERY == 0:
            time.sleep(PREPARING_S)
            cold.append(ask(next(others), options.index, keep=0)[0])
    figures = {"kept_ms": kept, "overhead_ms": overhead, "interpreter_ms": bare, "cold_ms": cold}
    same = (keepalive.status() or {}).get("pid") == process["pid"]
    memory = (keepalive.stop() or {}).get("memory")
    summary = {name: spread(values).as_dict() for name, values in figures.items()}
    print(json.dumps({**summary, "kept": same, "memory": memory, "machine": describe()}))


def chosen(index: Path, file: Path | None, count: int) -> list[str]:
    """The first `count` questions of a file, or as many made from the index."""
    if file is not None:
        return read_questions(file.read_text(encoding="utf-8").splitlines())[:count]
    with Store.open(index, maker=None) as store:
        return make_questions(store, count)


def ask(question: str, index: Path, keep: int) -> tuple[float, float]:
    """Milliseconds from process start to exit, and of the answer as timed by the process that gave it."""
    arguments = ["--json", "--offline", "--keep-alive", str(keep), "--index", str(index), "--", question]
    wall, printed = run([sys.executable, "-m", "edgeai", "ask", *arguments], *ANSWERED)
    record: dict[str, Any] = json.loads(printed)
    return wall, record["timings_ms"]["total"]


def run(command: list[str], *expected: int) -> tuple[float, str]:
    """Milliseconds a command takes, and what it printed."""
    environment = {**os.environ, "PYTHONUTF8": "1"}
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8")
    wall = (time.perf_counter() - began) * 1000
    if done.returncode not in expected:
        sys.exit(done.stderr)
    return wall, done.stdout


def wait_for_process() -> dict[str, Any]:
    """The process that the first question left, once it has loaded the models."""
    deadline = time.monotonic() + LOADING_S
    while time.monotonic() < deadline:
        if found := keepalive.status():
            return found
        time.sleep(0.1)
    sys.exit("No process was left.")


if __name__ == "__main__":
    main()
