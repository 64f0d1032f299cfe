"""Records of build steps: what a step made, under the key that names it."""

import json
import time
from typing import NamedTuple

from moldar.errors import UserMistake
from moldar.image.model import Digest, parse_digest
from moldar.store.database import Database

TOUCH_SECONDS = 3600.0
"""How late a record's `used` may be; the garbage collector allows for it."""


_LATEST = 50


class CacheRow(NamedTuple):
    """One record. `layers` is JSON, a list of CachedLayer; `parts` JSON of the build's own.

    Times in seconds since the epoch.
    """

    key: str
    step: str
    layers: str
    identity: str
    parts: str
    created: float
    used: float = 0.0


class CachedLayer(NamedTuple):
    """A layer that a step added. `size` is of its tar, `snapshot` its snapshot's key where not the diff ID."""

    diff_id: Digest
    size: int
    snapshot: str = ""


class CacheTable:
    """The build cache's rows. Several keys may name the same result."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: str) -> CacheRow | None:
        """The record of `key`; marks it as used, at most once an hour, so that a cached build writes nothing."""
        row = self._database.row("SELECT * FROM cache WHERE key = ?", (key,))
        if row is None:
            return None
        found = CacheRow(*row)
        if time.time() - found.used > TOUCH_SECONDS:
            self._database.write("UPDATE cache SET used = ? WHERE key = ?", (time.time(), key))
        return found

    def put(self, row: CacheRow) -> None:
        """Store or replace a record."""
        self._database.write(
            "INSERT OR REPLACE INTO cache VALUES (?, ?, ?, ?, ?, ?, ?)", row._replace(used=time.time())
        )

    def has(self, key: str) -> bool:
        """Whether there is a record of `key`; it does not count as used."""
        return self._database.row("SELECT 1 FROM cache WHERE key = ?", (key,)) is not None

    def like(self, step: str) -> list[CacheRow]:
        """The newest records of the same step with whatever inputs, newest first, to explain a miss."""
        rows = self._database.rows(
            "SELECT * FROM cache WHERE step = ? ORDER BY created DESC LIMIT ?", (step, _LATEST)
        )
        return [CacheRow(*row) for row in rows]

    def over(self, kind: str, digest: str) -> list[CacheRow]:
        """The newest records of steps of a kind (`RUN`) whose parts name `digest`, newest first."""
        rows = self._database.rows(
            "SELECT * FROM cache WHERE step LIKE ? AND instr(parts, ?) ORDER BY created DESC LIMIT ?",
            (f"{kind} %", digest, _LATEST),
        )
        return [CacheRow(*row) for row in rows]

    def remove(self, key: str) -> None:
        """Forget a record, and what was read to make it."""
        self._database.write("DELETE FROM read_sets WHERE record = ?", (key,))
        self._database.write("DELETE FROM cache WHERE key = ?", (key,))

    def all(self) -> list[CacheRow]:
        """Every record, the least recently used first."""
        return [CacheRow(*row) for row in self._database.rows("SELECT * FROM cache ORDER BY used")]


def layers_of(row: CacheRow) -> tuple[CachedLayer, ...] | None:
    """The record's layers; None when the row is damaged."""
    try:
        return tuple(
            CachedLayer(parse_digest(layer[0]), int(layer[1]), *layer[2:3]) for layer in json.loads(row.layers)
        )
    except (ValueError, TypeError, AttributeError, LookupError, UserMistake):
        return None
