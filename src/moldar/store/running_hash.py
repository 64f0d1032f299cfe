"""A hash of bytes as they pass; for many a thread computes it beside the writing, as hashing frees the GIL."""

import hashlib
import os
import threading
from _queue import SimpleQueue  # what `queue` gives, without heapq and the rest
from collections.abc import Callable

_BEHIND = 4
"""Chunks that the thread may be late by; they stay in memory until then."""
_WORTH_A_THREAD = 4 << 20
_LARGE = 256 << 10


class RunningHash:
    """As hashlib's objects; `close` ends its thread, if it has one, and has to be called."""

    def __init__(self, algorithm: str) -> None:
        self._hasher = hashlib.new(algorithm)
        self._size = 0
        self._several = (os.cpu_count() or 1) > 1
        self._behind: _Behind | None = None

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take in `data`, which may change again once this returns."""
        self._size += len(data)
        if not self._behind:
            if len(data) < _LARGE or self._size < _WORTH_A_THREAD or not self._several:
                self._hasher.update(data)
                return
            self._behind = _Behind(self._hasher.update)
        self._behind.put(data if isinstance(data, bytes) else bytes(data))

    def hexdigest(self) -> str:
        """The digest of all so far."""
        self._settle()
        return self._hasher.hexdigest()

    def close(self) -> None:
        """Wait for the thread to end."""
        try:
            self._settle()
        except Exception:
            pass  # nobody wants the digest any more

    def _settle(self) -> None:
        behind, self._behind = self._behind, None
        if behind:
            behind.finish()


class _Behind(threading.Thread):
    """Feeds what is put to `update`, in order."""

    def __init__(self, update: Callable[[bytes], object]) -> None:
        super().__init__(daemon=True)
        self._update = update
        self._waiting: SimpleQueue[bytes | None] = SimpleQueue()
        self._room = threading.Semaphore(_BEHIND)
        self._error: Exception | None = None
        self.start()

    def put(self, data: bytes) -> None:
        """Take `data` as soon as there is room."""
        self._room.acquire()
        self._waiting.put(data)

    def finish(self) -> None:
        """Return once all was fed; raises what went wrong."""
        self._waiting.put(None)
        self.join()
        if self._error:
            raise self._error

    def run(self) -> None:
        while (data := self._waiting.get()) is not None:
            try:
                self._update(data)
            except Exception as error:  # whoever puts must not wait for room for ever
                self._error = error
            self._room.release()
