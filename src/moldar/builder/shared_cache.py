"""The store's own cache with others beneath it, and the memory of what a build used, for its export."""

import threading
from typing import NamedTuple, Protocol

from moldar.builder.cache import BuildCache
from moldar.builder.solver import Explanation, Key, Record
from moldar.image.model import Digest


class Foreign(Protocol):
    """Caches from elsewhere. Their layers need not be here; whoever needs one asks for it then."""

    def find(self, key: Digest) -> Record | None:
        """The record of `key` whose layers can be had."""
        ...

    def names(self, key: Digest) -> bool:
        """Whether there is a record of `key`, even if its layers cannot be had."""
        ...

    def parts_of(self, step: str) -> dict[str, str] | None:
        """The parts of the key of a record of the same step, without those of the environment."""
        ...


class Used(NamedTuple):
    """A step that was found or made."""

    key: Key
    record: Record


class SharedCache:
    """The solver's Cache of a build that reads or writes caches elsewhere. Safe for threads."""

    def __init__(self, own: BuildCache, foreign: Foreign) -> None:
        self._own = own
        self._foreign = foreign
        self._lock = threading.Lock()
        self._used: dict[Digest, Used] = {}
        self._lent: dict[Digest, Used] = {}

    @property
    def used(self) -> list[Used]:
        """Everything that was found or made, by key."""
        with self._lock:
            return [self._used[key] for key in sorted(self._used)]

    def lookup(self, key: Key) -> Record | None:
        record = self._own.lookup(key)
        lent = record is None
        if record is None:
            record = self._foreign.find(key.digest)
        if record is not None:
            self._note(key, record, lent=lent)
        return record

    def find(self, key: Key) -> Record | None:
        """A record for another step's sake: it is not counted as used."""
        return self._own.lookup(key) or self._foreign.find(key.digest)

    def store(self, key: Key, record: Record) -> None:
        lent = not self._own.holds(record)  # a record of another cache under one more key
        self._note(key, record, lent=lent)
        if not lent:
            self._own.store(key, record)

    def begin(self) -> None:
        self._own.begin()

    def explain(self, key: Key, *, ignored: bool = False) -> Explanation:
        if not ignored and self._foreign.names(key.digest):
            text = "its result is only named in the imported cache"
            return Explanation(f"ran because {text}", (text,))
        return self._own.explain(key, ignored=ignored, foreign=self._foreign.parts_of(key.step))

    def adopt(self) -> None:
        """Keep the records of other caches whose layers have come here."""
        with self._lock:
            lent, self._lent = self._lent, {}
        for used in lent.values():
            if self._own.holds(used.record):
                self._own.store(used.key, used.record)

    def _note(self, key: Key, record: Record, *, lent: bool) -> None:
        with self._lock:
            self._used[key.digest] = Used(key, record)
            if lent:
                self._lent[key.digest] = Used(key, record)
