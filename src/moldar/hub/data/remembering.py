"""Answers remembered for as long as nothing in the database changes."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """A bounded memory that empties itself when `generation()` moves.

    Ask `current()` before looking an answer up in the database and hand its value to `put`: an answer that was read
    before a change is then never kept as one after it.
    """

    def __init__(self, generation: Callable[[], int], limit: int) -> None:
        self._generation = generation
        self._limit = limit
        self._seen = -1
        self._answers: dict[K, V] = {}

    def current(self) -> int:
        generation = self._generation()
        if generation != self._seen:
            self._answers.clear()
            self._seen = generation
        return generation

    def get(self, key: K) -> V | None:
        """The answer, if it still holds. Call `current()` first, once for a request."""
        return self._answers.get(key)

    def put(self, key: K, value: V, generation: int) -> None:
        if generation != self._seen:
            return
        if len(self._answers) >= self._limit:
            self._answers.pop(next(iter(self._answers)))
        self._answers[key] = value
