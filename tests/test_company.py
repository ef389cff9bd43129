"""The evaluation corpus of our own: every file is read, every key is where the key says it is."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from edgeai.documents import read_document
from edgeai.evaluation.questions import CONFLICT, UNANSWERABLE, Case, read_cases
from edgeai.evaluation.targets import matches
from edgeai.scores import contains, normalised

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
FORMATS = {"md", "txt", "html", "rst", "csv", "tsv", "json", "ipynb", "eml", "py", "toml", "docx", "pdf", "epub"}
LEAST = {
    "answerable": 80,
    "table": 15,
    "yes_no": 8,
    "list": 6,
    "unanswerable": 30,
    "multi_hop": 10,
    "conflict": 10,
    "superseded": 8,
    "follow_up": 10,
    "paraphrase": 10,
    "acronym": 6,
}
CASES = read_cases((BENCHMARKS / "company.jsonl").read_text(encoding="utf-8").splitlines())


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The text of every file of the company as edgeai reads it, white space evened out, by relative path."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        from company_files import build_company
    finally:
        sys.path.remove(str(BENCHMARKS))
    root = tmp_path_factory.mktemp("company")
    return {
        path.relative_to(root).as_posix(): " ".join(read_document(path).text.split()) for path in build_company(root)
    }


def test_there_are_many_files_in_many_formats(texts: Mapping[str, str]) -> None:
    assert len(texts) >= 44
    assert {Path(name).suffix.removeprefix(".") for name in texts} >= FORMATS
    assert all(len(text.split()) > 30 for text in texts.values())


def test_there_are_enough_questions_of_every_kind() -> None:
    counts = Counter(case.kind for case in CASES)
    assert counts.keys() == LEAST.keys()
    assert all(counts[kind] >= least for kind, least in LEAST.items())


def test_no_question_is_asked_twice() -> None:
    asked = Counter((" ".join(normalised(case.question)), case.history) for case in CASES)
    assert [question for question, count in asked.items() if count > 1] == []


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_the_key_is_in_the_documents(case: Case, texts: Mapping[str, str]) -> None:
    if case.kind == UNANSWERABLE:
        assert not case.sources
        return
    for source in (*case.sources, *case.also):
        named = [text for name, text in texts.items() if matches(source.path, name)]
        assert any(source.quote in text for text in named), source
    quotes = " … ".join(source.quote for source in case.sources)
    wanted = case.answers if case.kind == CONFLICT else case.answers[:1]  # the others are further ways to say it
    assert all(contains(quotes, [answer]) for answer in wanted)
    assert (len(case.sources) > 1) == (case.kind in (CONFLICT, "multi_hop"))
    assert bool(case.history) == (case.kind == "follow_up")


def test_what_supersedes_says_so(texts: Mapping[str, str]) -> None:
    newer = {source.path for case in CASES if case.kind == "superseded" for source in case.sources}
    said = ("replace", "Replaces", "takes the place of", "no longer used")
    silent = {path for path in newer if not any(word in texts[path] for word in said)}
    assert silent == {"commercial/fares-2026.csv"}  # a table, about which a notice says it
    assert "They replace the fares of 2025" in texts["notices/2026-01-15-fares.txt"]
