"""Averaging checkpoints."""

from __future__ import annotations

import sys

import pytest

torch = pytest.importorskip("torch")

from tools import average  # noqa: E402
from tools.training import load, save  # noqa: E402


def test_the_mean_is_written_where_it_was_asked_for(tmp_path, monkeypatch):
    for name, value in (("a", 1.0), ("b", 4.0)):
        save(tmp_path / f"{name}.pt", reader={"weight": torch.full((2, 3), value)}, step=3)
    arguments = [str(tmp_path / "a.pt"), str(tmp_path / "b.pt"), "--out", str(tmp_path / "mean.pt")]
    monkeypatch.setattr(sys, "argv", ["average", *arguments])
    average.main()
    assert load(tmp_path / "mean.pt")["reader"]["weight"].tolist() == [[2.5] * 3] * 2


def test_checkpoints_of_different_models_are_not_averaged():
    with pytest.raises(KeyError):
        average.mean([{"a": torch.zeros(1)}, {"b": torch.zeros(1)}])
