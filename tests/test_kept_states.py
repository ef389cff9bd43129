"""States of passages on disk: what is read is what was written, within the limit, and gone with its document."""

from __future__ import annotations

import os
import stat
import threading
import time
from dataclasses import replace
from pathlib import Path

import apsw
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_gguf import TEMPLATE, write_tiny_gguf

from edgeai.assistant import Assistant
from edgeai.config import Settings
from edgeai.filters import parse_filter
from edgeai.llm.generate import LlamaGenerator
from edgeai.llm.shelf import Shelf, engine
from edgeai.llm.states import States
from edgeai.prompt import build_prompt, passage_text, prefix_segments
from edgeai.records import Chunk, Document, Passage, Segment
from edgeai.store import Maker, Store
from edgeai.store.kept_states import PAGE, KeptStates, beside, discard, forget, size

MAKER = bytes(32)
LEAVE = "Employees get twelve weeks of paid leave. Part-time staff get six."
POLICY = "Laptops are replaced every four years. Phones are not."
TEXTS = {"/leave.md": LEAVE, "/policy.md": POLICY}
WORDS = Maker("words", "0" * 64, 4, "1")


def always(path: str) -> tuple[float, str]:
    """An index that holds every document, unchanged."""
    return 0.0, "digest"


def opened(index: Path, limit: int = 10_000_000, versions=always) -> KeptStates:
    states = KeptStates(index, limit, versions)
    states.refresh()
    return states


def put(states: KeptStates, name: str, state: bytes, *, maker: bytes = MAKER, path: str = "/a.md") -> None:
    states.put(name.encode(), state, maker=maker, path=path, digest="digest")


def names(states: KeptStates, count: int = 40) -> list[str]:
    return [str(number) for number in range(count) if str(number).encode() in states]


@pytest.fixture
def index(tmp_path):
    return tmp_path / "notes.db"


# the file ---------------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "get", "use", "forget", "reopen"]), st.integers(0, 7), st.integers(0, 300_000)),
    max_size=25,
)


@settings(deadline=None, max_examples=40)
@given(STEPS, st.integers(0, 60))
def test_what_is_read_is_what_was_written_and_the_file_is_never_larger_than_it_may(tmp_path_factory, steps, pages):
    index = tmp_path_factory.mktemp("states") / "notes.db"
    states, written = opened(index, pages * PAGE), {}
    for what, number, length in steps:
        key = str(number).encode()
        if what == "put":
            written[key] = np.random.default_rng(length).bytes(length)
            states.put(key, written[key], maker=bytes([number % 2]), path=f"/{number}", digest="digest")
        elif what == "use":
            states.used([key, b"unknown"])
        elif what == "forget":
            forget(index, [f"/{number}"])
            states.refresh()
            assert key not in states
        elif what == "reopen":
            states.close()
            states = opened(index, pages * PAGE)
        known = key in states
        assert states.get(key) == (written[key] if known else None)
        assert states.get(key + b"x") is None
        assert size(index) <= pages * PAGE
    states.close()


def test_nothing_is_made_before_something_is_kept(index):
    states = opened(index)
    assert states.get(b"1") is None
    put(states, "1", bytes(11_000_000))  # more than the limit
    assert not beside(index).exists()
    put(states, "1", b"state")
    assert states.get(b"1") == b"state"


def test_what_is_used_most_and_last_stays(index):
    states = opened(index, 55 * PAGE)
    for number in range(4):
        put(states, str(number), bytes(10 * PAGE))
    states.used([b"0", b"2"])
    states.used([b"0"])
    put(states, "4", bytes(10 * PAGE))
    assert names(states) == ["0", "2", "3", "4"]
    put(states, "5", bytes(30 * PAGE))
    assert names(states) == ["0", "5"]


