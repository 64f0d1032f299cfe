"""Read sets: what steps looked at in the layers that were copied, so that their records may serve for other files."""

import time
from typing import NamedTuple

from moldar.store.database import Database

KEPT = 8
"""How many read sets of one step are kept; the least recently used go first."""


class ReadSetRow(NamedTuple):
    """One read set. `record` is the key of the cache record that the step made, `data` the builder's own."""

    record: str
    data: bytes


class ReadSetTable:
    """Read sets by step: a digest of all that decides a step's result but the copied layers.

    They go with their cache records (`CacheTable.remove`).
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, step: str) -> list[ReadSetRow]:
        """The step's read sets, the latest used first."""
        rows = self._database.rows("SELECT record, data FROM read_sets WHERE step = ? ORDER BY used DESC", (step,))
        return [ReadSetRow(*row) for row in rows]

    def put(self, step: str, row: ReadSetRow) -> None:
        """Keep a read set, and forget the oldest ones of the step."""
        with self._database.transaction():
            self._database.write(
                "INSERT OR REPLACE INTO read_sets VALUES (?, ?, ?, ?)", (step, row.record, row.data, time.time())
            )
            self._database.write(
                "DELETE FROM read_sets WHERE step = ? AND record NOT IN"
                " (SELECT record FROM read_sets WHERE step = ? ORDER BY used DESC LIMIT ?)",
                (step, step, KEPT),
            )

    def renew(self, step: str, record: str, row: ReadSetRow) -> None:
        """The read set of `record` served just now; it holds for the new record in `row` too, and goes with that."""
        with self._database.transaction():
            self._database.write("DELETE FROM read_sets WHERE step = ? AND record = ?", (step, record))
            self.put(step, row)

    def made(self, record: str) -> list[tuple[str, bytes]]:
        """The read sets of a cache record: (step, data)."""
        return self._database.rows("SELECT step, data FROM read_sets WHERE record = ? ORDER BY step", (record,))
