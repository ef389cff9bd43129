"""The two stories end to end on real files, real SQLite and the shipped embedder; the generator is scripted where its
words matter, and real in test_end_to_end.py."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

import edgeai
from edgeai import pipeline, prompt
from edgeai.config import Settings
from edgeai.errors import EmbedderMismatch, IndexMissing, NothingToIndex, PathNotFound
from edgeai.records import Piece
from edgeai.specs import ChatTemplate, GeneratorSpec

LEAVE = "# Leave\n\n## Parental leave\n\nParents may take 20 weeks of paid parental leave for each child.\n"
TRAVEL = "# Travel\n\nFlights are booked only when the train takes more than six hours.\n"


class Scripted:
    """A generator that says one sentence, whatever it is asked."""

    def __init__(self, says: str) -> None:
        template = ChatTemplate(("<s>", "$system"), ("</s>",), ("</s>",), {"<s>": 1, "</s>": 2})
        self.spec = GeneratorSpec("scripted", "", "", template)
        self.says = says
        self.prompts: list[str] = []

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def load(self) -> None:
        pass

    def missing(self, texts):
        return [self.count_tokens(text) for text in texts]

    def prepare(self, segments):
        self.prepared = [segment.text for segment in segments if segment.role == "passage"]

    def stream(self, request, deadline=None):
        self.prompts.append("".join(segment.text for segment in request.segments))
        for word in self.says.split(" "):
            yield Piece(word + " ")
        yield Piece("", finish="stop", prompt_tokens=9, output_tokens=3)

    def close(self) -> None:
        pass


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "leave.md").write_text(LEAVE)
    (folder / "travel.md").write_text(TRAVEL)
    return folder


@pytest.fixture
def assistant(tmp_path: Path):
    with edgeai.Assistant(tmp_path / "notes.db", model="none") as opened:
        yield opened


def names(paths) -> list[str]:
    return [Path(path).name for path in paths]


def ask(assistant, docs, generator, question, budget_ms=0, **options):
    assistant.sync(docs)
    engines = pipeline.Engines(assistant.open_store(), assistant.embedder, lambda: generator)
    return pipeline.ask(question, engines, Settings(budget_ms=budget_ms), **options)


def test_sync_reports_what_changed_and_a_second_sync_does_nothing(assistant, docs):
    first = assistant.sync(docs)
    assert names(first.added) == ["leave.md", "travel.md"]
    assert first.chunks == 2
    second = assistant.sync(docs)
    assert (second.unchanged, second.chunks, second.added) == (2, 0, ())
    assert assistant.check() == []


def test_sync_follows_edits_moves_and_deletions(assistant, docs):
    assistant.sync(docs)
    (docs / "leave.md").write_text(LEAVE.replace("20 weeks", "26 weeks"))
    (docs / "travel.md").rename(docs / "trips.md")
    report = assistant.sync(docs)
    assert names(report.changed) == ["leave.md"]
    assert names(report.moved) == ["trips.md"]
    assert report.removed == ()
    assert "26 weeks" in assistant.search("parental leave")[0].chunk.text
    (docs / "trips.md").unlink()
    assert names(assistant.sync(docs).removed) == ["trips.md"]
    assert {Path(hit.path).name for hit in assistant.search("flights train hours")} == {"leave.md"}
    assert assistant.check() == []


def test_an_edit_is_answered_from_the_new_text_at_once(assistant, docs):
    assistant.sync(docs)
    for weeks in (21, 22, 23):
        (docs / "leave.md").write_text(LEAVE.replace("20 weeks", f"{weeks} weeks"))
        assistant.sync(docs)
        assert f"{weeks} weeks" in assistant.ask("How long is parental leave?").answer.text


def test_a_moved_file_is_cited_where_it_is_and_a_removed_one_not_at_all(assistant, docs):
    assistant.sync(docs)
    moved = docs / "leave.md"
    for name in ("absence.md", "holidays.md"):
        moved = moved.rename(docs / name)
        assistant.sync(docs)
        answer = assistant.ask("How long is parental leave?").answer
        assert names(citation.path for citation in answer.citations) == [name]
    moved.unlink()
    assistant.sync(docs)
    assert "20 weeks" not in assistant.ask("How long is parental leave?").answer.text


def test_one_bad_file_never_stops_the_rest(assistant, docs):
    (docs / "broken.pdf").write_bytes(b"%PDF-1.7 this is not a PDF")
    (docs / "empty.txt").write_text("")
    report = assistant.sync(docs)
    assert names(report.added) == ["leave.md", "travel.md"]
    assert sorted(names(item.path for item in report.skipped)) == ["broken.pdf", "empty.txt"]
    assert all(item.reason for item in report.skipped)


def test_tags_and_labels_stay_until_they_are_changed(assistant, docs):
    assistant.sync(docs / "leave.md", tags=["people"], label="hr")
    (docs / "leave.md").write_text(LEAVE + "\nMore.\n")
    assistant.sync(docs)
    file = assistant.open_store().files()[(docs / "leave.md").resolve().as_posix()]
    assert (file.tags, file.label) == (("people",), "hr")
    assistant.sync(docs, label="")
    assert all(file.label == "" for file in assistant.open_store().files().values())


def test_a_caller_restricted_to_labels_never_sees_other_documents(tmp_path, assistant, docs):
    assistant.sync(docs / "travel.md")
    assistant.sync(docs / "leave.md", label="hr")
    settings = Settings(model="none", labels="sales")
    with edgeai.Assistant(assistant.index, settings=settings) as restricted:
        assert names({hit.path for hit in restricted.search("parental leave")}) == ["travel.md"]
        answer = restricted.ask("How long is parental leave?").answer
        assert "20 weeks" not in answer.text
        assert restricted.document(docs / "leave.md") is None
    with edgeai.Assistant(assistant.index, settings=Settings(model="none", labels="hr")) as allowed:
        assert "20 weeks" in allowed.ask("How long is parental leave?").answer.text


def test_citations_are_exact_slices_of_the_document(assistant, docs):
    assistant.sync(docs)
    answer = assistant.ask("How long is parental leave?").answer
    assert (answer.status, answer.mode) == ("answered", "extractive")
    for citation in answer.citations:
        document = assistant.document(citation.path)
        assert document.text[citation.start : citation.end] == citation.quote
    assert answer.degraded == ()  # nothing was cut: no generator is what was asked for


def test_a_supported_sentence_is_shown_with_its_citation(assistant, docs):
    said = "Parents may take 20 weeks of paid parental leave [1]."
    answer = ask(assistant, docs, Scripted(said), "How long is parental leave?").answer
    assert (answer.text, answer.mode, answer.status) == (said, "generated", "answered")
    assert [citation.n for citation in answer.citations] == [1]
    assert answer.timings.total >= answer.timings.embed + answer.timings.search > 0


def test_an_invented_number_never_reaches_the_user(assistant, docs):
    generator = Scripted("Parents may take 52 weeks of paid parental leave [1].")
    answer = ask(assistant, docs, generator, "How long is parental leave?").answer
    assert "52" not in answer.text
    assert answer.mode == "extractive"
    assert "20 weeks" in answer.text


def test_a_true_sentence_about_something_else_gives_way_to_the_one_that_was_asked_for(assistant, docs):
    (docs / "leave.md").write_text(LEAVE + "\nUnpaid leave may be taken for six months.\n")
    generator = Scripted("Unpaid leave may be taken for six months [1].")
    answer = ask(assistant, docs, generator, "How many weeks of paid parental leave are there?").answer
    assert (answer.mode, answer.degraded) == ("extractive", ("not the best sentence",))
    assert "20 weeks" in answer.text


def test_without_time_to_generate_the_passages_speak(assistant, docs):
    generator = Scripted("Parents may take 20 weeks of paid parental leave [1].")
    answer = ask(assistant, docs, generator, "How long is parental leave?", budget_ms=20).answer
    assert answer.mode == "extractive"
    assert answer.degraded[-1] == "no time to generate"
    assert "20 weeks" in answer.text
    assert not generator.prompts
    assert not hasattr(generator, "prepared")  # it reads passages one after another


def test_what_there_was_no_time_for_is_prepared_for_the_next_question(assistant, docs):
    generator = Scripted("Parents may take 20 weeks of paid parental leave [1].")
    generator.spec = replace(generator.spec, independent=True)
    generator.missing = lambda texts: [100_000 for _ in texts]
    answer = ask(assistant, docs, generator, "How long is parental leave?", budget_ms=60_000).answer
    assert answer.degraded[-1] == "no time to generate"
    assert any("20 weeks" in text for text in generator.prepared)


def test_passages_that_were_cut_are_prepared_whole_for_the_next_question(assistant, docs):
    generator = Scripted("Parents may take 20 weeks of paid parental leave [1].")
    generator.spec = replace(generator.spec, independent=True)
    generator.missing = lambda texts: [0 if "20 weeks" in text else 100_000 for text in texts]
    answer = ask(
        assistant, docs, generator, "How long is parental leave, and who books flights?", budget_ms=60_000
    ).answer
    assert answer.degraded == ("fewer passages",)
    assert len(generator.prepared) == len(answer.passages) == 2
    assert "Flights" not in generator.prompts[0]


def test_with_time_enough_nothing_is_cut(assistant, docs):
    generator = Scripted("Parents may take 20 weeks of paid parental leave [1].")
    answer = ask(assistant, docs, generator, "How long is parental leave?", budget_ms=60_000).answer
    assert (answer.mode, answer.degraded) == ("generated", ())


def test_the_models_refusal_is_a_refusal(assistant, docs):
    answer = ask(assistant, docs, Scripted(prompt.REFUSAL), "Who approves parental leave?").answer
    assert (answer.text, answer.status, answer.citations) == (prompt.REFUSAL, "refused", ())


def test_nothing_found_means_no_model_is_even_asked_for(assistant, docs):
    assistant.sync(docs)

    def never():
        raise AssertionError("the generator was asked for")

    engines = pipeline.Engines(assistant.open_store(), assistant.embedder, never)
    answer = pipeline.ask("Which exoplanets orbit Trappist?", engines, Settings()).answer
    assert (answer.text, answer.status) == (prompt.REFUSAL, "refused")


def test_a_follow_up_finds_what_the_conversation_is_about(assistant, docs):
    generator = Scripted("Parents may take 20 weeks of paid parental leave [1].")
    history = (edgeai.Turn("Is there paid parental leave?", "Yes, parents may take paid parental leave [1]."),)
    answer = ask(assistant, docs, generator, "How long is it?", history=history).answer
    assert Path(answer.passages[0].path).name == "leave.md"
    assert "Is there paid parental leave?" in generator.prompts[0]


def test_errors_name_what_is_missing(assistant, tmp_path):
    with pytest.raises(IndexMissing):
        assistant.search("anything")
    with pytest.raises(PathNotFound):
        assistant.sync(tmp_path / "nowhere")
    (tmp_path / "hollow").mkdir()
    with pytest.raises(NothingToIndex):
        assistant.sync(tmp_path / "hollow")


def test_an_index_of_another_embedder_is_refused_and_can_be_rebuilt(assistant, docs):
    assistant.sync(docs)
    assistant.open_store()
    import apsw

    connection = apsw.Connection(str(assistant.index))
    connection.execute("UPDATE meta SET value = json_set(value, '$.embedder', 'another') WHERE key = 'maker'")
    connection.close()
    with edgeai.Assistant(assistant.index, model="none") as opened:
        with pytest.raises(EmbedderMismatch, match="--rebuild"):
            opened.search("leave")
        assert len(opened.sync(docs, rebuild=True).added) == 2
        assert opened.search("parental leave")
        assert opened.check() == []


def test_many_threads_may_ask_while_one_syncs(assistant, docs):
    assistant.sync(docs)
    wrong: list[object] = []

    def work(number: int) -> None:
        try:
            for _ in range(5):
                text = assistant.ask("How long is parental leave?").answer.text
                if "weeks" not in text:
                    wrong.append(text)
        except Exception as error:  # the thread must not die silently
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for weeks in range(5):
        (docs / "leave.md").write_text(LEAVE.replace("20 weeks", f"{weeks + 30} weeks"))
        os.utime(docs / "leave.md", (time.time() + weeks, time.time() + weeks))
        assistant.sync(docs)
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_export_imports_to_the_same_answers(assistant, docs, tmp_path):
    from edgeai.transfer import export_lines, import_lines

    assistant.sync(docs, tags=["t"], label="hr")
    lines = list(export_lines(assistant.open_store()))
    with edgeai.Assistant(tmp_path / "copy.db", model="none") as copy:
        assert import_lines(lines, store=copy.open_store(create=True), embedder=copy.embedder) == 2
        assert copy.check() == []
        original, again = assistant.search("parental leave"), copy.search("parental leave")
        assert [(hit.path, hit.chunk) for hit in original] == [(hit.path, hit.chunk) for hit in again]
        assert {file.label for file in copy.open_store().files().values()} == {"hr"}


def test_a_title_made_from_the_name_follows_the_name(assistant, docs):
    (docs / "gate-code.txt").write_text("It is 4711 since Monday.")
    assistant.sync(docs)
    (docs / "gate-code.txt").rename(docs / "door-code.txt")
    (docs / "leave.md").rename(docs / "absence.md")
    assert len(assistant.sync(docs).moved) == 2
    titles = {Path(document.path).name: document.title for document in assistant.open_store().documents()}
    assert titles["door-code.txt"].casefold() == "door code"
    assert titles["absence.md"] == "Leave"
