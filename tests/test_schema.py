"""Which values a schema allows, and which schemas are understood."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeai.errors import PathNotFound, UsageProblem
from edgeai.structured.schema import (
    allows_null,
    check_schema,
    choices,
    described,
    in_order,
    mismatches,
    read_schema,
    types,
)

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "count": {"type": "integer"}, "state": {"enum": ["open", "closed"]}},
    "required": ["name", "count"],
}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"name": "a", "count": 1}, ""),
        ({"name": "a", "count": 1, "state": "open"}, ""),
        ({"name": "a"}, "lacks count"),
        ({"name": 1, "count": 1}, "name is not of type string"),
        ({"name": "a", "count": True}, "count is not of type integer"),
        ({"name": "a", "count": 1, "state": "ajar"}, "not one of"),
        ({"name": "a", "count": 1, "x": 1}, "does not name"),
        ([], "not of type object"),
    ],
)
def test_values_are_held_against_the_schema(value: Any, said: str) -> None:
    found = list(mismatches(value, SCHEMA))
    assert said in found[0] if said else not found


def test_items_and_several_types_are_checked() -> None:
    schema = {"type": "array", "items": {"type": ["integer", "null"]}}
    assert not list(mismatches([1, None], schema))
    assert "item 2" in next(mismatches([1, "x"], schema))


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        ([], "not a JSON object"),
        ({"pattern": "x"}, "'pattern'"),
        ({"properties": {"a": {"minimum": 1}}}, "field a of the schema uses 'minimum'"),
        ({"items": {"$ref": "#/$defs/x"}}, r"'\$ref'"),
        ({"additionalProperties": True}, "'additionalProperties'"),
        ({"type": "text"}, "'text'"),
        ({"type": 5}, "type 5"),
        ({"type": [["string"]]}, "type"),
        ({"properties": ["a"]}, "'properties'"),
        ({"properties": {"a": 1}}, "field a"),
        ({"required": "a"}, "'required'"),
        ({"enum": []}, "'enum'"),
    ],
)
def test_a_schema_beyond_the_subset_is_refused_by_the_name_of_what_is_wrong(schema: Any, names: str) -> None:
    with pytest.raises(UsageProblem, match=names):
        check_schema(schema)


def test_annotations_and_closed_objects_are_accepted() -> None:
    annotated = {**SCHEMA, "$schema": "x", "title": "t", "description": "d", "additionalProperties": False}
    check_schema(annotated)
    assert (types(annotated), choices(annotated)) == (types(SCHEMA), choices(SCHEMA))
    assert list(mismatches({"stranger": 1}, annotated)) == list(mismatches({"stranger": 1}, SCHEMA)) != []


def test_true_is_not_one() -> None:
    assert list(mismatches(True, {"enum": [1]}))
    assert list(mismatches(1, {"enum": [True]}))
    assert not list(mismatches(1, {"enum": [1]}))


def test_what_a_schema_allows_is_told() -> None:
    assert types({"properties": {}}) == ["object"]
    assert types({"items": {}}) == ["array"]
    assert choices({"type": "integer", "enum": [1, "one", None]}) == [1]
    assert choices({"type": "integer"}) is None
    assert allows_null({"type": ["string", "null"]})
    assert allows_null({"enum": [None]})
    assert not allows_null({"type": "string"})
    assert described(SCHEMA) == "name (string), count (integer), state (open or closed)"
    assert in_order({"count": 1, "name": "a"}, SCHEMA) == '{"name": "a", "count": 1}'


def test_a_schema_that_cannot_be_read_is_an_error_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    with pytest.raises(PathNotFound, match="cannot be read"):
        read_schema(file)
    for data in (b"{", b"\xff\xfe\x00"):
        file.write_bytes(data)
        with pytest.raises(UsageProblem, match="not valid JSON"):
            read_schema(file)
    file.write_text(json.dumps(SCHEMA))
    assert read_schema(file) == SCHEMA
