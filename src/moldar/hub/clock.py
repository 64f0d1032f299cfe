"""The time, as the services see it: whole seconds since 1970, from a function that a test may replace."""

import time
from collections.abc import Callable

Clock = Callable[[], int]


def system_clock() -> int:
    return int(time.time())