def test_an_old_use_counts_less_than_a_new_one(index, monkeypatch):
    now = 1e9
    monkeypatch.setattr("time.time", lambda: now)
    states = opened(index, 35 * PAGE)
    put(states, "1", bytes(10 * PAGE))
    states.used([b"1"] * 5)  # worth 6
    now += 4 * 7 * 86_400  # worth 6/16
    put(states, "2", bytes(10 * PAGE))
    put(states, "3", bytes(10 * PAGE))
    assert names(states) == ["2", "3"]


def test_states_of_other_models_go_first(index):
    states = opened(index, 35 * PAGE)
    put(states, "1", bytes(10 * PAGE), maker=b"other")
    states.used([b"1"] * 9)
    put(states, "2", bytes(10 * PAGE))
    put(states, "3", bytes(10 * PAGE))
    assert names(states) == ["2", "3"]


def test_a_lower_limit_shrinks_the_file(index):
    states = opened(index)
    for number in range(5):
        put(states, str(number), bytes(20 * PAGE))
    states.close()
    opened(index, 50 * PAGE).close()
    assert 20 * PAGE < size(index) <= 50 * PAGE


def test_two_processes_see_what_the_other_keeps_and_forgets(index):
    one, other = opened(index), opened(index)
    put(one, "1", b"state")
    other.refresh()
    assert other.get(b"1") == b"state"
    forget(index, ["/a.md"])
    assert one.get(b"1") is None
    other.refresh()
    assert b"1" not in other


def test_what_is_forgotten_is_overwritten(index):
    states, secret = opened(index), os.urandom(64)
    put(states, "1", secret * 2000)
    put(states, "2", b"other", path="/b.md")
    assert secret in beside(index).read_bytes()
    forget(index, ["/a.md"])
    assert [path.name for path in index.parent.iterdir()] == [beside(index).name]
    assert secret not in beside(index).read_bytes()
    states.refresh()
    assert names(states) == ["2"]


def test_a_state_of_a_document_that_has_changed_is_not_written_and_goes_when_the_file_is_opened(index):
    current = {"/a.md": (0.0, "digest")}
    states = opened(index, versions=current.get)
    put(states, "1", b"state")
    put(states, "2", b"state", path="/gone.md")
    assert names(states) == ["1"]
    assert states.version(("/a.md", 0.0)) == "digest"
    assert states.version(("/a.md", 1.0)) == states.version(("/gone.md", 0.0)) == ""
    states.close()
    current["/a.md"] = (0.0, "another")
    assert names(opened(index, versions=current.get)) == []
    states.refresh()
    put(states, "3", b"state")
    assert names(states) == []


@pytest.mark.skipif(os.name != "posix", reason="file modes are a POSIX notion")
def test_the_file_is_private_whatever_the_umask(index):
    before = os.umask(0)
    try:
        put(opened(index), "1", b"state")
    finally:
        os.umask(before)
    assert stat.S_IMODE(beside(index).stat().st_mode) == 0o600


# whatever is wrong with it ----------------------------------------------------------------------------------------


def test_every_byte_that_is_damaged_leaves_a_state_that_is_right_or_none(index):
    states, state = opened(index), os.urandom(60_000)
    put(states, "1", state)
    put(states, "2", state)
    states.close()
    sound, random = beside(index).read_bytes(), np.random.default_rng(0)
    for place in (*range(16, 100, 7), *random.integers(100, len(sound), 60).tolist()):
        damaged = bytearray(sound)
        damaged[place : place + 40] = random.bytes(40)
        beside(index).write_bytes(damaged)
        states = opened(index)
        assert states.get(b"1") in (state, None)
        put(states, "3", state)
        states.used([b"1", b"2", b"3"])
        states.close()
        forget(index, ["/a.md"])
        discard(index)
        beside(index).unlink(missing_ok=True)  # where its header says no longer that it is ours


