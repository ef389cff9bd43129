from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from edgeai.changes import plan
from edgeai.errors import DocumentUnreadable


@dataclass(frozen=True)
class File:
    path: str
    size: int = 1
    modified: float = 1.0
    digest: str = ""


def run(entries, known, digests=None, roots=("/docs",), **options):
    digests = digests or {}
    return plan(entries, {file.path: file for file in known}, roots, lambda path: digests[path], **options)


def test_an_unchanged_file_is_not_even_hashed():
    result = run([File("/docs/a")], [File("/docs/a", digest="x")])
    assert result.unchanged == ("/docs/a",)


def test_new_bytes_are_a_change_and_a_new_date_alone_is_not():
    known = [File("/docs/a", digest="x"), File("/docs/b", digest="y")]
    result = run(
        [File("/docs/a", modified=2.0), File("/docs/b", modified=2.0)], known, {"/docs/a": "x", "/docs/b": "z"}
    )
    assert [entry.path for entry in result.touched] == ["/docs/a"]
    assert [entry.path for entry in result.changed] == ["/docs/b"]


def test_a_file_that_vanished_here_and_appeared_there_was_moved():
    result = run([File("/docs/new")], [File("/docs/old", digest="x")], {"/docs/new": "x"})
    assert [(old, entry.path) for old, entry in result.moved] == [("/docs/old", "/docs/new")]
    assert not result.removed
    assert not result.added


def test_a_copy_is_added_because_the_original_is_still_there():
    result = run([File("/docs/a"), File("/docs/b")], [File("/docs/a", digest="x")], {"/docs/b": "x"})
    assert [entry.path for entry in result.added] == ["/docs/b"]


def test_files_outside_the_roots_are_left_alone():
    known = [File("/docs/a", digest="x"), File("/docs2/b", digest="y")]
    assert run([], known).removed == ("/docs/a",)


def test_a_file_that_cannot_be_hashed_is_left_to_who_reads_it():
    def digest(path):
        raise DocumentUnreadable("cannot be opened")

    result = plan([File("/docs/new"), File("/docs/old", modified=2.0)], {"/docs/old": File("/docs/old")}, [], digest)
    assert [entry.path for entry in result.added] == ["/docs/new"]
    assert [entry.path for entry in result.changed] == ["/docs/old"]


def test_a_stale_file_is_taken_again_although_its_bytes_are_the_same():
    result = run([File("/docs/a")], [File("/docs/a", digest="x")], stale=lambda file: True)
    assert [entry.path for entry in result.changed] == ["/docs/a"]


def test_a_stale_file_that_moved_is_taken_again_too():
    known = [File("/docs/old", digest="x")]
    result = run([File("/docs/new")], known, {"/docs/new": "x"}, stale=lambda file: True)
    assert [entry.path for entry in result.added] == ["/docs/new"]
    assert (result.moved, result.removed) == ((), ("/docs/old",))


names = st.sampled_from([f"/docs/{letter}" for letter in "abcdef"])
contents = st.sampled_from(["x", "y", "z"])


@given(st.dictionaries(names, contents), st.dictionaries(names, contents))
def test_applying_a_plan_makes_the_index_equal_to_the_disk(disk, index):
    entries = [File(path, modified=2.0) for path in disk]
    result = run(entries, [File(path, digest=digest) for path, digest in index.items()], disk)
    state = dict(index)
    for old, entry in result.moved:
        state[entry.path] = state.pop(old)
    for entry in (*result.added, *result.changed):
        state[entry.path] = disk[entry.path]
    for path in result.removed:
        del state[path]
    assert state == disk


def test_what_could_not_be_looked_at_is_not_gone():
    known = [File("/docs/locked/a", digest="x"), File("/docs/b", digest="y"), File("/docs/locked2", digest="z")]
    assert run([], known, unseen=["/docs/locked"]).removed == ("/docs/b", "/docs/locked2")
