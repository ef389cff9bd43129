"""What a user's file must be like before it is trained on, and the split that keeps what belongs together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.errors import PathNotFound, UsageProblem
from edgeai.prompt import REFUSAL
from tools import checks
from tools.evidence import Evidence, Example, read

NAMES = """amber birch cedar dahlia elm fern garlic hazel iris juniper kale laurel maple nettle oak pine quince rose
sage thyme"""
WORDS = [f"{one} {other}" for one in NAMES.split() for other in ("bench", "gate", "wall")]
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "count": {"type": "integer"}, "state": {"enum": ["open", "closed"]}},
    "required": ["name", "count"],
}


def grounded(number: int, **changes: Any) -> dict[str, Any]:
    """A line that passes every check; different numbers have nothing in common."""
    thing = WORDS[number]
    text = f"The {thing} was painted by team {number + 100} and is looked after in spring."
    passages = [{"title": f"{thing} notes", "text": text}, {"title": "other", "text": f"Nothing on the {thing} here."}]
    line = {"question": f"Who painted the {thing}?", "passages": passages, "answer": f"Team {number + 100} [1]"}
    return line | {"licence": "own"} | changes


def label(number: int, **changes: Any) -> dict[str, Any]:
    return {"text": f"a note on the {WORDS[number]}", "label": ("up", "down")[number % 2], "licence": "own"} | changes


def extraction(number: int, **changes: Any) -> dict[str, Any]:
    value = {"name": WORDS[number], "count": number}
    return {"text": f"{number} pieces of {WORDS[number]} ordered", "json": value, "licence": "own"} | changes


@pytest.fixture
def findings(tmp_path: Path) -> Callable[..., list[checks.Finding]]:
    def find(lines: list[Any], context: int = 2048) -> list[checks.Finding]:
        return checks.check(evidence(tmp_path, lines), lambda text: len(text.split()), context)

    return find


def evidence(folder: Path, lines: list[Any]) -> Evidence:
    path, schema = folder / "lines.jsonl", folder / "schema.json"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    schema.write_text(json.dumps(SCHEMA), encoding="utf-8")
    return read(path, schema=schema)


def kinds(found: list[checks.Finding]) -> set[str]:
    return {finding.kind for finding in found if finding.fatal}


GROUNDED = [grounded(n) for n in range(35)] + [grounded(n, answer="") for n in range(35, 40)]


@pytest.mark.parametrize("lines", [GROUNDED, [label(n) for n in range(30)], [extraction(n) for n in range(30)]])
def test_good_lines_of_each_task_pass(findings: Callable[..., list[checks.Finding]], lines: list[Any]) -> None:
    assert findings(lines) == []


UNFIT = {
    "size": [
        GROUNDED[:29],
        [label(n) for n in range(30)] + [label(31, label="rare")],
        [label(n, label="only") for n in range(30)],
    ],
    "duplicate": [[*GROUNDED, grounded(3)], [*GROUNDED, grounded(3, question=f"who  PAINTED the {WORDS[3]}")]],
    "conflict": [
        [*GROUNDED, grounded(3, answer="")],
        [*(label(n) for n in range(30)), label(4, label="down")],
    ],
    "leakage": [
        [
            *GROUNDED,
            grounded(40, group="a"),
            grounded(41, group="b", passages=grounded(40)["passages"], answer="Team 140 [1]"),
        ],
        [*GROUNDED, grounded(40, group="a"), grounded(41, group="b", question=f"the {WORDS[40]}: who painted?")],
        [line | {"group": "all"} for line in GROUNDED],
        [line | {"passages": [one | {"title": "handbook"} for one in line["passages"]]} for line in GROUNDED],
    ],
    "length": [
        [*GROUNDED, grounded(40, passages=[{"title": "", "text": "maple gate team 140 " * 600}])],
        [*GROUNDED, grounded(40, answer="team 140 [1] " * 40)],
    ],
    "support": [
        [*GROUNDED, grounded(40, answer="Team 77 [1]")],
        [*GROUNDED, grounded(40, answer="Wandering violinists from Lisbon [1]")],
        [*GROUNDED, grounded(40, answer="Team 140 [2]")],
    ],
    "licence": [[*GROUNDED, grounded(40, licence=" ")], [*GROUNDED, grounded(40, licence="")]],
    "schema": [
        [*(extraction(n) for n in range(30)), extraction(30, json={"name": "kale bench"})],
        [*(extraction(n) for n in range(30)), extraction(30, json={"name": "kale bench", "count": 30, "more": 1})],
    ],
    "format": [
        [*GROUNDED, "{not json"],
        [*GROUNDED, "[1]"],
        [*GROUNDED, grounded(40, question=" ")],
        [*GROUNDED, grounded(40, passages=[])],
        [*GROUNDED, grounded(40, passages=[{"title": "no text"}])],
        [*GROUNDED, grounded(40, answer="Team 140 [3]")],
        [*GROUNDED, grounded(40, answer=7)],
        [*GROUNDED, grounded(40, history="before")],
        [*(label(n) for n in range(30)), label(30, label=3)],
        [*(extraction(n) for n in range(30)), extraction(30, json=[1])],
    ],
}


@pytest.mark.parametrize(("kind", "lines"), [(kind, lines) for kind, cases in UNFIT.items() for lines in cases])
def test_each_check_says_what_is_wrong(
    findings: Callable[..., list[checks.Finding]], kind: str, lines: list[Any]
) -> None:
    found = findings(lines)
    assert kinds(found) == {kind}
    assert all(finding.text.endswith(".") and "\n" not in finding.text for finding in found)


def test_a_finding_names_its_lines(findings: Callable[..., list[checks.Finding]]) -> None:
    (found,) = findings([*GROUNDED, grounded(3, answer="")])
    assert found.text.startswith("Lines 4 and 41 have the same input")
    (found,) = findings([grounded(n, licence="") for n in range(39)] + [grounded(39, answer="")])
    assert found.text.startswith("Lines 1, 2, 3, 4, 5, 6, 7, 8 and 31 more have no")


def test_what_is_only_doubtful_does_not_stop_training(findings: Callable[..., list[checks.Finding]]) -> None:
    for lines in (
        GROUNDED[:35],  # nothing to refuse
        [*GROUNDED, grounded(3, question=f"By who was the {WORDS[3]} painted?")],
        [*(extraction(n) for n in range(30)), extraction(30, json={"name": "someone else", "count": 30})],
    ):
        found = findings(lines)
        assert len(found) in (0, 1)
        assert not kinds(found)


def test_an_answer_without_marks_gets_those_the_product_would_add(tmp_path: Path) -> None:
    line = grounded(0, answer="The amber bench was painted by team 100.")
    assert evidence(tmp_path, [line]).examples[0].answer == "The amber bench was painted by team 100 [1]."


def test_a_refusal_has_one_wording(tmp_path: Path) -> None:
    lines = [grounded(n, answer=said) for n, said in enumerate(("", None, "The documents do not mention it."))]
    assert [example.answer for example in evidence(tmp_path, lines).examples] == [REFUSAL] * 3


def test_fields_are_written_in_the_order_of_the_schema(tmp_path: Path) -> None:
    line = extraction(1, json={"count": 1, "name": "amber gate"})
    assert evidence(tmp_path, [line]).examples[0].answer == '{"name": "amber gate", "count": 1}'


def test_a_file_that_is_nothing_of_the_kind_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(PathNotFound, match="cannot be read"):
        read(tmp_path / "absent.jsonl")
    for name, data, says in (
        ("a", b'{"x": 1}\n', "first line"),
        ("b", b"\xff\xfe\x00", "UTF-8"),
        ("c", b"", "first line"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UsageProblem, match=says):
            read(tmp_path / name)
    (tmp_path / "d").write_text(json.dumps(extraction(1)), encoding="utf-8")
    with pytest.raises(UsageProblem, match="--schema"):
        read(tmp_path / "d")


# the split ----------------------------------------------------------------------------------------------------------

TEXTS = st.integers(0, 12).map(lambda n: f"where is the {WORDS[n]}")
EXAMPLES = st.lists(
    st.tuples(TEXTS, st.sampled_from(["", "a", "b", "c", "d"]), st.sampled_from(["x", "y"])), min_size=2, max_size=40
).map(lambda rows: [Example(n, text, answer, group=group) for n, (text, group, answer) in enumerate(rows, start=1)])


@settings(deadline=None)
@given(examples=EXAMPLES, seed=st.integers(0, 5))
def test_a_split_separates_nothing_that_belongs_together(examples: list[Example], seed: int) -> None:
    train, held = checks.split(examples, seed)
    assert sorted(one.line for one in [*train, *held]) == [one.line for one in examples]
    for side in (lambda one: one.group, lambda one: one.text):
        assert not {side(one) for one in train if side(one)} & {side(one) for one in held if side(one)}
    assert checks.split(examples, seed) == (train, held)


@settings(deadline=None)
@given(seed=st.integers(0, 99))
def test_about_a_fifth_of_each_label_is_held_out(seed: int) -> None:
    examples = [Example(n, WORDS[n], ("x", "y", "y")[n % 3]) for n in range(60)]
    train, held = checks.split(examples, seed)
    assert [sum(one.answer == name for one in held) for name in "xy"] == [4, 8]
    assert len(train) == 48


def test_large_groups_are_held_out_when_there_are_no_smaller_ones() -> None:
    examples = [Example(n, WORDS[n], "x", group=str(n % 3)) for n in range(30)]
    assert [len(side) for side in checks.split(examples, 0)] == [20, 10]


PHRASES = st.lists(
    st.sampled_from(["red", "green", "blue", "cold", "warm", "dry", "old", "new", "3", "4"]), min_size=1, max_size=16
)


@settings(deadline=None)
@given(texts=st.lists(PHRASES.map(" ".join), max_size=12))
def test_near_pairs_are_all_pairs_that_the_definition_gives(texts: list[str]) -> None:
    bags = [set(text.split()) for text in texts]
    near = {
        (i, j)
        for j in range(len(bags))
        for i in range(j)
        if len(bags[i] & bags[j]) >= checks.NEAR * len(bags[i] | bags[j]) and not (bags[i] ^ bags[j]) & {"3", "4"}
    }
    assert set(checks.near_pairs(texts)) == near
