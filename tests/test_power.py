"""Whether the power comes from a battery, on folders as Linux makes them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgeai import power

MAINS = {"type": "Mains", "online": "1"}
BATTERY = {"type": "Battery", "scope": "System", "status": "Discharging"}


def supplies(folder: Path, *given: dict[str, str]) -> Path:
    for number, attributes in enumerate(given):
        supply = folder / str(number)
        supply.mkdir()
        for name, value in attributes.items():
            (supply / name).write_text(f"{value}\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], False),
        ([MAINS], False),
        ([MAINS, {**BATTERY, "status": "Charging"}], False),
        ([MAINS, {**BATTERY, "status": "Not charging"}], False),
        ([{**MAINS, "online": "0"}, BATTERY], True),
        ([{"type": "Battery", "status": "Discharging"}], True),
        ([{**BATTERY, "scope": "Device"}], False),
        ([{"type": "Battery"}], False),
    ],
)
def test_only_a_battery_of_the_computer_that_is_being_emptied_counts(tmp_path, given, expected):
    assert power.discharging(supplies(tmp_path, *given)) is expected


def test_a_system_without_power_supplies_is_plugged_in(tmp_path):
    assert not power.discharging(tmp_path / "nowhere")


def test_this_computer_can_be_asked():
    assert power.on_battery() in (True, False)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems are asked in other ways")
def test_linux_is_asked_in_its_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(power, "SUPPLIES", supplies(tmp_path, BATTERY))
    assert power.on_battery()
