"""What a caller asks for, turned into conditions on documents: `--where`, `--tag`, `--type`, `--newer-than`, labels.

Pure parsing: it does not know how an index evaluates a condition, nor whether anything matches. Labels are compared
as they are; who may see which label is decided by whoever calls.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NoReturn

from edgeai.errors import UsageProblem

TEXT_FIELDS = ("path", "type", "title", "tag", "label")
TIME_FIELD = "modified"
TEXT_OPERATORS = ("=", "!=", "~")
TIME_OPERATORS = ("=", "<", "<=", ">", ">=")
MAX_VALUE = 1000  # characters; the cost of matching a glob grows with its length

_CONDITION = re.compile(r"\s*(?P<field>\w+)\s*(?P<operator>!=|<=|>=|=|<|>|~)\s*(?P<value>.*?)\s*", re.DOTALL)
_AGE = re.compile(r"(?P<count>\d{1,6})\s*(?P<unit>[hdw])", re.IGNORECASE | re.ASCII)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_SECONDS = {"h": 3600, "d": 86_400, "w": 604_800}
_EXAMPLES = "path~*.pdf, type=markdown, title~*plan*, tag=finance, label!=draft, modified>=2025-01-31"
_TIME_EXAMPLES = 'a date such as 2025-01-31, a time such as 2025-01-31T14:00, or an age such as "12h", "7d" or "4w"'


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison of a document's field; `modified` is compared with seconds since the epoch."""

    field: str
    operator: str
    value: str | float


@dataclass(frozen=True, slots=True)
class Filter:
    """The documents a search may return.

    All conditions must hold, except that several `=` on the same one of path, type, title and label are alternatives.
    `labels` are the access labels this caller may see ("" = documents without one); None = all.
    """

    conditions: tuple[Condition, ...] = ()
    labels: frozenset[str] | None = None


EVERYTHING = Filter()


def parse_filter(
    where: Sequence[str] = (),
    tags: Iterable[str] = (),
    types: Iterable[str] = (),
    newer_than: str | None = None,
    labels: Iterable[str] | None = None,
    *,
    now: float | None = None,
) -> Filter:
    """Build a `Filter` from what a user typed; raises `UsageProblem` with an example of the right form.

    `where` holds conditions like `path~*.pdf`: a field, an operator (`=`, `!=`, `~` for a glob; for `modified` also
    `<`, `<=`, `>`, `>=`) and a value, compared with regard to case. Every tag must be present, any of `types` will do.
    Times without an offset are local. `now` (seconds since the epoch) is what ages count from.
    """
    moment = time.time() if now is None else now
    conditions = [condition for text in where for condition in _condition(text, moment)]
    conditions += [Condition("tag", "=", _text("tag", tag)) for tag in tags]
    conditions += [Condition("type", "=", _text("type", kind).lower()) for kind in types]
    if newer_than is not None:
        conditions.append(Condition(TIME_FIELD, ">=", _time(newer_than, moment)))
    return Filter(tuple(conditions), None if labels is None else frozenset(labels))


def _condition(text: str, now: float) -> Iterator[Condition]:
    match = _CONDITION.fullmatch(text)
    if match is None:
        _refuse(f"{text!r} is not a condition", f"write a field, an operator and a value: {_EXAMPLES}")
    field, operator, value = match["field"].lower(), match["operator"], match["value"]
    if field == TIME_FIELD:
        yield from _time_conditions(operator, value, now)
    elif field not in TEXT_FIELDS:
        _refuse(f"There is no field {field!r}", f"use one of {', '.join((*TEXT_FIELDS, TIME_FIELD))}: {_EXAMPLES}")
    elif operator not in TEXT_OPERATORS:
        _refuse(f"{operator!r} does not apply to {field}", f"use = or != for equality, ~ for a glob: {_EXAMPLES}")
    else:
        value = value.lower() if field == "type" else value
        yield Condition(field, operator, _text(field, value, empty=field == "label"))


def _time_conditions(operator: str, value: str, now: float) -> Iterator[Condition]:
    """A bare date stands for its whole day, so it has two ends."""
    if operator not in TIME_OPERATORS:
        _refuse(f"{operator!r} does not apply to {TIME_FIELD}", f"use =, <, <=, > or >= with {_TIME_EXAMPLES}")
    start = _time(value, now)
    if not _DAY.fullmatch(value):
        if operator == "=":
            _refuse(f"{TIME_FIELD}= needs a whole day", f"write {TIME_FIELD}=2025-01-31, or use < and >")
        yield Condition(TIME_FIELD, operator, start)
        return
    end = _seconds(value, timedelta(days=1))
    if operator in ("=", ">="):
        yield Condition(TIME_FIELD, ">=", start)
    if operator in ("=", "<="):
        yield Condition(TIME_FIELD, "<", end)
    if operator == "<":
        yield Condition(TIME_FIELD, "<", start)
    if operator == ">":
        yield Condition(TIME_FIELD, ">=", end)


def _time(value: str, now: float) -> float:
    age = _AGE.fullmatch(value.strip())
    if age:
        return now - int(age["count"]) * _SECONDS[age["unit"].lower()]
    return _seconds(value.strip(), timedelta())


def _seconds(value: str, later: timedelta) -> float:
    """Seconds since the epoch; days are added to the calendar date, so that they may have 23 or 25 hours."""
    try:
        return (datetime.fromisoformat(value) + later).timestamp()
    except (ValueError, OverflowError, OSError):  # the last two: years the platform's clock cannot express
        _refuse(f"{value!r} is not a time", f"write {_TIME_EXAMPLES}")


def _text(field: str, value: str, *, empty: bool = False) -> str:
    if not value and not empty:
        _refuse(f"The value for {field} is empty", f"write for example {_EXAMPLES}")
    if len(value) > MAX_VALUE or "\0" in value or not _encodable(value):
        _refuse(f"The value for {field} is not usable text", f"give at most {MAX_VALUE} ordinary characters")
    return value


def _encodable(value: str) -> bool:
    """Command line arguments that were not valid text hold lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _refuse(problem: str, remedy: str) -> NoReturn:
    raise UsageProblem(f"{problem}; {remedy}.")
