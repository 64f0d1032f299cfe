"""What explains cache misses: what the digests in keys stood for, and which records were collected, when and why.

Nothing else depends on these rows. They are kept within bounds by the collector.
"""

from collections.abc import Iterable
from typing import NamedTuple

from moldar.store.database import Database

KEPT_INPUTS = 20_000
KEPT_EVICTIONS = 10_000
_AT_ONCE = 500


class Eviction(NamedTuple):
    """A collected record. `cause`: age (`amount` in seconds), size (in bytes) or damaged. `when` since the epoch."""

    key: str
    when: float
    cause: str
    amount: float = 0.0


class InputTable:
    """What digests stand for, by digest. `kind`: files, lines or image."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, digest: str, kind: str) -> bytes | None:
        """What `digest` stands for, None when it is not known."""
        row = self._database.row("SELECT data FROM cache_inputs WHERE digest = ? AND kind = ?", (digest, kind))
        return bytes(row[0]) if row else None

    def known(self, digests: Iterable[str]) -> set[str]:
        """Those of `digests` that are described."""
        asked = list(digests)
        found: set[str] = set()
        for at in range(0, len(asked), _AT_ONCE):
            part = asked[at : at + _AT_ONCE]
            marks = ",".join("?" * len(part))
            found.update(
                row[0]
                for row in self._database.rows(f"SELECT digest FROM cache_inputs WHERE digest IN ({marks})", part)
            )
        return found

    def put(self, rows: Iterable[tuple[str, str, bytes]]) -> None:
        """Keep (digest, kind, data)."""
        wanted = list(rows)
        if wanted:
            self._database.write_many("INSERT OR REPLACE INTO cache_inputs VALUES (?, ?, ?)", wanted)

    def trim(self) -> None:
        """Forget all but the latest KEPT_INPUTS."""
        self._database.write(
            "DELETE FROM cache_inputs WHERE rowid <= (SELECT max(rowid) FROM cache_inputs) - ?", (KEPT_INPUTS,)
        )


class EvictionTable:
    """The latest collected records."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: str) -> Eviction | None:
        """When and why the record of `key` went."""
        row = self._database.row("SELECT * FROM evictions WHERE key = ?", (key,))
        return Eviction(*row) if row else None

    def put(self, evictions: Iterable[Eviction]) -> None:
        wanted = list(evictions)
        if wanted:
            self._database.write_many("INSERT OR REPLACE INTO evictions VALUES (?, ?, ?, ?)", wanted)

    def trim(self) -> None:
        """Forget all but the latest KEPT_EVICTIONS."""
        self._database.write(
            "DELETE FROM evictions WHERE key NOT IN (SELECT key FROM evictions ORDER BY evicted DESC LIMIT ?)",
            (KEPT_EVICTIONS,),
        )
