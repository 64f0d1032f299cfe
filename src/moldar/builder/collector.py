"""Pausing the cyclic garbage collector while hundreds of thousands of entries are made that hold no cycles.

Without the pause it goes over all of them again and again: a third of the time of a large copy.
"""

import gc
from types import TracebackType


class CollectorPaused:
    """A context manager; the collector goes on afterwards if it was at work before."""

    def __enter__(self) -> None:
        self._was_enabled = gc.isenabled()
        gc.disable()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._was_enabled:
            gc.enable()
