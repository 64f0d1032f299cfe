"""The final image config: diff IDs, history and dates, known only when the graph is solved."""

import time
from collections.abc import Sequence

from moldar.builder.plan.options import Plan
from moldar.image.config import HistoryEntry, encode_image_config
from moldar.image.model import Digest

COMMENT = "moldar"


def finish(plan: Plan, diff_ids: Sequence[Digest], created: Sequence[float]) -> bytes:
    """The image config's bytes for the target of `plan`.

    `diff_ids` are the target's layers, lowest first; `created[i]` is when vertex i made its layer, in seconds since
    the epoch (0: unknown). A fully cached build gives the same bytes again: the dates are those of the layers.
    """
    base = _dated(plan.base_history, "")
    latest = next((entry.created for entry in reversed(base) if entry.created), "")
    history = _within(base + _dated(_own_history(plan, created), latest), len(diff_ids))
    date = format_time(plan.epoch) if plan.epoch is not None else ""
    if not date:
        date = next((entry.created for entry in reversed(history) if entry.created), "")
    return encode_image_config(plan.image._replace(created=date, history=tuple(history), diff_ids=tuple(diff_ids)))


def format_time(seconds: float) -> str:
    """RFC 3339 in UTC, with as many digits below the second as are needed."""
    nanoseconds = round(seconds * 1_000_000) * 1000 if isinstance(seconds, float) else seconds * 1_000_000_000
    whole, rest = divmod(nanoseconds, 1_000_000_000)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + fraction + "Z"


def _own_history(plan: Plan, created: Sequence[float]) -> list[HistoryEntry]:
    """The plan's own entries; layers that no instruction claims (a context as base) are named by their vertex."""
    epoch = format_time(plan.epoch) if plan.epoch is not None else ""
    entries = [
        HistoryEntry(
            epoch or (_layer_time(created[step.vertex]) if step.vertex >= 0 else ""),
            step.created_by,
            step.vertex < 0,
            step.comment,
        )
        for step in plan.steps
    ]
    claimed = sum(step.vertex >= 0 for step in plan.steps)
    for vertex in plan.layer_vertices[claimed:]:
        date = epoch or _layer_time(created[vertex])
        entries.append(HistoryEntry(date, plan.graph.vertices[vertex].name, False, COMMENT))
    return entries


def _layer_time(seconds: float) -> str:
    return format_time(seconds) if seconds else ""


def _dated(history: Sequence[HistoryEntry], date: str) -> list[HistoryEntry]:
    """`history` with dates: an entry without takes that of the one before it, the first ones that of the first dated.

    `date` serves when no entry has one.
    """
    dated: list[HistoryEntry] = []
    date = next((entry.created for entry in history if entry.created), date)
    for entry in history:
        date = entry.created or date
        dated.append(entry._replace(created=date))
    return dated


def _within(history: list[HistoryEntry], layers: int) -> list[HistoryEntry]:
    """`history` claiming no more layers than there are: a base image's history may be wrong."""
    claimed = 0
    entries: list[HistoryEntry] = []
    for entry in history:
        claimed += not entry.empty_layer
        entries.append(entry._replace(empty_layer=entry.empty_layer or claimed > layers))
    return entries
