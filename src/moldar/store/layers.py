"""What is known of layers: the size of their tar, the blobs that hold them, the snapshots unpacked from them."""

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from moldar.image.model import Descriptor, Digest
from moldar.store.database import Database


class LayerBlob(NamedTuple):
    """One blob of a layer. `level` is the compressor's, -1 when it came from elsewhere."""

    descriptor: Descriptor
    level: int


class SnapshotDirectories(Protocol):
    """The snapshots that are on disk, whatever the rows say."""

    def present(self) -> set[str]:
        """The keys of all finished snapshots."""
        ...

    def remove(self, key: str) -> None:
        """Delete a snapshot's directory and its row; one that is not there is fine."""
        ...


class LayerTable:
    """Rows about layers, by diff ID."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, diff_id: Digest, size: int) -> None:
        """The layer's tar has `size` bytes."""
        self._database.write("INSERT OR IGNORE INTO layers VALUES (?, ?)", (diff_id, size))

    def size(self, diff_id: Digest) -> int | None:
        """Bytes of the layer's tar, None when the layer is unknown."""
        row = self._database.row("SELECT size FROM layers WHERE diff_id = ?", (diff_id,))
        return row[0] if row else None

    def add_blob(self, diff_id: Digest, blob: Descriptor, level: int = -1) -> None:
        """Remember that `blob` holds the layer."""
        self._database.write(
            "INSERT OR REPLACE INTO layer_blobs VALUES (?, ?, ?, ?, ?)",
            (diff_id, blob.digest, blob.media_type, blob.size, level),
        )

    def blobs(self, diff_id: Digest) -> list[LayerBlob]:
        """The blobs known to hold the layer; whether they are here is the blob store's to say."""
        rows = self._database.rows(
            "SELECT media_type, digest, size, level FROM layer_blobs WHERE diff_id = ? ORDER BY digest", (diff_id,)
        )
        return [
            LayerBlob(Descriptor(media_type, Digest(digest), size), level) for media_type, digest, size, level in rows
        ]

    def diff_id_of(self, blob: str) -> Digest | None:
        """The layer that a blob holds."""
        row = self._database.row("SELECT diff_id FROM layer_blobs WHERE digest = ?", (blob,))
        return Digest(row[0]) if row else None

    def add_snapshot(self, key: str, size: int) -> None:
        """Remember a snapshot directory of about `size` bytes."""
        self._database.write("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?)", (key, size, time.time()))

    def adopt_snapshot(self, key: str, size: int, exists: Callable[[], bool]) -> None:
        """Give a snapshot that has no row its row, unless its directory is gone.

        A collection decides under the same lock, so no row comes after its directory went.
        """
        with self._database.transaction():
            if not self.has_snapshot(key) and exists():
                self.add_snapshot(key, size)

    def has_snapshot(self, key: str) -> bool:
        return self._database.row("SELECT 1 FROM snapshots WHERE key = ?", (key,)) is not None

    def snapshots(self) -> list[tuple[str, int]]:
        """All snapshots: (key, bytes)."""
        return [(key, size) for key, size in self._database.rows("SELECT key, bytes FROM snapshots")]

    def remove_snapshot(self, key: str) -> None:
        self._database.write("DELETE FROM snapshots WHERE key = ?", (key,))

    def total(self, diff_ids: Iterable[Digest]) -> int:
        """Bytes of the tars of all these layers; unknown ones count nothing."""
        return sum(self.size(diff_id) or 0 for diff_id in diff_ids)
