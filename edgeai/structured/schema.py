"""Which JSON values a schema allows, for the part of JSON Schema that edgeai understands.

`type`, `properties`, `required`, `enum` and `items` (draft 2020-12), with annotations and `additionalProperties:
false`, which holds in any case: fields that a schema does not name are not allowed. Anything else is refused by its
name, because a rule that is silently ignored is worse than none. It knows nothing of where the values come from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeai.errors import PathNotFound, UsageProblem

Schema = Mapping[str, Any]

_ANNOTATIONS = frozenset({"title", "description", "examples", "default", "$schema", "$id", "$comment"})
_KEYWORDS = frozenset({"type", "properties", "required", "enum", "items"})
_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def read_schema(path: Path) -> dict[str, Any]:
    """The schema in a file, checked. Raises `PathNotFound`, or `UsageProblem` when it is not one that is understood."""
    try:
        schema = json.loads(path.read_bytes())
    except OSError as error:
        raise PathNotFound(f"{path} cannot be read ({error.strerror}); give a JSON schema.") from None
    except ValueError as error:  # of Unicode too
        raise UsageProblem(f"{path} is not valid JSON ({error}).") from None
    check_schema(schema)
    return dict(schema)


def check_schema(schema: Any, place: str = "the schema") -> None:
    """Raise `UsageProblem`, which names the keyword, when a schema is not one that is understood."""
    if not isinstance(schema, dict):
        raise UsageProblem(f"{place} is not a JSON object.")
    if schema.get("additionalProperties") is False:
        schema = {keyword: schema[keyword] for keyword in schema if keyword != "additionalProperties"}
    if unknown := set(schema) - _KEYWORDS - _ANNOTATIONS:
        raise UsageProblem(f"{place} uses {min(unknown)!r}; supported are {', '.join(sorted(_KEYWORDS))}.")
    _check_types(schema, place)
    properties, required, allowed = (schema.get(name) for name in ("properties", "required", "enum"))
    if properties is not None and not isinstance(properties, dict):
        raise UsageProblem(f"{place} has 'properties' that are not a JSON object.")
    if required is not None and not (isinstance(required, list) and all(isinstance(name, str) for name in required)):
        raise UsageProblem(f"{place} has a 'required' that is not a list of names.")
    if allowed is not None and not (isinstance(allowed, list) and allowed):
        raise UsageProblem(f"{place} has an 'enum' that is not a list of values.")
    for name, inner in (properties or {}).items():
        check_schema(inner, f"the field {name} of {place}")
    if "items" in schema:
        check_schema(schema["items"], f"the items of {place}")


def _check_types(schema: Schema, place: str) -> None:
    for name in _named_types(schema):
        if not isinstance(name, str) or name not in _TYPES:
            raise UsageProblem(f"{place} has the unknown type {name!r}; there are {', '.join(_TYPES)}.")


def _named_types(schema: Schema) -> list[Any]:
    named = schema.get("type", [])
    return named if isinstance(named, list) else [named]


def types(schema: Schema) -> list[str]:
    """The types a value may have; where none is named, the one that the other keywords speak of, or none."""
    about = ("object" if "properties" in schema else "", "array" if "items" in schema else "")
    return _named_types(schema) or [name for name in about if name]


def choices(schema: Schema) -> list[Any] | None:
    """The values of an `enum` that its own schema allows; None where there is no `enum`."""
    if "enum" not in schema:
        return None
    return [value for value in schema["enum"] if not any(mismatches(value, schema))]


def allows_null(schema: Schema) -> bool:
    """Whether a value may be null."""
    return not any(mismatches(None, schema))


def mismatches(value: Any, schema: Schema, place: str = "the object") -> Iterator[str]:
    """How a value differs from a schema, in sentences; none when it is valid."""
    named = _named_types(schema)
    kinds = [kind for name in named for kind in _TYPES[name]]
    # In Python, but not in JSON, true is a number.
    if kinds and (not isinstance(value, tuple(kinds)) or (isinstance(value, bool) and bool not in kinds)):
        yield f"{place} is not of type {' or '.join(named)}"
        return
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        yield f"{place} is {value!r}, which is not one of {schema['enum']}"
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        yield from (f"{place} lacks {name}" for name in schema.get("required", []) if name not in value)
        for name, inner in value.items():
            if name in properties:
                yield from mismatches(inner, properties[name], name)
            elif properties:
                yield f"{place} has the field {name}, which the schema does not name"
    if isinstance(value, list) and "items" in schema:
        for number, inner in enumerate(value, start=1):
            yield from mismatches(inner, schema["items"], f"{place}, item {number},")


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def in_order(value: Mapping[str, Any], schema: Schema) -> str:
    """A JSON object on one line, its fields in the order of the schema, so that there is one way to write it."""
    names = dict.fromkeys([*schema.get("properties", {}), *value])
    return write({name: value[name] for name in names if name in value})


def write(value: Any) -> str:
    """A JSON value on one line, as answers are written: a space after each comma and colon."""
    return json.dumps(value, ensure_ascii=False)


def described(schema: Schema) -> str:
    """The fields of an object with their types, for a prompt: "count (integer), state (on or off)"."""
    return ", ".join(f"{name} ({_kind(inner)})" for name, inner in schema.get("properties", {}).items())


def _kind(schema: Schema) -> str:
    return " or ".join(str(one) for one in schema.get("enum", _named_types(schema) or ["any"]))
