"""Cold starts: one fresh process for each question, timed from outside.

Files that were read lately are still in the system's page cache, because only an administrator can empty it: the first
question after the computer has started takes longer than what is measured here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeai.bench.statistics import spread
from edgeai.config import Settings
from edgeai.errors import EdgeAIError
from edgeai.records import Progress, ProgressCallback

ANSWERED = {0, 4}  # exit codes of `edgeai ask`: an answer, and none in the documents


@dataclass(frozen=True, slots=True)
class ColdAnswer:
    """Milliseconds of one process: from its start to its end, and of these from the question to the answer."""

    wall: float
    answer: float


def run(
    questions: Sequence[str], index: Path, settings: Settings, progress: ProgressCallback = lambda _: None
) -> list[ColdAnswer]:
    """Answer each question with `edgeai ask` in a process of its own; raises `EdgeAIError` when one fails."""
    answers = []
    for number, question in enumerate(questions, 1):
        answers.append(ask_fresh(question, index, settings))
        progress(Progress(number, len(questions), "processes"))
    return answers


def ask_fresh(question: str, index: Path, settings: Settings) -> ColdAnswer:
    """Answer one question in a new process; raises `EdgeAIError` when it fails."""
    command = [sys.executable, "-m", "edgeai", "ask", "--json", "--index", str(index), "--adapter", settings.adapter]
    began = time.perf_counter()
    done = subprocess.run(
        [*command, "--", question],
        env=_environment(settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    wall = (time.perf_counter() - began) * 1000
    if done.returncode not in ANSWERED:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise EdgeAIError(f"A fresh `edgeai ask` failed with exit code {done.returncode} ({said}); leave out --cold.")
    return ColdAnswer(wall, json.loads(done.stdout)["timings_ms"]["total"])


def summarise(answers: Sequence[ColdAnswer]) -> dict[str, Any]:
    """The object `edgeai bench --json` prints under "cold", of at least one answer."""
    return {
        "processes": len(answers),
        "page_cache": "not dropped",
        "wall": spread([answer.wall for answer in answers]).as_dict(),
        "answer": spread([answer.answer for answer in answers]).as_dict(),
    }


def _environment(settings: Settings) -> dict[str, str]:
    """Every setting as its variable, which beats settings files and profiles; nothing may be pulled or kept loaded."""
    values = {**asdict(settings), "offline": True, "keep_alive": 0}
    return {
        **os.environ,
        **{f"EDGEAI_{name.upper()}": str(value) for name, value in values.items()},
        "PYTHONUTF8": "1",
    }
