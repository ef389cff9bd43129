"""Sources are found in an index as they are written: by the end of a path or a glob, white space in quotes aside."""

from __future__ import annotations

from pathlib import Path

import pytest
import toy_index

from edgeai.evaluation.questions import Source
from edgeai.evaluation.targets import Place, locate, matches
from edgeai.store import Store

TEXT = "The gate is open.\nParents may take\n  20 weeks of leave. Really, 20 weeks."


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(tmp_path / "index.db", maker=toy_index.MAKER) as opened:
        opened.put(*toy_index.entry("/docs/hr/leave.md", TEXT, size=1000))
        opened.put(*toy_index.entry("/docs/it/leave.md", "Nothing to see.", size=1000))
        opened.put(*toy_index.entry("/docs/cut.md", TEXT, size=20))
        yield opened


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("leave.md", True),
        ("hr/leave.md", True),
        ("/docs/hr/leave.md", True),
        ("hr/*.md", True),
        ("*/hr/*", True),
        ("eave.md", False),
        ("it/leave.md", False),
        ("leave", False),
    ],
)
def test_a_path_is_the_end_of_a_path_or_a_glob(pattern, fits):
    assert matches(pattern, "/docs/hr/leave.md") == fits


def test_a_file_name_with_brackets_is_found_by_its_name():
    assert matches("[c].txt", "/x/[c].txt")


def test_a_quote_is_found_wherever_it_stands_and_however_it_is_wrapped(store):
    target = locate(Source("hr/leave.md", "take 20 weeks"), store, list(store.files()))
    [place] = target.places
    assert TEXT[place.start : place.end] == "take\n  20 weeks"
    assert len(locate(Source("hr/leave.md", "20 weeks"), store, list(store.files())).places) == 2
    assert len(target.chunks) == 1


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (Source("gone.md"), "no file of the index is called gone.md"),
        (Source("leave.md", "30 weeks"), "the quote is not in the text of leave.md"),
        (Source("cut.md", "Parents may take 20 weeks of leave."), "no chunk holds the whole quote"),
    ],
)
def test_a_source_that_cannot_be_found_says_why(store, source, problem):
    target = locate(source, store, list(store.files()))
    assert (target.problem, target.chunks) == (problem, ())


def test_a_source_without_a_quote_is_the_whole_file(store):
    target = locate(Source("leave.md"), store, list(store.files()))
    assert {place.path for place in target.places} == {"/docs/hr/leave.md", "/docs/it/leave.md"}
    assert target.inside("/docs/it/leave.md", 3, 5)


def test_a_stretch_holds_a_place_or_only_touches_it():
    place = Place("/a", 10, 20)
    assert place.inside("/a", 10, 20)
    assert not place.inside("/a", 11, 30)
    assert place.touches("/a", 19, 30)
    assert not place.touches("/a", 20, 30)
    assert not place.touches("/b", 10, 20)