@pytest.mark.parametrize("content", [b"a file of the user's own, longer than a header. " * 9, b"short"])
def test_a_file_that_is_not_ours_is_left_alone(index, content):
    beside(index).write_bytes(content)
    states = opened(index)
    put(states, "1", b"state")
    forget(index, ["/a.md"])
    discard(index)
    assert states.get(b"1") is None
    assert beside(index).read_bytes() == content
    assert size(index) == 0


def test_a_file_that_another_process_writes_is_not_waited_for(index):
    states = opened(index)
    put(states, "1", b"state")
    other = apsw.Connection(str(beside(index)))
    other.execute("BEGIN EXCLUSIVE")
    assert states.get(b"1") is None
    put(states, "2", b"state")
    states.used([b"1"])
    late = opened(index)
    assert late.get(b"1") is None
    other.close()
    for one in (states, late):
        one.refresh()
        put(one, "3", b"state")
        assert one.get(b"3") == b"state"


def test_a_file_that_was_deleted_is_made_again(index):
    states = opened(index)
    put(states, "1", b"state")
    discard(index)
    put(states, "2", b"state")  # SQLite sees that the file was moved
    put(states, "3", b"state")
    assert names(opened(index)) == ["3"]


def test_while_the_index_is_not_open_nothing_is_used_and_nothing_goes(index):
    def closed(path):
        raise ValueError("the index was closed")

    states = opened(index)
    put(states, "1", b"state")
    states.close()
    late = opened(index, versions=closed)
    assert (late.get(b"1"), late.version(("/a.md", 0.0))) == (None, "")
    put(late, "2", b"state")
    assert names(opened(index)) == ["1"]


def test_a_folder_in_its_place_harms_nobody(index):
    beside(index).mkdir()
    states = opened(index)
    put(states, "1", b"state")
    forget(index, ["/a.md"])
    assert states.get(b"1") is None


# names ------------------------------------------------------------------------------------------------------------


def test_a_name_says_everything_that_a_state_depends_on(index, tmp_path):
    spec = replace(write_tiny_gguf(tmp_path / "tiny.gguf"), digest="a")
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(name.encode())
    shelves = []
    for made in (
        engine(spec, flash_attention=True, gpu_layers=0),
        engine(spec, flash_attention=False, gpu_layers=0),
        engine(spec, flash_attention=True, gpu_layers=9),
        engine(replace(spec, digest="b"), flash_attention=True, gpu_layers=0),
    ):
        for adapter in ("", str(tmp_path / "one"), str(tmp_path / "two")):
            for prefix in ((), (1,), (1, 2)):
                shelf = Shelf(opened(index), made)
                shelf.choose(prefix)
                shelf.use(adapter)
                shelves.append((shelf, [(1, 2), (2,), (2, 3), (1, 2, 3)]))
    found = {shelf._name(ids) for shelf, passages in shelves for ids in passages}
    assert len(found) == sum(len(passages) for _, passages in shelves)
    assert engine(replace(spec, digest=""), flash_attention=True, gpu_layers=0) == ""


def test_without_a_file_or_for_an_unknown_model_there_is_nothing(index):
    for shelf in (Shelf(), Shelf(opened(index)), Shelf(None, "engine")):
        copies = States(1000)
        copies.add((1,), b"state")
        shelf.note({(1,): ("/a.md", 0.0)})
        shelf.settle(copies, bool)
        assert (1,) not in shelf
        assert shelf.get((1,)) is None
    assert not beside(index).exists()


def test_writing_ends_between_two_states_and_goes_on_later(index):
    shelf, copies, asked = Shelf(opened(index), "engine"), States(1000), []

    def third():
        asked.append(None)
        return len(asked) == 3

    for number in range(4):
        copies.add((number,), b"state")
    shelf.note({(number,): ("/a.md", 0.0) for number in range(4)})
    shelf.settle(copies, third)
    assert [number for number in range(4) if (number,) in shelf] == [0, 1]
    shelf.settle(copies, bool)
    assert all((number,) in shelf for number in range(4))


