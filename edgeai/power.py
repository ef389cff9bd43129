"""Whether this computer runs on its battery. Where the system does not say, it is taken to be plugged in."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

SUPPLIES = Path("/sys/class/power_supply")  # https://docs.kernel.org/power/power_supply_class.html


def on_battery() -> bool:
    """Whether the power comes from a battery at the moment; takes well below a millisecond."""
    if sys.platform == "win32":
        # SYSTEM_POWER_STATUS: four bytes, the first of them 0 while the line is offline, and two counts of seconds.
        status = (ctypes.c_uint32 * 3)()
        return bool(ctypes.windll.kernel32.GetSystemPowerStatus(status)) and status[0] & 0xFF == 0
    if sys.platform == "darwin":
        remaining = ctypes.CDLL("/System/Library/Frameworks/IOKit.framework/IOKit").IOPSGetTimeRemainingEstimate
        remaining.restype = ctypes.c_double
        return bool(remaining() != -2.0)  # kIOPSTimeRemainingUnlimited
    return discharging(SUPPLIES)


def discharging(supplies: Path) -> bool:
    """Whether a battery of the computer itself is being emptied, as Linux tells in this folder."""
    return any(
        _value(supply / "type") == "Battery"
        and _value(supply / "scope") != "Device"  # of a mouse or a headset
        and _value(supply / "status") == "Discharging"
        for supply in supplies.glob("*")
    )


def _value(attribute: Path) -> str:
    try:
        return attribute.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # an attribute that this supply does not have, or that is gone because it was unplugged
        return ""
