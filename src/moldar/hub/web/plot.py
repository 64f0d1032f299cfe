"""A plot of one number a day, as plain geometry for a template to draw."""

from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 300, 64
_GAP = 2


class Bar(NamedTuple):
    """One day. `days_ago`: 0 is today."""

    x: float
    y: float
    width: float
    height: float
    value: int
    days_ago: int


def bars(values: Sequence[int]) -> tuple[Bar, ...]:
    """Bars in a field of WIDTH by HEIGHT; a day without anything keeps a trace of the base line."""
    step = WIDTH / max(len(values), 1)
    largest = max(values, default=0) or 1
    made = []
    for number, value in enumerate(values):
        height = round(max(HEIGHT * value / largest, 4 if value else 1), 1)
        made.append(
            Bar(
                round(number * step, 1),
                round(HEIGHT - height, 1),
                round(step - _GAP, 1),
                height,
                value,
                len(values) - 1 - number,
            )
        )
    return tuple(made)
