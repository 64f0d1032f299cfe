"""Fields of JSON documents that others wrote, taken with the type that they must have. Null counts as absent."""

import json
from collections.abc import Mapping
from typing import Any

from moldar.errors import CorruptData


class Malformed(CorruptData):
    """A document whose `field` is not of the right type, or that is no JSON object at all."""

    def __init__(self, field: str, expected: str) -> None:
        super().__init__(f"malformed document: {field} is not {expected}")
        self.field = field


def parse_object(raw: bytes, what: str) -> dict[str, Any]:
    """The JSON object in `raw`; CorruptData, naming it by `what`."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise CorruptData(f"the {what} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise CorruptData(f"the {what} is not a JSON object")
    return document


def text(document: Mapping[str, Any], field: str) -> str:
    """A string, empty when absent."""
    value = document.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Malformed(field, "text")
    return value


def integer(document: Mapping[str, Any], field: str) -> int:
    """A whole number, 0 when absent."""
    value = document.get(field)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool):
        raise Malformed(field, "a whole number")
    return value


def items(document: Mapping[str, Any], field: str) -> list[Any]:
    """A list of anything, empty when absent."""
    value = document.get(field)
    if value is None:
        return []
    if not isinstance(value, list):
        raise Malformed(field, "a list")
    return value


def objects(document: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
    """A list of objects, empty when absent."""
    values = items(document, field)
    if not all(isinstance(value, dict) for value in values):
        raise Malformed(field, "a list of objects")
    return values


def texts(document: Mapping[str, Any], field: str) -> tuple[str, ...]:
    """A list of strings, empty when absent."""
    values = items(document, field)
    if not all(isinstance(value, str) for value in values):
        raise Malformed(field, "a list of texts")
    return tuple(values)


def optional_texts(document: Mapping[str, Any], field: str) -> tuple[str, ...] | None:
    """A list of strings, None when absent. One string is taken for a list of it, as Docker does for commands."""
    value = document.get(field)
    if value is None or isinstance(value, str):
        return value if value is None else (value,)
    return texts(document, field)


def sub_object(document: Mapping[str, Any], field: str) -> dict[str, Any]:
    """An object, empty when absent."""
    value = document.get(field)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Malformed(field, "an object")
    return value


def text_map(document: Mapping[str, Any], field: str) -> dict[str, str]:
    """An object of strings, empty when absent; null values count as empty strings, as Go reads them."""
    found = {}
    for key, value in sub_object(document, field).items():
        if value is not None and not isinstance(value, str):
            raise Malformed(f"{field}.{key}", "text")
        found[key] = value or ""
    return found


def names(document: Mapping[str, Any], field: str) -> tuple[str, ...]:
    """The keys of an object that stands for a set, or the strings of a list, as the oldest images have it."""
    value = document.get(field)
    return texts(document, field) if isinstance(value, list) else tuple(sub_object(document, field))
