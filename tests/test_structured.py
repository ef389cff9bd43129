"""Answers in a form, end to end: real files, real index, a real llama.cpp with random weights.

Random weights say nothing on purpose, so what is asked leaves them little choice; what must hold for any weights is
that nothing is shown that is not valid and not in the documents.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_grammar import SCHEMAS
from test_merge import write_lora
from tiny_gguf import write_tiny_gguf

import edgeai
from edgeai.cli import main
from edgeai.config import Settings
from edgeai.errors import ContextTooLong, UsageProblem
from edgeai.registry.manifest import sha256
from edgeai.structured.filled import normalised
from edgeai.structured.forms import JSON_SYSTEM, LABEL_SYSTEM, as_trained, read_form
from edgeai.structured.schema import mismatches

LEAVE = "# Leave\n\nParents may take 20 weeks of paid parental leave for each child.\n"
TRAVEL = "# Travel\n\nFlights are booked only when the train takes more than six hours.\n"
QUESTION = "How long is parental leave?"
HELD, MADE_UP = {"enum": [20]}, {"enum": [99]}


def fields(**properties) -> dict:
    return {"type": "object", "properties": properties, "required": list(properties)}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_tiny_gguf(path)
    return path


@pytest.fixture(scope="module")
def docs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    (folder / "leave.md").write_text(LEAVE)
    (folder / "travel.md").write_text(TRAVEL)
    return folder


@pytest.fixture(scope="module")
def assistant(model, docs, tmp_path_factory):
    settings = Settings(model=str(model), reader="none", threads=1, context=1024)
    with edgeai.Assistant(tmp_path_factory.mktemp("index") / "notes.db", settings=settings) as opened:
        opened.sync(docs)
        yield opened


def test_values_that_the_documents_hold_are_shown_with_where_they_stand(assistant):
    schema = fields(weeks=HELD, paid={"type": "boolean"}, kind={"enum": ["leave", "travel"]})
    answer = assistant.ask(QUESTION, schema=schema).answer
    assert (answer.status, answer.mode) == ("answered", "generated")
    assert json.loads(answer.text) == answer.value
    assert answer.value["weeks"] == 20
    for citation in answer.citations:
        assert assistant.document(citation.path).text[citation.start : citation.end] == citation.quote
    [number] = answer.value_sources["/weeks"]
    assert any("20 weeks" in quote.quote for quote in answer.citations if quote.n == number)
    assert answer.timings.generate > 0
    assert answer.tokens["output"] > 0


def test_a_number_that_the_documents_do_not_hold_is_never_shown(assistant):
    refused = assistant.ask(QUESTION, schema=fields(weeks=HELD, days=MADE_UP)).answer
    assert (refused.status, refused.value) == ("refused", None)
    assert "99" not in refused.text
    optional = {**fields(weeks=HELD, days=MADE_UP), "required": ["weeks"]}
    assert assistant.ask(QUESTION, schema=optional).answer.value == {"weeks": 20}
    nullable = {"type": "array", "items": {"type": ["integer", "null"], "enum": [99, None]}}
    for _ in range(2):
        answer = assistant.ask(QUESTION, schema=fields(weeks=HELD, days=nullable)).answer
        assert set(answer.value["days"]) <= {None}


def test_a_judgement_alone_is_cited_with_the_passage_that_answers_the_question(assistant):
    answer = assistant.ask(QUESTION, schema={"type": "boolean"}).answer
    assert answer.value in (True, False)
    assert [Path(citation.path).name for citation in answer.citations] == ["leave.md"]


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schema=SCHEMAS, question=st.sampled_from([QUESTION, "When are flights booked?"]))
def test_for_any_schema_what_is_shown_is_valid_and_of_the_documents(assistant, schema, question):
    answer = assistant.ask(question, schema=schema).answer
    if answer.status == "refused":
        assert answer.value is None
        return
    assert not list(mismatches(answer.value, schema))
    bare = re.sub(r'"[^"]*":', "", answer.text)  # the names of fields are the user's own
    shown = {float(number) for number in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", bare)}
    assert shown <= {float(number) for number in re.findall(r"\d+", LEAVE + TRAVEL)} | {6.0}


def test_a_choice_is_one_of_those_given_with_its_probability(assistant):
    choices = ["yes", "no", "it depends"]
    answer = assistant.ask(QUESTION, choices=choices).answer
    assert answer.text == answer.value
    assert answer.value in choices
    assert 1 / 3 <= answer.confidence <= 1
    assert [Path(citation.path).name for citation in answer.citations] == ["leave.md"]
    assert "value" in answer.as_dict()
    again = assistant.ask(QUESTION, choices=choices[::-1]).answer
    assert again.value in choices


def test_a_model_is_told_the_fields_and_what_they_are_for():
    form = read_form(fields(weeks={"type": "integer", "description": "for each parent"}, kind={"enum": ["a", "b"]}))
    assert form.asked("How?") == (
        "How? Answer with one JSON object with the fields weeks (for each parent), kind (a or b) only."
    )
    assert read_form(choices=["a", "b"]).asked("Which?", "ab") == "Which? (Likely answer: ab) Answer with one of: a, b."


def test_the_shares_of_likelihoods_sum_to_one():
    shares = normalised([-1000.0, -1001.0, -5000.0])
    assert sum(shares) == pytest.approx(1)
    assert shares[0] / shares[1] == pytest.approx(2.718, abs=0.01)


def test_what_the_documents_do_not_speak_of_is_refused_in_any_form(assistant):
    for form in ({"schema": fields(n={"type": "integer"})}, {"choices": ["yes", "no"]}):
        answer = assistant.ask("Which exoplanets orbit Trappist?", **form).answer
        assert (answer.status, answer.value) == ("refused", None)
        assert "value" not in answer.as_dict()


def test_prose_is_as_it_was(assistant):
    assert "value" not in assistant.ask(QUESTION).answer.as_dict()


def test_a_schema_that_does_not_fit_into_the_context_is_an_error_in_a_sentence(assistant):
    large = fields(**{f"a field with a long name, number {n}": {"type": "string"} for n in range(60)})
    with pytest.raises(ContextTooLong):
        assistant.ask(QUESTION, schema=large).answer  # noqa: B018


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"schema": {"type": "string", "pattern": "x"}}, "pattern"),
        ({"schema": {"type": "object"}}, "properties"),
        ({"choices": ["yes"]}, "2 or more"),
        ({"choices": ["yes", "yes"]}, "once"),
        ({"choices": ["yes", " "]}, "not a choice"),
        ({"choices": "yes,no"}, "list"),
        ({"schema": {"type": "null"}, "choices": ["a", "b"]}, "together"),
    ],
)
def test_a_form_that_cannot_be_used_is_refused_at_once(assistant, form, says):
    with pytest.raises(UsageProblem, match=says):
        assistant.ask(QUESTION, **form)


# adapters ---------------------------------------------------------------------------------------------------------

SCHEMA = fields(weeks=HELD)
CARDS = {
    "orders": {"task": "json", "system": JSON_SYSTEM.format("weeks (20)"), "schema": SCHEMA},
    "mood": {"task": "label", "system": LABEL_SYSTEM.format("no, yes"), "labels": ["no", "yes"]},
    "brief": {"task": "grounded", "system": "Answer."},
}


@pytest.mark.parametrize(("name", "form"), [("orders", {"schema": SCHEMA}), ("mood", {"choices": ["yes", "no"]})])
def test_an_adapter_is_shown_what_it_was_trained_on(tmp_path, home, docs, name, form, monkeypatch):
    """The prompt of tools.tasks: the system sentence of its card, and one text."""
    from test_merge import write_tied_gguf

    from edgeai.llm.generate import LlamaGenerator

    base = tmp_path / "base.gguf"
    write_tied_gguf(base)
    (home / "adapters").mkdir(parents=True)
    write_lora(home / "adapters" / f"{name}.gguf", rank=4, alpha=1.0)
    (home / "adapters" / f"{name}.json").write_text(json.dumps({**CARDS[name], "base": sha256(base)}))
    seen = []
    for method in ("stream", "log_likelihoods"):
        real = getattr(LlamaGenerator, method)
        monkeypatch.setattr(
            LlamaGenerator,
            method,
            lambda self, prompt, *rest, real=real: (seen.append(prompt), real(self, prompt, *rest))[1],
        )
    settings = Settings(model=str(base), adapter=name, reader="none", threads=1)
    with edgeai.Assistant(tmp_path / "notes.db", settings=settings) as opened:
        opened.sync(docs)
        answer = opened.ask(QUESTION, **form).answer
        assert answer.status == "answered"
        assert [Path(citation.path).name for citation in answer.citations] == ["leave.md"]
        [prompt] = seen
        texts = [part.text for part in prompt.segments if not part.special]
        assert CARDS[name]["system"] in texts
        assert [part.text for part in prompt.segments if part.role == "question"] == [LEAVE.strip()]
        for other in ({"schema": fields(days=HELD)}, {"choices": ["yes", "no", "maybe"]}):
            with pytest.raises(UsageProblem, match="trained for"):
                opened.ask(QUESTION, **other)


def test_an_adapter_for_prose_is_asked_in_prose():
    form = read_form(choices=["no", "yes"])
    assert as_trained(form, CARDS["brief"]) == form
    assert as_trained(form, {}) == form


# the command line -------------------------------------------------------------------------------------------------


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def ask(assistant, model, tmp_path):
    def ask_(*arguments: object, schema: object = None) -> Result:
        if schema is not None:
            (tmp_path / "schema.json").write_text(json.dumps(schema))
            arguments = (*arguments, "--schema", tmp_path / "schema.json")
        options = ("--index", assistant.index, "--reader", "none", "--threads", 1, "--offline")
        return run("ask", QUESTION, *options, *(() if "-m" in arguments else ("-m", model)), *arguments)

    return ask_


def test_the_command_line_prints_the_value_and_its_sources(ask):
    result = ask(schema=SCHEMA)
    assert result.exit_code == 0
    assert result.stdout.startswith('{"weeks": 20}\n')
    assert "leave.md" in result.stdout
    answer = json.loads(ask("--json", schema=SCHEMA).stdout)
    assert answer["value"] == {"weeks": 20}
    assert answer["value_sources"] == {"/weeks": [answer["citations"][0]["n"]]}
    assert json.loads(ask("--json", "--choices", "yes, no").stdout)["value"] in ("yes", "no")


def test_a_batch_is_answered_in_the_same_form(ask, tmp_path):
    (tmp_path / "batch.jsonl").write_text('{"question": "How long is parental leave?", "id": 1}\n' * 2)
    lines = ask("--batch", tmp_path / "batch.jsonl", schema=SCHEMA).stdout.splitlines()
    assert [json.loads(line)["value"] for line in lines] == [{"weeks": 20}] * 2


def test_a_refusal_exits_4(ask):
    result = ask(schema=fields(weeks=MADE_UP))
    assert result.exit_code == 4
    assert "99" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "schema", "says"),
    [
        (("-m", "none"), SCHEMA, "need a language model"),
        (("-m", "none", "--choices", "yes,no"), None, "need a language model"),
        ((), {"type": "number", "minimum": 3}, "'minimum'"),
        (("--choices", "yes"), None, "2 or more"),
        (("--choices", ""), None, "not a choice"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(ask, arguments, schema, says):
    result = ask(*arguments, schema=schema)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_a_schema_file_that_is_not_there_exits_1(ask, tmp_path):
    result = ask("--schema", tmp_path / "none.json")
    assert result.exit_code == 1
    assert "cannot be read" in result.stderr
