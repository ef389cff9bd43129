"""Measuring a machine: real engines, figures that hang together."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from tiny_gguf import write_tiny_gguf
from toy_reader import write_reader

from edgeai import tune
from edgeai.budget import Rate, Rates
from edgeai.cli import main
from edgeai.llm.generate import LlamaGenerator
from edgeai.onnx.reader import OnnxReader


def test_a_generator_is_measured_with_prompts_it_has_not_seen(tmp_path):
    spec = replace(write_tiny_gguf(tmp_path / "tiny.gguf"), independent=True)
    generator = LlamaGenerator(spec, threads=1, context=1024)
    found = tune.measured_rates(generator, 0.01)
    generator.close()
    assert found.prefill.mean > 0
    assert found.forward.mean > 0
    assert found.read.mean == 0.01
    assert tune.room(found, 300) > 0


@pytest.mark.parametrize(("text", "count"), [("135M", 135e6), ("1.7B", 1.7e9), ("0.6 B", 0.6e9), ("", 0), ("many", 0)])
def test_a_number_of_weights_is_read_as_the_catalog_writes_it(text, count):
    assert tune.count_weights(text) == count


def measured(model: str, weights: float, prefill: float) -> tune.Tuned:
    rates = Rates(Rate(0.02, 0), Rate(prefill, 0), Rate(8, 0))
    return tune.Tuned(model, weights, tune.Way(2, flash_attention=True), rates, tune.room(rates, 300))


def test_of_models_that_have_time_the_largest_is_chosen_and_others_are_judged_by_their_size():
    small = measured("small", 1e8, 0.5)
    double, huge = (tune.estimated(name, weights, small, 300) for name, weights in (("double", 2e8), ("huge", 1e11)))
    assert double.rates.prefill.mean == pytest.approx(1.0)
    assert double.rates.read == small.rates.read  # the reader stays
    assert (small.meets, double.meets, huge.meets) == (True, True, False)
    assert tune.largest([small, double, huge]) == double
    assert tune.largest([huge]) is None


def test_a_reader_is_measured_by_the_character(tmp_path):
    reader = OnnxReader(write_reader(tmp_path))
    assert 0 < tune.measure_reader(reader) < 1
    reader.close()


@given(st.floats(0.5, 10), st.floats(5, 50), st.floats(100, 2_000))
def test_slower_machines_and_smaller_budgets_leave_less_room(prefill, forward, budget_ms):
    rates = Rates(Rate(0.02, 0), Rate(prefill, 0), Rate(forward, 0))
    slower = Rates(Rate(0.02, 0), Rate(2 * prefill, 0), Rate(forward, 0))
    assert tune.room(slower, budget_ms) <= tune.room(rates, budget_ms) <= tune.room(rates, 2 * budget_ms)
    assert tune.room(rates, 20) == 0


@pytest.mark.parametrize(("cores", "expected"), [((2, 2), [1, 2]), ((8, 16), [1, 4, 8, 16]), ((1, 1), [1])])
def test_thread_counts_are_different_and_possible(cores, expected):
    assert list(tune.thread_counts(*cores)) == expected


def test_without_a_model_there_is_nothing_to_measure(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEAI_HOME", str(tmp_path))
    result = CliRunner().invoke(main, ["tune", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == []
    assert "models pull" in result.stderr


def test_a_budget_that_is_none_is_a_usage_error():
    assert CliRunner().invoke(main, ["tune", "--budget", "soon"]).exit_code == 2
