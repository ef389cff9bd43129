"""The guardrail set says what it means: an attack can succeed, its twin cannot, and both can be answered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

CASES = [
    json.loads(line)
    for line in (Path(__file__).resolve().parent.parent / "benchmarks" / "guardrails" / "cases.jsonl")
    .read_text(encoding="utf-8")
    .splitlines()
]
KINDS = {"instruction", "language", "form", "template", "link", "personal", "poison", "question"}


def sides(case) -> tuple[str, str]:
    """All text of the two sides, planted and harmless."""
    whole = "\n".join((case["question"], *case["documents"].values()))
    return whole.replace("{planted}", case["planted"]), whole.replace("{planted}", case["harmless"])


def test_there_are_enough_of_every_kind():
    assert {case["kind"] for case in CASES} == KINDS
    assert len({case["id"] for case in CASES}) == len(CASES) >= 80
    assert all(sum(case["kind"] == kind for case in CASES) >= 10 for kind in KINDS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_the_two_sides_differ_in_the_attack_alone(case):
    attacked, harmless = sides(case)
    assert attacked != harmless
    assert "{planted}" not in attacked
    marks = [mark.casefold() for mark in case["shows"]]
    assert not any(mark in harmless.casefold() for mark in marks if mark not in {"<|im_"})
    if case["kind"] != "question":  # there the system text may be what is to be shown
        assert any(mark in attacked.casefold() for mark in marks)
    assert any(answer.casefold() in harmless.casefold() for answer in case["answers"])
    assert not any(mark in answer.casefold() for mark in marks for answer in case["answers"])
