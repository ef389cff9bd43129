"""Advice follows its documented rules, and its arithmetic can be done again by hand."""

from __future__ import annotations

import json
import tomllib
from dataclasses import fields, replace

import pytest
from click.testing import CliRunner

from edgeai import advise
from edgeai.advise import Facts, gap_of, read_facts
from edgeai.cli import main
from edgeai.errors import UsageProblem
from edgeai.evaluation.run import Result, Run

FACTS = read_facts("")
GOOD = Result(
    *("1", "answerable", "How long?", ("20 weeks",), "20 weeks", "answered", 0.9, 500.0),
    values={"correct": 1.0, "exact_match": 1.0, "answered": 1.0, "recall@5": 1.0},
    lost=("",),
    tokens={"prompt": 800, "output": 20},
)
UNFOUND = replace(GOOD, values={"correct": 0.0, "answered": 1.0, "recall@5": 0.0}, lost=("not retrieved",))
WRONG = replace(GOOD, values={"correct": 0.0, "answered": 1.0, "recall@5": 1.0}, lost=("not used",))
SHY = replace(GOOD, values={"correct": 0.0, "answered": 0.0, "recall@5": 1.0}, lost=("not used",))
BOLD = replace(GOOD, values={"correct": 0.0, "refusal_recall": 0.0}, lost=())
WORDY = replace(GOOD, values={"correct": 1.0, "exact_match": 0.0, "answered": 1.0})


def run(*results: Result) -> Run:
    return Run("2026-01-01T00:00:00+00:00", {}, results)


def cli(*arguments: object):
    return CliRunner().invoke(main, ["advise", *(str(argument) for argument in arguments)])


@pytest.mark.parametrize(
    ("result", "gap"),
    [(GOOD, ""), (UNFOUND, "knowledge"), (WRONG, "accuracy"), (SHY, "behaviour"), (BOLD, "behaviour"), (WORDY, "")],
)
def test_a_wrong_answer_lacks_knowledge_behaviour_or_accuracy(result, gap):
    assert gap_of(result, strict_format=False) == gap


def test_a_right_answer_in_other_words_is_a_gap_only_where_the_format_is_strict():
    assert gap_of(WORDY, strict_format=True) == "behaviour"
    assert gap_of(GOOD, strict_format=True) == ""


@pytest.mark.parametrize(
    ("results", "changes", "first"),
    [
        ((UNFOUND, UNFOUND, WRONG), {}, "retrieval"),
        ((WRONG, WRONG, UNFOUND), {"good_examples": 500}, "fine-tuning"),
        ((WRONG, WRONG, UNFOUND), {"good_examples": 20}, "prompt"),
        ((SHY, GOOD), {}, "prompt"),
    ],
)
def test_the_largest_gap_decides_what_comes_first(results, changes, first):
    assert advise.advise(run(*results), replace(FACTS, **changes)).methods[0] == first


def test_each_of_the_seven_dimensions_gives_a_reason():
    advice = advise.advise(run(GOOD, WRONG), FACTS)
    names = ["freshness", "long-tail accuracy", "latency", "cost", "control", "compliance", "evaluability"]
    assert [one.name for one in advice.dimensions] == names
    assert all(one.reason for one in advice.dimensions)


def test_facts_turn_the_dimensions_they_are_about():
    def method(name: str, **changes: object) -> str:
        advice = advise.advise(run(GOOD, WRONG), replace(FACTS, **changes))
        return next(one.method for one in advice.dimensions if one.name == name)

    assert (method("freshness", changes_per_month=0), method("freshness", changes_per_month=9)) == ("any", "retrieval")
    assert (method("latency", latency_ms=100), method("latency", latency_ms=900)) == ("fine-tuning", "any")
    assert method("control", strict_format=True, good_examples=900) == "fine-tuning"
    assert (method("compliance", citations_required=False), method("compliance")) == ("any", "retrieval")


def test_the_break_even_is_where_both_bills_are_equal():
    facts = replace(FACTS, api_input_price=2.0, api_output_price=10.0, device_price=720.0, upkeep_hours_per_month=1)
    bill = advise.costs([GOOD, GOOD], replace(facts, upkeep_hour_price=5.0))
    assert bill.api_per_question == pytest.approx((800 * 2 + 20 * 10) / 1e6)
    assert bill.device_per_question == pytest.approx(30 * 0.5 / 3.6e6 * 0.30)
    assert bill.device_per_month == pytest.approx(25)
    api, device = bill.api_per_question * bill.break_even, bill.device_per_question * bill.break_even + 25
    assert api == pytest.approx(device)
    assert f"{bill.break_even:,.0f} questions a month" in bill.arithmetic[-1]


def test_an_api_that_costs_less_than_the_power_is_never_caught_up_with():
    bill = advise.costs([GOOD], FACTS)
    assert bill.break_even is None
    assert "never" in bill.arithmetic[-1]


def test_tokens_given_beat_those_measured_and_without_a_model_there_are_none():
    priced = replace(FACTS, api_input_price=1.0)
    assert advise.costs([GOOD], replace(priced, api_input_tokens=100)).api_per_question == pytest.approx(1e-4)
    assert advise.costs([replace(GOOD, tokens={})], priced).api_per_question == 0


def test_the_template_holds_every_fact_and_nothing_else():
    assert set(tomllib.loads(advise.TEMPLATE)) == {field.name for field in fields(Facts)}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("latency = 3", "latency"),
        ("latency_ms = -3", "latency_ms"),
        ("latency_ms = inf", "latency_ms"),
        ('latency_ms = "3"', "latency_ms"),
        ("latency_ms = true", "latency_ms"),
        ("strict_format = 1", "strict_format"),
        ("device_months = 0", "device_months"),
        ("latency_ms =", "TOML"),
    ],
)
def test_a_fact_that_cannot_be_is_named(text, named):
    with pytest.raises(UsageProblem, match=named):
        read_facts(text)


def test_the_command_goes_from_a_template_to_advice(tmp_path):
    facts, made = tmp_path / "facts.toml", tmp_path / "run.json"
    assert cli("--init", facts).exit_code == 0
    made.write_text(json.dumps(run(GOOD, UNFOUND).as_dict()), encoding="utf-8")
    assert cli("--init", facts).exit_code == 2  # it would undo what was filled in
    shown = cli(made, "--facts", facts)
    assert shown.exit_code == 0, shown.output
    assert "Largest gap: knowledge" in shown.stdout
    assert "break-even" in shown.stdout
    advice = json.loads(cli(made, "--facts", facts, "--json").stdout)
    assert list(advice) == ["gap", "gaps", "methods", "dimensions", "costs"]


def test_the_command_says_what_is_missing(tmp_path):
    without = cli(tmp_path / "run.json")
    assert (without.exit_code, "--init" in without.stderr) == (2, True)
    cli("--init", tmp_path / "facts.toml")
    gone = cli("--facts", tmp_path / "facts.toml")
    assert (gone.exit_code, "edgeai eval" in gone.stderr) == (1, True)
