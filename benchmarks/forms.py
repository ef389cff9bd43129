"""Is a JSON answer always valid, is it right, and what does it take; is the right one of four choices chosen?

Every question of a file in the format of `edgeai eval` is asked twice of an index that exists: for a JSON object with
the answer in it, and, where the answer is known, for a choice among it and the answers to three other questions (one in
four is chance). Right is an answer that contains a wanted one or has a token F1 of 0.6 with it. Validity is judged
before anything is taken out that the passages do not hold, numbers after that: those that stand in no passage shown,
neither in digits nor as a word up to twelve. The last line is one JSON document.

    python benchmarks/forms.py --index FILE --questions FILE.jsonl [--model NAME] [--limit 100]
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import edgeai
from edgeai.config import load_settings
from edgeai.scores import contains, token_f1
from edgeai.structured.schema import mismatches

SCHEMA = {
    "type": "object",
    "properties": {
        "answer": {"type": "string", "description": "in a few words"},
        "number": {"type": ["number", "null"]},
        "certain": {"type": "boolean"},
    },
    "required": ["answer", "number", "certain"],
}
OTHERS = 3  # wrong choices
CLOSE = 0.6
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]

Row = dict[str, Any]


def main() -> None:
    """Ask everything, print what was said, then the figures."""
    options = _options()
    lines = options.questions.read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line) for line in lines if line.strip()]
    questions = random.Random(0).sample(questions, min(options.limit, len(questions)))
    settings = replace(load_settings({"model": options.model}), offline=True, budget_ms=0.0)
    with edgeai.Assistant(options.index, settings=settings) as assistant:
        assistant.warm()
        values = [_value(assistant, question) for question in questions]
        known = [question for question in questions if question.get("answers")]
        chosen = [_choice(assistant, question, known, random.Random(n)) for n, question in enumerate(known)]
    print(json.dumps({"questions": len(questions), "schema": _summary(values), "choices": _chosen_summary(chosen)}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--model")
    parser.add_argument("--limit", type=int, default=100)
    return parser.parse_args()


def _value(assistant: edgeai.Assistant, question: Mapping[str, Any]) -> Row:
    reply = assistant.ask(question["question"], schema=SCHEMA)
    said = "".join(piece.text for piece in reply)
    answer = reply.answer
    text = " ".join(passage.text for passage in answer.passages)
    shown = {} if answer.value is None else answer.value
    print(json.dumps({"question": question["question"], "said": said, "value": answer.value}), flush=True)
    return {
        "valid": not list(mismatches(json.loads(said), SCHEMA)) if said else None,
        "answerable": bool(question.get("answers")),
        "answered": answer.status == "answered",
        "right": _right(str(shown.get("answer", "")), question.get("answers", [])),
        "made_up": len(_digits(json.dumps(shown)) - _digits(text)),
        "total_ms": answer.timings.total,
        "token_ms": answer.timings.generate / answer.tokens["output"] if answer.tokens.get("output") else None,
    }


def _choice(assistant: edgeai.Assistant, question: Row, known: Sequence[Row], chance: random.Random) -> Row:
    wanted = question["answers"][0]
    others = sorted({other["answers"][0] for other in known} - set(question["answers"]))
    choices = [wanted, *chance.sample(others, min(OTHERS, len(others)))]
    chance.shuffle(choices)
    answer = assistant.ask(question["question"], choices=choices).answer
    print(json.dumps({"question": question["question"], "choices": choices, "value": answer.value}), flush=True)
    right = None if answer.value is None else answer.value == " ".join(wanted.split())
    return {"right": right, "confidence": answer.confidence, "total_ms": answer.timings.total}


def _right(said: str, wanted: Sequence[str]) -> bool:
    return bool(wanted) and (contains(said, wanted) or token_f1(said, wanted) >= CLOSE)


def _digits(text: str) -> set[str]:
    found = set(re.findall(r"\d+", re.sub(r"(?<=\d),(?=\d{3})", "", text)))
    return found | {str(number) for number, word in enumerate(WORDS) if word in text.lower().split()}


def _summary(rows: Sequence[Row]) -> Row:
    answerable = [row for row in rows if row["answerable"]]
    absent = [row for row in rows if not row["answerable"]]
    return {
        "valid": _mean([row["valid"] for row in rows if row["valid"] is not None]),
        "answered_of_answerable": _mean([row["answered"] for row in answerable]),
        "right_of_answerable": _mean([row["right"] for row in answerable]),
        "refused_of_unanswerable": _mean([not row["answered"] for row in absent]),
        "made_up_numbers": sum(row["made_up"] for row in rows),
        "ms": _spread([row["total_ms"] for row in rows if row["token_ms"] is not None]),
        "ms_a_token": _mean([row["token_ms"] for row in rows if row["token_ms"] is not None]),
    }


def _chosen_summary(rows: Sequence[Row]) -> Row:
    given = [row for row in rows if row["right"] is not None]
    return {
        "answered": _mean([row["right"] is not None for row in rows]),
        "right_of_answered": _mean([row["right"] for row in given]),
        "mean_confidence": _mean([row["confidence"] for row in given]),
        "ms": _spread([row["total_ms"] for row in given]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return round(statistics.fmean(values), 4) if values else None


def _spread(values: Sequence[float]) -> dict[str, float]:
    if len(values) < 2:
        return {}
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return {"p50": round(cuts[9]), "p95": round(cuts[18])}


if __name__ == "__main__":
    main()
