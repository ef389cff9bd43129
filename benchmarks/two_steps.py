"""Questions that take two documents: how often are two steps taken, and are their answers right?

The questions were written for this over the invented documents of tools/data, one file a passage: 256 that describe a
thing by a fact of one document and ask for a fact of another (bridge), 88 that ask for two facts (both), and 97 that
look like the first and have no answer (miss). The rules and one threshold were set on them, so these are development
figures. The reader was trained on the documents, but on no question like these. An answer counts as right when it
contains an accepted one, of `both` all. The last line is one JSON document.

    python benchmarks/two_steps.py [--budget none|300] [--model none|NAME] [--one-step] [--records FILE]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeai import steps
from edgeai.assistant import Assistant
from edgeai.cli.options import parse_budget
from edgeai.config import Settings
from edgeai.scores import contains

DATA = Path(__file__).parents[1] / "tools" / "data"
KINDS = ("bridge", "both", "miss")


def main() -> None:
    """Write the documents, ask, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", default="none", help="milliseconds or 'none'")
    parser.add_argument("--model", default="none", help="generator, by name or path, or 'none'")
    parser.add_argument("--one-step", action="store_true", help="ask each question only as it stands")
    parser.add_argument("--records", type=Path, help="write every question with its answer here, as JSON lines")
    options = parser.parse_args()
    if options.one_step:
        steps.both = steps.bridged = lambda *_: None  # type: ignore[assignment]
    records = list(ask(options))
    if options.records:
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        options.records.write_text("".join(lines), encoding="utf-8")
    figures = {kind: summary([record for record in records if record["kind"] == kind]) for kind in KINDS}
    for kind, figure in figures.items():
        print(f"{kind:8}", "  ".join(f"{name} {value:.3f}" for name, value in figure.items()))
    print(json.dumps({"benchmark": "two_steps", "one_step": options.one_step, "kinds": figures}))


def ask(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every question with what became of it."""
    questions = [json.loads(line) for line in (DATA / "two_steps.jsonl").read_text(encoding="utf-8").splitlines()]
    settings = Settings(model=options.model, offline=True, budget_ms=parse_budget(options.budget) or 0.0)
    with tempfile.TemporaryDirectory() as folder, Assistant(Path(folder) / "index.db", settings=settings) as assistant:
        assistant.sync(write_documents(Path(folder) / "documents"))
        assistant.warm(wait=True)
        for question in questions:
            answer = assistant.ask(question["question"]).answer
            cited = {citation.path for citation in answer.citations}
            yield {
                **question,
                "answer": answer.text,
                "confidence": answer.confidence,
                "answered": answer.status != "refused",
                "joined": len(cited) > 1 and answer.status == "answered",
                "right": right(question, answer.text, answer.status),
                "ms": answer.timings.total,
            }


def right(question: dict[str, Any], text: str, status: str) -> bool:
    """Whether that is the answer, or, where there is none, a refusal."""
    if question["kind"] == "miss":
        return status == "refused"
    if question["kind"] == "both":
        return all(contains(text, [one]) for one in question["answers"])
    return contains(text, question["answers"])


def summary(records: list[dict[str, Any]]) -> dict[str, float]:
    """Shares of the records, how many were joined of two answers, and the median time."""
    joined = [record for record in records if record["joined"]]
    return {
        "questions": len(records),
        "right": sum(record["right"] for record in records) / len(records),
        "answered": sum(record["answered"] for record in records) / len(records),
        "joined": len(joined),
        "joined and right": sum(record["right"] for record in joined),
        "p50 ms": sorted(record["ms"] for record in records)[len(records) // 2],
    }


def write_documents(folder: Path) -> Path:
    """One Markdown file a passage of the domains that the questions are about, in a folder a domain."""
    for file in DATA.glob("*.passages.jsonl"):
        for line in file.read_text(encoding="utf-8").splitlines():
            passage = json.loads(line)
            domain, _, name = passage["id"].partition("-")
            path = folder / domain / f"{name}.md"
            path.parent.mkdir(parents=True, exist_ok=True)
            dated = f"Date: {passage['date']}\n\n" if passage["date"] else ""
            path.write_text(f"# {passage['title']}\n\n{dated}{passage['text']}\n", encoding="utf-8")
    return folder


if __name__ == "__main__":
    main()
