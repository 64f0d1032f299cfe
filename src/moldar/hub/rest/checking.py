"""Checks values against the part of JSON Schema that our description uses; so what it says of requests is true."""

import re
from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]
_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def problem_with(value: Any, schema: Schema, where: str) -> str:
    """What is wrong with `value`, called `where`; empty when it is as `schema` says."""
    kinds = schema.get("type", ())
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        return f"{where} must be {' or '.join(kinds)}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{where} must be one of {', '.join(map(str, schema['enum']))}"
    if isinstance(value, str):
        return _text_problem(value, schema, where)
    if isinstance(value, int) and not isinstance(value, bool):
        low, high = schema.get("minimum"), schema.get("maximum")
        outside = (low is not None and value < low) or (high is not None and value > high)
        return f"{where} must be from {low} to {high}" if outside else ""
    if isinstance(value, list):
        return _list_problem(value, schema, where)
    return _object_problem(value, schema, where) if isinstance(value, dict) else ""


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _text_problem(value: str, schema: Schema, where: str) -> str:
    low, high = schema.get("minLength", 0), schema.get("maxLength", 100_000)
    if not low <= len(value) <= high:
        return f"{where} must have {low} to {high} characters"
    if any("\ud800" <= char <= "\udfff" for char in value):
        return f"{where} holds half of a character"
    # Our patterns are anchored; Python's $ would let a line's end through.
    if "pattern" in schema and not re.search(schema["pattern"].removesuffix("$") + r"\Z", value):
        return f"{where} must match {schema['pattern']}"
    return ""


def _list_problem(value: list[Any], schema: Schema, where: str) -> str:
    low, high = schema.get("minItems", 0), schema.get("maxItems", 1000)
    if not low <= len(value) <= high:
        return f"{where} must have {low} to {high} entries"
    if schema.get("uniqueItems") and any(value.count(entry) > 1 for entry in value):
        return f"{where} must not repeat entries"
    problems = (problem_with(entry, schema.get("items", {}), f"{where}[{n}]") for n, entry in enumerate(value))
    return next((problem for problem in problems if problem), "")


def _object_problem(value: dict[str, Any], schema: Schema, where: str) -> str:
    known = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            return f"{where} lacks {name}"
    if schema.get("additionalProperties") is False and (unknown := value.keys() - known.keys()):
        return f"{where} has nothing called {min(unknown)[:50]}"
    if len(value) < schema.get("minProperties", 0):
        return f"{where} is empty"
    problems = (problem_with(value[name], part, f"{where}.{name}") for name, part in known.items() if name in value)
    return next((problem for problem in problems if problem), "")
