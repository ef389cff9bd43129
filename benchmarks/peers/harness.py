"""What the peers' scripts share: an environment of their own, the loop that asks, and the JSON line at the end.

Started by any Python, a script makes a virtual environment beside itself, installs the peer there and runs itself again
inside it. Only the peer is installed; the percentiles are those of `edgeai.bench.statistics`, which needs no more
than NumPy, and that comes with every peer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from edgeai.bench.questions import read_questions  # noqa: E402
from edgeai.bench.statistics import spread  # noqa: E402

SUFFIXES = {".md", ".txt"}
SYSTEM = "Answer the question in one short sentence, only from the given context."


def arguments(description: str | None) -> argparse.Namespace:
    """--docs, --questions, --model, --max-tokens and --warmup."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, required=True, help="folder of Markdown and text files")
    parser.add_argument("--questions", type=Path, required=True, help="as for `edgeai bench --questions`")
    parser.add_argument("--model", type=Path, required=True, help="the GGUF file that edgeai uses")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--warmup", type=int, default=5, help="unmeasured questions before the others")
    return parser.parse_args()


def enter_environment(script: str, requirements: Sequence[str]) -> None:
    """Return inside the peer's own environment; outside it, make one, run the script there and exit as it did."""
    home = HERE / ".environments" / Path(script).stem
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if Path(sys.prefix).resolve() == home.resolve():
        return
    ready = home / "installed.txt"
    wanted = "\n".join(requirements)
    if not ready.is_file() or ready.read_text("utf-8") != wanted:
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True, stdout=sys.stderr)
        ready.write_text(wanted, "utf-8")
    raise SystemExit(subprocess.run([python, *sys.argv], check=False).returncode)


def texts(folder: Path) -> list[str]:
    """The paragraphs of all Markdown and text files below a folder, in the order of paths."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)
    paragraphs = (part.strip() for path in files for part in path.read_text("utf-8", "replace").split("\n\n"))
    return [paragraph for paragraph in paragraphs if paragraph]


def measure(peer: str, given: argparse.Namespace, ask: Callable[[str], str], **facts: object) -> None:
    """Ask all questions once, one after another, and print one JSON line with the times in ms."""
    with given.questions.open(encoding="utf-8-sig") as lines:
        questions = read_questions(lines)
    if len(questions) <= given.warmup:
        raise SystemExit(f"{len(questions)} questions are too few for a warm-up of {given.warmup}.")
    for question in questions[: given.warmup]:
        ask(question)
    times, characters = [], 0
    for question in questions[given.warmup :]:
        began = time.perf_counter()
        answer = ask(question)
        times.append((time.perf_counter() - began) * 1000)
        characters += len(answer)
    record = {
        "peer": peer,
        "version": metadata.version(peer),
        "model": given.model.name,
        "max_tokens": given.max_tokens,
        "cpus": os.cpu_count(),
        **facts,
        "characters_per_answer": round(characters / len(times), 1),
        "total_ms": spread(times).as_dict(),
    }
    print(json.dumps(record))