# the generator ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    model = write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "random.gguf")
    return replace(model, digest="d" * 64, independent=True)


def passages_of(*paths: str) -> list[Passage]:
    return [Passage(n, TEXTS[path], path, 0, len(TEXTS[path]), title="Rules") for n, path in enumerate(paths, 1)]


def prompt_for(generator, *paths: str):
    options = {"count": generator.count_tokens, "context": 1024, "max_tokens": 24, "numbered": False}
    return build_prompt("How long is leave?", passages_of(*paths), generator.spec.template, **options)


def answer(generator, *paths: str) -> tuple[str, int]:
    pieces = list(generator.stream(prompt_for(generator, *paths)))
    return "".join(piece.text for piece in pieces), pieces[-1].cached_tokens


def test_an_answer_from_the_disk_is_the_one_that_was_computed(open_generator, spec, index):
    first = open_generator(spec, kept=KeptStates(index, 10**7, always))
    expected = {paths: answer(first, *paths)[0] for paths in (("/leave.md",), ("/policy.md", "/leave.md"))}
    assert not beside(index).exists()  # nothing is written between question and answer
    first.close()
    later = open_generator(spec, kept=KeptStates(index, 10**7, always))
    plain = open_generator(spec)
    for paths, text in expected.items():
        texts = [passage_text(passage, numbered=False) for passage in passages_of(*paths)]
        assert later.missing(texts) == [0] * len(paths)
        assert all(plain.missing(texts)) or len(paths) == 2
        found, cached = answer(later, *paths)
        assert found == text == answer(plain, *paths)[0]
        assert cached >= sum(map(later.count_tokens, texts))


def test_logits_behind_a_state_from_the_disk_are_those_of_the_computation(open_generator, spec, index):
    likelihoods = []
    for _ in range(2):
        generator = open_generator(spec, kept=KeptStates(index, 10**7, always))
        answer(generator, "/leave.md", "/policy.md")
        prompt = prompt_for(generator, "/leave.md", "/policy.md")
        likelihoods.append(generator.log_likelihoods(prompt, ["six", "twelve weeks", "never"]))
        generator.close()
    assert likelihoods[0] == likelihoods[1]


def test_another_model_or_prefix_finds_nothing(open_generator, spec, index):
    first = open_generator(spec, kept=KeptStates(index, 10**7, always))
    answer(first, "/leave.md")
    first.close()
    for other in (
        open_generator(replace(spec, digest="e" * 64), kept=KeptStates(index, 10**7, always)),
        open_generator(spec, flash_attention=False, kept=KeptStates(index, 10**7, always)),
        open_generator(spec, kept=KeptStates(index.with_name("other.db"), 10**7, always)),
    ):
        other.warm(prefix_segments(TEMPLATE, numbered=False))
        assert all(other.missing([passage_text(passages_of("/leave.md")[0], numbered=False)]))
    same = open_generator(spec, kept=KeptStates(index, 10**7, always))
    text = passage_text(passages_of("/leave.md")[0], numbered=False)
    assert same.missing([text]) == [0]
    same.warm(prefix_segments(TEMPLATE, numbered=True))
    assert same.missing([text]) != [0]


def test_what_is_prepared_is_kept_where_its_document_is_known(open_generator, spec, index):
    generator = open_generator(spec, kept=KeptStates(index, 10**7, always))
    texts = [passage_text(passage, numbered=False) for passage in passages_of("/leave.md", "/policy.md")]
    prefix = prefix_segments(TEMPLATE, numbered=False)
    generator.warm((*prefix, Segment(texts[0], "passage", owner=("/leave.md", 0.0)), Segment(texts[1], "passage")))
    generator.settle()
    generator.close()
    later = open_generator(spec, kept=KeptStates(index, 10**7, always))
    assert [bool(count) for count in later.missing(texts)] == [False, True]


