"""What listings have in common: the words of --filter, and a table or what --format wants."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from moldar.cli import tables
from moldar.errors import UserMistake


def name_value_filters(words: list[str]) -> list[tuple[str, str]]:
    """The words of --filter; `label!=x` keeps its mark in the name. UserMistake."""
    filters = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise UserMistake(f"invalid filter {word!r}", hint="expected name=value, such as status=exited")
        filters.append((name.strip().lower(), value.strip()))
    return filters


def listing(
    template: str,
    rows: Sequence[Mapping[str, str]],
    headings: dict[str, str],
    columns: Sequence[str],
    *,
    labels: Sequence[dict[str, str]] = (),
) -> str:
    """The text of a listing, its last line ended: a table of `columns`, or what --format wants of the rows.

    `labels` are those of each row, for `{{.Label "key"}}`.
    """
    if template in ("", "table"):
        cells = ([row[name] for name in columns] for row in rows)
        text = tables.table([headings[name] for name in columns], cells)
    elif template == "json":
        text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    else:
        from moldar.cli.templates import rows as render_rows

        own = labels or [{} for _ in rows]
        given: list[dict[str, Any]] = [
            {**row, "Label": lambda key, known=known: known.get(key, "")}
            for row, known in zip(rows, own, strict=True)
        ]
        text = render_rows(template, given, {**headings, "Label": lambda key: key})
    return text + "\n" if text else ""
