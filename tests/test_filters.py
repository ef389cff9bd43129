"""What users type as filters becomes exactly the conditions they mean, or one sentence with an example."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.errors import UsageProblem
from edgeai.filters import MAX_VALUE, TEXT_FIELDS, Condition, Filter, parse_filter

NOW = 1_750_000_000.0
DAY = 86_400
ANY_TEXT = st.text(st.characters(exclude_categories=()))  # with lone surrogates


def local(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path~*.pdf", Condition("path", "~", "*.pdf")),
        (" Title = Annual report ", Condition("title", "=", "Annual report")),
        ("type=PDF", Condition("type", "=", "pdf")),
        ("tag!=draft", Condition("tag", "!=", "draft")),
        ("label=", Condition("label", "=", "")),
        ("title=a=b<c", Condition("title", "=", "a=b<c")),
        ("modified<7d", Condition("modified", "<", NOW - 7 * DAY)),
        ("modified>=2025-01-31T14:00", Condition("modified", ">=", local("2025-01-31T14:00"))),
        ("modified>2025-01-31T14:00+00:00", Condition("modified", ">", 1_738_332_000.0)),
    ],
)
def test_a_condition_is_field_operator_value(text, expected):
    assert parse_filter([text], now=NOW) == Filter((expected,))


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("modified=2025-01-31", [(">=", "2025-01-31"), ("<", "2025-02-01")]),
        ("modified<2025-01-31", [("<", "2025-01-31")]),
        ("modified<=2025-01-31", [("<", "2025-02-01")]),
        ("modified>2025-01-31", [(">=", "2025-02-01")]),
        ("modified>=2025-01-31", [(">=", "2025-01-31")]),
    ],
)
def test_a_date_stands_for_its_whole_day(text, bounds):
    expected = tuple(Condition("modified", operator, local(day)) for operator, day in bounds)
    assert parse_filter([text], now=NOW).conditions == expected


@pytest.mark.parametrize(("age", "seconds"), [("12h", 43_200), ("7d", 604_800), ("4W", 2_419_200), (" 1 d ", 86_400)])
def test_newer_than_counts_an_age_from_now(age, seconds):
    assert parse_filter(newer_than=age, now=NOW).conditions == (Condition("modified", ">=", NOW - seconds),)


def test_newer_than_takes_a_date():
    assert parse_filter(newer_than="2025-01-31").conditions == (Condition("modified", ">=", local("2025-01-31")),)


def test_without_a_given_now_ages_count_from_the_clock():
    (condition,) = parse_filter(newer_than="1h").conditions
    assert abs(datetime.now().timestamp() - 3600 - float(condition.value)) < 60


def test_tags_types_and_labels_are_taken_over():
    parsed = parse_filter(tags=["a", "b"], types=["PDF"], labels=["hr", ""])
    assert parsed.conditions == (Condition("tag", "=", "a"), Condition("tag", "=", "b"), Condition("type", "=", "pdf"))
    assert parsed.labels == frozenset({"hr", ""})


def test_no_labels_is_not_the_same_as_nothing_visible():
    assert parse_filter().labels is None
    assert parse_filter(labels=[]).labels == frozenset()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "=x",
        "size>3",
        "path>a",
        "tag<=b",
        "path=",
        "title~",
        "modified~2025*",
        "modified!=2025-01-31",
        "modified=7d",
        "modified=2025-01-31T10:00",
        "modified>yesterday",
        "modified>2025-13-01",
        "modified<=9999-12-31",
        "modified>",
        "path=a\0b",
        "path=\udcff",
        "path~" + "*" * (MAX_VALUE + 1),
    ],
)
def test_nonsense_is_refused_with_an_example_of_the_right_form(text):
    with pytest.raises(UsageProblem, match=r"2025-01-31|such as|characters"):
        parse_filter([text])


@pytest.mark.parametrize("value", ["", "soon", "7 moons", "-3d", "９d", "2025-02-30"])
def test_newer_than_refuses_what_is_no_time(value):
    with pytest.raises(UsageProblem, match="7d"):
        parse_filter(newer_than=value)


@pytest.mark.parametrize("given_as", ["tags", "types"])
def test_empty_tags_and_types_are_refused(given_as):
    with pytest.raises(UsageProblem):
        parse_filter(**{given_as: [""]})


@settings(deadline=None)
@given(ANY_TEXT, ANY_TEXT)
def test_any_text_is_parsed_or_refused(text, newer_than):
    for arguments in ({"where": [text]}, {"newer_than": newer_than}, {"tags": [text]}):
        try:
            parsed = parse_filter(**arguments)
        except UsageProblem as error:
            assert str(error)
        else:
            assert len(parsed.conditions) == 1


@settings(deadline=None)
@given(st.sampled_from([f for f in TEXT_FIELDS if f != "type"]), st.sampled_from(["=", "!=", "~"]), st.text(min_size=1))
def test_a_value_arrives_as_typed_but_for_outer_space(field, operator, value):
    stripped = value.strip()
    if stripped and "\0" not in value and not stripped.startswith("="):
        assert parse_filter([f"{field}{operator}{value}"]).conditions[0].value == stripped