def test_settling_ends_when_something_else_is_wanted(open_generator, spec, index):
    reached, go_on = threading.Event(), threading.Event()

    def slow(path):
        if threading.current_thread().name == "edgeai-llama" and reached.is_set() is False and noted:
            reached.set()
            go_on.wait(10)
        return always(path)

    noted = []
    generator = open_generator(spec, kept=KeptStates(index, 10**7, slow))
    answer(generator, "/leave.md", "/policy.md")
    noted.append(True)
    generator.settle()
    assert reached.wait(10)  # within the first of two
    generator.pause()
    go_on.set()
    generator.load()
    states = opened(index)
    assert len(states._keys) == 1


# the index --------------------------------------------------------------------------------------------------------


def document(path: str, text: str = LEAVE, digest: str = "1") -> Document:
    return Document(path, text, "markdown", "Rules", 0.0, digest)


def store_document(store: Store, doc: Document) -> None:
    chunk = Chunk(0, len(doc.text), doc.text)
    store.put(doc, [chunk], np.array([[1, 0, 0, 0]], dtype=np.float32))


def filled(store: Store, index: Path) -> KeptStates:
    states = KeptStates(index, 10**7, store.version)
    states.refresh()
    for path in ("/a.md", "/b.md"):
        states.put(path.encode(), b"state of " + path.encode(), maker=MAKER, path=path, digest="1")
    return states


CHANGES = {
    "changed": lambda store: store_document(store, document("/a.md", POLICY, "2")),
    "put again": lambda store: store_document(store, document("/a.md")),
    "removed": lambda store: store.remove(iter(["/a.md"])),
    "moved": lambda store: store.move("/a.md", "/c.md", modified=1.0),
    "moved here": lambda store: store.move("/c.md", "/a.md", modified=1.0),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_states_go_with_the_version_of_their_document(index, change):
    with Store.open(index, maker=WORDS) as store:
        for path in ("/a.md", "/b.md", *(["/c.md"] if change is CHANGES["moved here"] else [])):
            store_document(store, document(path))
        states = filled(store, index)
        change(store)
        assert b"state of /a.md" not in beside(index).read_bytes()
        states.refresh()
        assert [key in states for key in (b"/a.md", b"/b.md")] == [False, True]
        assert store.status()["kept_states_bytes"] == size(index) > 0
        states.close()


def test_whatever_happens_to_an_index_no_state_of_what_it_does_not_hold_is_left(index):
    with Store.open(index, maker=WORDS) as store:
        store_document(store, document("/a.md"))
        store_document(store, document("/b.md"))
        filled(store, index).close()
        store.touch("/a.md", modified=2.0, size=5)
        assert size(index)
    index.unlink()
    with Store.open(index, maker=WORDS):
        assert b"state of" not in beside(index).read_bytes()


def test_a_file_that_cannot_be_changed_is_deleted_with_all_it_holds(index):
    with Store.open(index, maker=WORDS) as store:
        store_document(store, document("/a.md"))
        store_document(store, document("/b.md"))
        filled(store, index).close()
        damaged = bytearray(beside(index).read_bytes())
        damaged[100 : 2 * PAGE] = bytes(2 * PAGE - 100)
        beside(index).write_bytes(damaged)
        store.remove(["/a.md"])
        assert not beside(index).exists()


# the assistant ----------------------------------------------------------------------------------------------------

PLAIN = Settings(reader="none", budget_ms=0, offline=True)
QUESTION = "How many weeks of paid leave do employees get?"


class Kept(Assistant):
    """An assistant whose generator is a tiny one that was trained for independent passages."""

    tiny = None

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._models._open_generator = self._open_tiny

    def _open_tiny(self):
        limit = self.settings.kept_states_mb * 1_000_000
        return LlamaGenerator(self.tiny, threads=1, kept=self._kept_states(limit) if limit else None)


@pytest.fixture
def folder(tmp_path, spec, monkeypatch):
    monkeypatch.setattr(Kept, "tiny", spec)
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "leave.md").write_text(f"# Leave\n\n{LEAVE}\n")
    (folder / "policy.md").write_text(f"# Laptops\n\n{POLICY}\n")
    return folder


