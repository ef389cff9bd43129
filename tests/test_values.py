"""Which values differ, and above all which do not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.grounding.values import MOST_APART, Values, dates, differ, values

UNITS = ["days", "EUR", "kg", "km", "months", "percent", "rooms"]


def of(text: str, span: str = "") -> Values:
    start = text.index(span)
    return values(text, start, start + len(span or text))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("20 days", "25 days"),
        ("up to 5 days", "up to 7 days"),
        ("twenty days", "25 days"),
        ("30 days", "six weeks"),
        ("forty-five minutes", "50 minutes"),
        ("£1,220", "£1,250"),
        ("45 EUR", "€40"),
        ("€2", "€1.50"),
        ("6.4%", "7.1 percent"),
        ("2 million", "2.5 million"),
        ("bay 11", "bay 14"),
        ("60", "45 nights"),
        ("7 times over 24 hours", "9 times spread over 31 hours"),
        ("10 to 12 days", "14 days"),
        ("30 April 2025", "15 April"),
        ("2025-04-30", "1 May 2025"),
        ("founded in 1921", "1923"),
        ("13:30", "14:00"),
        ("8 am", "8 pm"),
        ("9:00 to 17:00", "9:00 to 18:00"),
        ("09.30", "10:00"),
        ("midnight", "00:30"),
        ("Saturdays", "on Sunday"),
        ("Turku", "Vaasa"),
        ("Ada Lovelace", "Grace Hopper"),
    ],
)
def test_different_values_of_one_kind_differ(one, other):
    assert differ(of(one), of(other))
    assert differ(of(other), of(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("20 days", "20"),
        ("20 days", "twenty days"),
        ("2 weeks", "14 days"),
        ("48 hours", "two days"),
        ("1,200 euros", "€1200"),
        ("5.0 kg", "5 kg"),
        ("1.9 million people", "1,912,400 people"),
        ("about 100 seats", "112 seats"),
        ("12 weeks", "less than four weeks"),
        ("€2", "at least €5"),
        ("more than 40 shops", "43 shops"),
        ("10 to 12 days", "11 days"),
        ("9:00 to 17:00", "9:00"),
        ("20 days", "20 days and 5 days of carry-over"),
        ("444", "01632 960 714"),
        ("30 April 2025", "30 April"),
        ("30 April 2025", "2025-04-30"),
        ("April 30, 2025", "in April"),
        ("1921", "May 1921"),
        ("April and October", "5 September 2022"),
        ("8:30", "8:30 pm"),
        ("noon", "12:00"),
        ("Monday to Friday", "Friday"),
        ("Ada Lovelace", "Lovelace"),
        ("World Health Organization", "WHO"),
    ],
)
def test_values_that_can_both_be_right_do_not_differ(one, other):
    assert not differ(of(one), of(other))
    assert not differ(of(other), of(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2 months", "45 days"),
        ("three days, and four weeks for an answer", "ten weeks"),
        ("£6.50", "58"),
        ("$414 million", "$26 billion"),
        ("20 days", "25 euros"),
        ("20 days", "1 May 2024"),
        ("5 km", "8:30"),
        ("the manager", "the director"),
        ("Ada Lovelace", "the head of the department"),
        ("if it rains", "never"),
        ("", "20 days"),
        ("| 20 days | 30 days |", "25 days"),
        ("twenty long words " * 6 + "5 days", "6 days"),
    ],
)
def test_what_is_of_another_kind_is_not_compared(one, other):
    assert not differ(of(one), of(other))


def test_a_unit_may_stand_outside_the_span():
    assert not differ(of("It takes 20 days.", "20"), of("It costs £25.", "25"))
    assert differ(of("It takes 20 days.", "20"), of("It takes 25 days.", "25"))
    assert not differ(of("Bring 20 (adults: 30). Days vary.", "20"), of("for 20 children", "20"))


def test_dates_are_read_as_far_as_they_are_given():
    assert dates("2024-05-06") == ((2024, 5, 6),)
    assert dates("6 May 2024, then June 2025") == ((2024, 5, 6), (2025, 6, None))
    assert dates("the 3rd of March and October 4") == ((None, 3, 3), (None, 10, 4))
    assert dates("06.05.2024") == ((2024, 5, 6),)
    assert dates("You may march on. 2000 euros, 1999 days") == ()


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 99_999), st.integers(0, 99_999), st.sampled_from(UNITS), st.sampled_from(UNITS))
def test_amounts_differ_when_numbers_do_and_units_do_not(number, other, unit, other_unit):
    first, second = of(f"{number} {unit}"), of(f"{other} {other_unit}")
    similar = not min(number, other) or max(number, other) <= MOST_APART * min(number, other)
    assert differ(first, second) == (unit == other_unit and number != other and similar)


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_can_be_compared_both_ways_and_with_itself(one, other):
    first, second = of(one), of(other)
    assert differ(first, second) == differ(second, first)
    assert not differ(first, first)
