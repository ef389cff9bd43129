"""A JSON schema as a grammar in the notation of llama.cpp (GBNF).

There is one way to write each value: fields in the order of the schema, one space after each comma and colon, no other
white space. That is how examples for fine-tuning are written, and it keeps a model from spending its tokens on blanks.
Notation: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeai.errors import UsageProblem
from edgeai.structured.schema import Schema, choices, types, write

# No exponents: every number can then be compared with what a passage says. Digits as a double holds them.
_PRIMITIVES = {
    "string": r'"\"" char* "\""',
    "number": 'integer ("." [0-9]{1,6})?',
    "integer": '"-"? ("0" | [1-9] [0-9]{0,14})',
    "boolean": '("true" | "false")',
    "null": '"null"',
}
# No \u escapes: whatever they stand for can be written as it is.
_CHAR = r'[^"\\\x00-\x1F\x7F] | "\\" ["\\/bfnrt]'
_EXAMPLES: dict[str, Any] = {"string": "", "number": 0, "integer": 0, "boolean": False, "null": None}
_UNFINISHED = 8  # bytes that a character or an escape begun may still need, and the quote behind it


def grammar(schema: Schema) -> str:
    """A grammar whose sentences are JSON values valid against a schema that `check_schema` accepts.

    Raises `UsageProblem` for a part that says too little to write a value: an object without `properties`, an array
    without `items`, no type at all.
    """
    rules = [*(f"{name} ::= {body}" for name, body in _PRIMITIVES.items()), f"char ::= {_CHAR}"]
    return "\n".join([f"root ::= {_value(schema, rules, 'the schema')}", *rules]) + "\n"


def grammar_of(texts: Sequence[str]) -> str:
    """A grammar whose sentences are these texts."""
    return f"root ::= {_alternatives([_literal(text) for text in texts])}\n"


def longest(schema: Schema) -> Any:
    """A value with all fields, every text empty and every list of one, each as long as its enum and type allow.

    An outline of the answer, and a bound on what must still be written to end it from wherever it is.
    """
    listed = choices(schema)
    return max([_example(schema, kind) for kind in types(schema)] if listed is None else listed, key=_length)


def closing(schema: Schema) -> int:
    """How many tokens suffice to end a value that was begun, when nothing is written that need not be."""
    return _length(longest(schema)) + _UNFINISHED


def _length(value: Any) -> int:
    return len(write(value).encode(errors="replace"))


def _example(schema: Schema, kind: str) -> Any:
    if kind == "object":
        return {name: longest(inner) for name, inner in schema["properties"].items()}
    return [longest(schema["items"])] if kind == "array" else _EXAMPLES[kind]


def _value(schema: Schema, rules: list[str], place: str) -> str:
    """An expression for a value; `rules` takes those it refers to."""
    if (listed := choices(schema)) is not None:
        if not listed:
            raise UsageProblem(f"{place} has an 'enum' of which no value has its type.")
        return _alternatives([_literal(write(one)) for one in listed])
    if not (kinds := types(schema)):
        raise UsageProblem(f"{place} has no 'type'; say what its values are.")
    return _alternatives([_typed(schema, kind, rules, place) for kind in dict.fromkeys(kinds)])


def _typed(schema: Schema, kind: str, rules: list[str], place: str) -> str:
    if kind == "object":
        return _object(schema, rules, place)
    if kind != "array":
        return kind
    if "items" not in schema:
        raise UsageProblem(f"{place} is an array without 'items'; say what they are.")
    item = _named(_value(schema["items"], rules, f"the items of {place}"), rules)
    return rf'"[" ({item} (", " {item})*)? "]"'


def _object(schema: Schema, rules: list[str], place: str) -> str:
    properties, required = schema.get("properties") or {}, schema.get("required", [])
    if not properties:
        raise UsageProblem(f"{place} is an object without 'properties'; name its fields.")
    if strangers := [name for name in required if name not in properties]:
        raise UsageProblem(f"{place} has {strangers[0]!r} among 'required', but not among 'properties'.")
    rest = first = ""  # what may follow some field, and what may follow the opening brace
    for name in reversed(properties):
        inner = _value(properties[name], rules, f"the field {name} of {place}")
        field = _named(f"{_literal(write(name) + ': ')} {inner}", rules)
        begun = f"{field} {rest}".strip()
        if name in required:
            first, following = begun, f'", " {field} {rest}'
        else:
            first, following = f"({begun} | {first})" if first else f"({begun})?", f'(", " {field})? {rest}'
        rest = _named(following.strip(), rules)
    return f'"{{" {first} "}}"'


def _named(body: str, rules: list[str]) -> str:
    """The name of a rule with this body; a name does not grow where an expression would be repeated."""
    rules.append(f"rule-{len(rules)} ::= {body}")
    return rules[-1].partition(" ")[0]


def _alternatives(bodies: Sequence[str]) -> str:
    return bodies[0] if len(bodies) == 1 else f"({' | '.join(bodies)})"


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