def asked(index: Path, question: str = QUESTION, **options) -> int:
    """How many tokens of a prompt a new process need not compute."""
    with Kept(index, settings=PLAIN, **options) as assistant:
        assistant.warm(wait=True)
        return assistant.ask(question).answer.tokens["cached"]


def test_the_next_process_finds_what_this_one_computed_until_the_documents_change(folder, index):
    with Kept(index, settings=PLAIN) as assistant:
        assistant.sync(folder)
    leave = (folder / "leave.md").resolve().as_posix()
    first = asked(index)
    assert leave in paths(index)
    assert asked(index) > first
    (folder / "leave.md").write_text(f"# Leave\n\n{LEAVE} Interns get none.\n")
    with Kept(index, settings=PLAIN) as assistant:
        assistant.sync(folder)
    assert leave not in paths(index)
    asked(index)
    assert leave in paths(index)
    with Kept(index, settings=PLAIN) as assistant:
        assistant.remove(folder / "leave.md")
    assert leave not in paths(index)


def test_nothing_is_written_while_a_question_is_in_flight(folder, index):
    with Kept(index, settings=PLAIN) as assistant:
        assistant.sync(folder)
        assistant.warm(wait=True)
        with assistant.ask(QUESTION) as first:
            next(iter(first))
            assistant.ask("How often are laptops replaced?").answer  # noqa: B018
            assistant._models.generator().load()  # whatever was queued is done
            assert not beside(index).exists()
        deadline = time.monotonic() + 20
        while not size(index) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert size(index)


def test_a_rebuilt_index_begins_without_states(folder, index):
    with Kept(index, settings=PLAIN) as assistant:
        assistant.sync(folder)
    asked(index)
    with Kept(index, settings=PLAIN) as assistant:
        assistant.sync(folder, rebuild=True)
    assert paths(index) == set()


def test_none_are_kept_where_that_is_not_wanted(folder, index):
    with Kept(index, settings=replace(PLAIN, kept_states_mb=0)) as assistant:
        assistant.sync(folder)
        assistant.ask(QUESTION).answer  # noqa: B018
    assert not beside(index).exists()


def test_other_labels_find_nothing_of_a_document_that_they_may_not_see(folder, index):
    with Kept(index, settings=PLAIN) as assistant:
        assistant.sync(folder / "leave.md", label="hr")
        assistant.sync(folder / "policy.md")
    without = asked(index, POLICY, labels=[])
    discard(index)
    with Kept(index, settings=PLAIN, labels=["hr"]) as assistant:
        assistant.ask(QUESTION, where=parse_filter(["path~*leave.md"])).answer  # noqa: B018
    assert paths(index) == {(folder / "leave.md").resolve().as_posix()}
    assert asked(index, POLICY, labels=[]) == without
    assert asked(index, POLICY, labels=[]) > without  # what it has computed itself


def test_an_unwritable_or_foreign_file_does_not_keep_anybody_from_an_answer(folder, index):
    with Kept(index, settings=PLAIN) as assistant:
        assistant.sync(folder)
        expected = assistant.ask(QUESTION).answer.text
    beside(index).unlink()
    beside(index).write_bytes(b"not a database" * 50)
    with Kept(index, settings=PLAIN) as assistant:
        assert assistant.ask(QUESTION).answer.text == expected


def paths(index: Path) -> set[str]:
    """The documents that there are states of."""
    if not size(index):
        return set()
    connection = apsw.Connection(str(beside(index)), flags=apsw.SQLITE_OPEN_READONLY)
    found = {path for (path,) in connection.execute("SELECT path FROM states")}
    connection.close()
    return found
