"""What kind of value a stretch of text states (a quantity, a date, a time, a name), and whether two of them differ.

Pure. Only values of the same kind and unit are ever said to differ; everything else counts as not comparable, because
saying that sources differ where they do not is worse than missing that they do. Of units only those of time up to weeks
are converted. English only where words matter (months, number words, units); elsewhere digits count.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from itertools import takewhile
from typing import TypeVar

from edgeai.grounding.cite import content, evidence
from edgeai.text.terms import words

LONGEST = 12  # words; a longer span is a statement, which may hold values of several things
LONGEST_NAME = 4
CONTEXT = 30  # characters around a span in which its unit may stand
CURRENCIES = frozenset({"euro", "dollar", "pound", "yen"})  # prices are not rounded: "€2" is not "€1.60"
MOST_APART = 10  # times; values that are further apart are of different things
VAGUE_SHARE = Decimal("0.25")  # "about 100" and "120" may well be the same

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?P<month>Jan|Feb|Mar|Apr|May|June?|July?|Aug|Sept?|Oct|Nov|Dec)(?:uary|ruary|ch|il|ust|tember|ober|ember)?\b"
)
_DAY = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>(?:1\d|20|21)\d\d)"
_DATES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"\b{_YEAR}-(?P<number>[01]\d)(?:-(?P<day>[0-3]\d))?\b",
        rf"\b(?P<day>[0-3]?\d)[./](?P<number>[01]?\d)[./]{_YEAR}\b",
        rf"\b(?:{_DAY}\s+(?:of\s+)?)?\b{_MONTH}\.?,?(?:\s+{_YEAR}\b)?",
        rf"\b{_MONTH}\.?\s+{_DAY}\b(?:,?\s+{_YEAR}\b)?",
    )
)
_BARE_YEAR = re.compile(rf"(?<![\d.,€$£¥])\b{_YEAR}\b(?![.,]?\d)(?!\s*(?:[%€$£¥°]|[^\W\d_]))")
_TIME = re.compile(
    r"(?<![\d.,:])(?P<hour>2[0-4]|[01]?\d)(?!\d)(?:(?P<mark>[:.])(?P<minute>[0-5]\d)(?!\d))?"
    r"\s*(?P<half>[ap]\.?m\b\.?|o'clock|Uhr)?",
    re.IGNORECASE,
)
_NAMED_TIME = re.compile(r"\b(?P<name>noon|midday|midnight)\b", re.IGNORECASE)
_TIMELY = re.compile(r"\b(?:at|until|till|by|from|before|after|to)\s+$", re.IGNORECASE)
_WEEKDAY = re.compile(r"\b(mon|tues?|wed(?:nes)?|thurs?|fri|sat(?:ur)?|sun)day", re.IGNORECASE)

_DIGITS = r"\d+(?:[.,'’\u00a0\u202f]\d+)*"
_SCALES = {"thousand": 3, "k": 3, "million": 6, "m": 6, "billion": 9, "bn": 9}
_SCALE = rf"(?:[ ]?(?P<scale>{'|'.join(_SCALES)})\b)?"
_NUMBER = re.compile(
    rf"(?<![\w.,])(?P<low>{_DIGITS})(?P<ordinal>(?:st|nd|rd|th)\b)?"
    rf"(?:\s*(?:-|–|—|to)\s*[€$£¥]?(?P<high>{_DIGITS}))?{_SCALE}",
    re.IGNORECASE,
)
_SYMBOL_BEFORE = re.compile(r"(?P<symbol>[€$£¥])\s?$")
_LABEL_BEFORE = re.compile(r"\b(?P<word>[^\W\d_]{3,})\s+$")
_UNIT_AFTER = re.compile(r"[ \u00a0-]?(?P<symbol>[€$£¥%]|°\s?[CF]?\b)|(?P<words>(?:[ \u00a0-]?[^\W\d_]+\b){1,2})")
_SPELLED = re.compile(r"\b[A-Za-z]+(?:-[A-Za-z]+)?\b")
_SAME_UNIT = {
    "€": "euro", "eur": "euro", "$": "dollar", "usd": "dollar", "£": "pound", "gbp": "pound", "¥": "yen",
    "%": "percent", "percentage": "percent", "°": "degree", "°c": "degree", "h": "hour", "hr": "hour",
    "min": "minute", "s": "second", "sec": "second", "wk": "week", "yr": "year", "people": "person",
}  # fmt: skip
_SYMBOLIC = frozenset(
    _SAME_UNIT[symbol] for symbol in ("€", "$", "£", "¥", "%", "°")
)  # never left out where it is meant
_SECONDS = {"minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}  # months and years have no one length
_NO_UNIT = frozenset(
    """a after an and any are as at be been before between but by can during each every for from had has have if in
    into is it its later more must not of off on only or our over per since so that the their then there they this to
    until up was we were when which while will with without x you""".split()  # noqa: SIM905
)
_NAME_PART = re.compile(r"(?:[^\W\d_a-z][\w.'’-]*|of|de|van|von|and|&)$")
_VAGUE = re.compile(
    r"(?:\b(?:about|around|approximately|approx\.?|roughly|nearly|almost|over|under|some|circa|ca\.?|close to)|[~≈])"
    r"\s*[€$£¥]?\s*$",
    re.IGNORECASE,
)
_LIMIT = re.compile(r"(?:\b(?:(?:more|less|fewer) than|up to|at (?:least|most))|[<>])\s*[€$£¥]?\s*$", re.IGNORECASE)

Item = TypeVar("Item")
Date = tuple[int | None, int | None, int | None]  # year, month, day


@dataclass(frozen=True, slots=True)
class Amount:
    """A number with what it counts, empty where that is not said; `step` is the place of its last digit."""

    number: Decimal
    unit: frozenset[str]
    step: Decimal
    vague: bool = False
    upto: Decimal | None = None  # the other end of a range
    limit: bool = False  # the most or the least: "less than 4"


@dataclass(frozen=True, slots=True)
class Values:
    """Everything a span states that can be compared."""

    dates: tuple[Date, ...] = ()
    times: frozenset[tuple[int, bool]] = frozenset()  # minutes since midnight, and whether that half of a day is meant
    weekdays: frozenset[str] = frozenset()
    amounts: tuple[Amount, ...] = ()
    name: frozenset[str] = frozenset()  # stems of a proper name, where the span is nothing else
    initials: str = ""


def values(text: str, start: int, end: int) -> Values:
    """What `text[start:end]` states; the words around it tell units that a span leaves out."""
    span = text[start:end]
    if len(span.split()) > LONGEST or "|" in span:  # of several cells it is not known which one is meant
        return Values()
    days, rest = _dates(span)
    times, rest = _times(rest, text[:start])
    weekdays = frozenset(match[1][:3].casefold() for match in _WEEKDAY.finditer(rest))
    if days or times or weekdays:  # what is left belongs to them ("the 2nd Monday", "Platform 4, 8:30")
        return Values(days, times, weekdays)
    amounts = tuple(_amounts(span, text[:start], text[end:]))
    return Values(amounts=amounts) if amounts else Values(name=_name(span), initials=_initials(span))


def differ(one: Values, other: Values) -> bool:
    """Whether two spans state values of the same kind that cannot both be right; symmetric."""
    if one.dates and other.dates:
        return (
            _recurs(one.dates) == _recurs(other.dates)
            and not any(_same_date(a, b) for a in one.dates for b in other.dates)
            and any(_comparable_dates(a, b) for a in one.dates for b in other.dates)
        )
    if one.times and other.times:
        return not _covers(one.times, other.times, _same_time) and not _covers(other.times, one.times, _same_time)
    if one.weekdays and other.weekdays:
        return not one.weekdays & other.weekdays
    if one.amounts and other.amounts:
        return _amounts_differ(one.amounts, other.amounts)
    if one.name and other.name:
        return not one.name & other.name and not (_initialism(one, other) or _initialism(other, one))
    return False


def _covers(many: Iterable[Item], few: Iterable[Item], same: Callable[[Item, Item], bool]) -> bool:
    """Whether everything of the second is in the first."""
    return all(any(same(one, other) for one in many) for other in few)


# dates and times --------------------------------------------------------------------------------------------------


def dates(text: str) -> tuple[Date, ...]:
    """The dates of a text, in order of how they are written: (year, month, day), None for what is not said."""
    return _dates(text)[0]


def _dates(text: str) -> tuple[tuple[Date, ...], str]:
    """The dates, and the text with blanks in their place."""
    found: list[tuple[int, Date]] = []
    for pattern in (*reversed(_DATES), _BARE_YEAR):
        for match in pattern.finditer(text):
            if date := _date(match.groupdict()):
                found.append((match.start(), date))
                text = text[: match.start()] + " " * len(match.group()) + text[match.end() :]
    return tuple(date for _, date in sorted(found, key=lambda one: one[0])), text


def _date(parts: dict[str, str | None]) -> Date | None:
    """None for what is no date: "may" in lower case is excluded by the pattern, "May" alone is here."""
    name, number, day, year = (parts.get(key) for key in ("month", "number", "day", "year"))
    month = _MONTHS.index(name[:3].casefold()) + 1 if name else int(number) if number else None
    if month is not None and not 1 <= month <= 12:
        return None
    if name and not day and not year and name == "May":
        return None
    return (int(year) if year else None, month, int(day) if day else None)


def _comparable_dates(one: Date, other: Date) -> bool:
    return any(a is not None and b is not None for a, b in zip(one, other, strict=True))


def _recurs(found: Sequence[Date]) -> bool:
    """Whether these are the months in which something happens every year, which no single day contradicts."""
    return len(found) > 1 and not any(year or day for year, _, day in found)


def _same_date(one: Date, other: Date) -> bool:
    """Whether no part that both give differs."""
    return _comparable_dates(one, other) and all(
        a is None or b is None or a == b for a, b in zip(one, other, strict=True)
    )


def _times(text: str, before: str) -> tuple[frozenset[tuple[int, bool]], str]:
    found: set[tuple[int, bool]] = set()
    rest = text
    for match in _NAMED_TIME.finditer(text):
        found.add((0 if match["name"].casefold() == "midnight" else 12 * 60, True))
    for match in _TIME.finditer(text):
        timely = _TIMELY.search(before + text[: match.start()]) is not None
        if not _is_time(match, timely, text[match.end() :]):
            continue
        minutes = int(match["hour"]) % 24 * 60 + int(match["minute"] or 0)
        half = (match["half"] or "")[:1].casefold()
        if half in ("a", "p"):
            minutes = minutes % 720 + (720 if half == "p" else 0)
        found.add((minutes, half in ("a", "p") or minutes >= 13 * 60 or match["hour"].startswith("0")))
        rest = rest[: match.start()] + " " * len(match.group()) + rest[match.end() :]
    return frozenset(found), rest


def _is_time(match: re.Match[str], timely: bool, after: str) -> bool:
    """ "8:30", "8 pm", "09.30" and "until 8.30" are times, "8.30" alone may be a price."""
    if match["half"] or match["mark"] == ":":
        return True
    written_as_time = match["hour"].startswith("0") or timely
    return match["mark"] == "." and written_as_time and not re.match(r"\s*[€$£¥%\w.]", after)


def _same_time(one: tuple[int, bool], other: tuple[int, bool]) -> bool:
    """Equal, or equal where one of them does not say which half of the day it means."""
    (minutes, certain), (others, other_certain) = one, other
    return minutes == others or (minutes % 720 == others % 720 and not (certain and other_certain))


# quantities -------------------------------------------------------------------------------------------------------


def _amounts(span: str, before: str, after: str) -> Iterator[Amount]:
    """The numbers of a span with their units; a range is one amount."""
    front, told = _digits(before[-CONTEXT:]), _digits(span)
    whole = front + told + _digits(re.split(r"[|\n.;:,!?()]", after[:CONTEXT])[0])
    for match in _NUMBER.finditer(whole, len(front), len(front) + len(told)):
        scale = Decimal(10) ** _SCALES.get((match["scale"] or "").casefold(), 0)
        low = _decimal(match["low"])
        unit = _unit(whole[: match.start()], whole[match.end() :])
        if len(unit) == 1 and unit <= _SECONDS.keys():
            scale *= _SECONDS[min(unit)]
            unit = frozenset({"second"})
        yield Amount(
            low * scale,
            unit,
            Decimal(1).scaleb(int(low.as_tuple().exponent)) * scale,
            _VAGUE.search(whole[: match.start()]) is not None,
            _decimal(match["high"]) * scale if match["high"] else None,
            _LIMIT.search(whole[: match.start()]) is not None,
        )


def _digits(text: str) -> str:
    """The text with number words as digits."""
    return _SPELLED.sub(lambda match: _spelled(match.group()) or match.group(), text)


def _spelled(word: str) -> str:
    """The digits of a number word, "" for any other word."""
    said = evidence(word)
    return next(iter(said.numbers)) if len(said.numbers) == 1 and not said.stems else ""


def _decimal(number: str) -> Decimal:
    """Its canonical form is that of citations: thousands grouped by any sign, a point before decimals."""
    (canonical,) = evidence(number).numbers
    return Decimal(canonical) if canonical.count(".") < 2 else Decimal(canonical.replace(".", ""))


def _unit(before: str, after: str) -> frozenset[str]:
    """What a number counts: the currency before it, the symbol or words after it, else a noun before ("bay 11")."""
    if symbol := _SYMBOL_BEFORE.search(before):
        return frozenset({_SAME_UNIT[symbol["symbol"]]})
    if match := _UNIT_AFTER.match(after):
        if match["symbol"]:
            sign = match["symbol"].replace(" ", "").casefold()
            return frozenset({_SAME_UNIT.get(sign, sign)})
        if unit := _unit_words(words(match["words"])):
            return unit
    label = _LABEL_BEFORE.search(before)
    return _unit_words(words(label["word"])) if label else frozenset()


def _unit_words(found: Iterable[str]) -> frozenset[str]:
    """Words up to the first that can be no unit."""
    return frozenset(_SAME_UNIT.get(word, word) for word in takewhile(lambda word: word not in _NO_UNIT, found))


def _amounts_differ(one: Sequence[Amount], other: Sequence[Amount]) -> bool:
    """Whether amounts of one unit differ, and neither span says all that the other says of it.

    Spans with more amounts than the other say something else as well, and need not answer the same.
    """
    pairs = [(a, b) for a in one for b in other if _comparable(a, b)]
    if not pairs or len(one) != len(other):
        return False
    left, right = dict.fromkeys(a for a, _ in pairs), dict.fromkeys(b for _, b in pairs)
    return not _covers(left, right, _same_amount) and not _covers(right, left, _same_amount)


def _comparable(one: Amount, other: Amount) -> bool:
    """Whether two amounts may be of the same thing: of one unit as far as it is said, and of similar size."""
    low, high = sorted((one.number, other.number))
    if low and high > MOST_APART * low:
        return False
    return bool(one.unit & other.unit) or (not (one.unit and other.unit) and not (one.unit | other.unit) & _SYMBOLIC)


def _same_amount(one: Amount, other: Amount) -> bool:
    """Equal, within the range or vagueness given, or equal once the finer is rounded as the coarser was; or not
    comparable, one being a limit and the other none.
    """
    if one.limit != other.limit:
        return True
    low, high = sorted((one, other), key=lambda amount: amount.number)
    if low.upto is not None and high.number <= low.upto:
        return True
    if one.vague or other.vague:
        return high.number - low.number <= VAGUE_SHARE * high.number
    coarse, fine = sorted((one, other), key=lambda amount: -amount.step)
    if coarse.step == fine.step or coarse.unit & CURRENCIES:
        return one.number == other.number
    rounded = (fine.number / coarse.step).quantize(Decimal(1), ROUND_HALF_UP) * coarse.step
    return rounded == coarse.number


# names ------------------------------------------------------------------------------------------------------------


def _name(span: str) -> frozenset[str]:
    """Stems of a span that is nothing but a proper name, else nothing."""
    said = span.strip(" \"'“”‘’.,;:()*_")
    found = said.split()
    if not 1 <= len(found) <= LONGEST_NAME or not all(_NAME_PART.match(word) for word in found):
        return frozenset()
    return content(said).stems


def _initials(span: str) -> str:
    return "".join(word[0] for word in re.findall(r"[^\W\d_]+", span) if word[0].isupper()).casefold()


def _initialism(short: Values, long: Values) -> bool:
    return len(short.name) == 1 and len(long.initials) > 1 and next(iter(short.name)) == long.initials
