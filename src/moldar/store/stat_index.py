"""Hashes of files remembered by what stat says of them, as git's index does.

A remembered hash is right as long as device, inode, size, mtime and ctime are the same, unless the file was
changed within the clock's tick in which it was hashed (git's "racy" files): such hashes are not remembered.
"""

import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from moldar.store.database import Database

RACY_NANOSECONDS = 50_000_000
LARGEST = 1 << 63  # SQLite's integers; some file systems use inode numbers beyond


class FileStat(NamedTuple):
    """What identifies a file's content; times in nanoseconds."""

    device: int
    inode: int
    size: int
    mtime: int
    ctime: int


class StatIndex:
    """File hashes (raw sha256 bytes) by FileStat."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(
        self, device: int, lowest: int = 0, highest: int = LARGEST - 1
    ) -> dict[int, tuple[int, int, int, bytes]]:
        """The remembered files of a device with inodes in a range: inode -> (size, mtime, ctime, sha256)."""
        rows = self._database.rows(
            "SELECT inode, size, mtime, ctime, digest FROM files WHERE device = ? AND inode BETWEEN ? AND ?",
            (device, max(lowest, 0), min(highest, LARGEST - 1)),
        )
        return {inode: (size, mtime, ctime, digest) for inode, size, mtime, ctime, digest in rows}

    def get(self, stat: FileStat) -> bytes | None:
        """The hash of one file, None when it has to be read."""
        if max(stat) >= LARGEST:
            return None
        row = self._database.row(
            "SELECT digest FROM files WHERE device = ? AND inode = ? AND size = ? AND mtime = ? AND ctime = ?", stat
        )
        return row[0] if row else None

    def put(self, hashes: Iterable[tuple[FileStat, bytes]], hashed_at: int) -> None:
        """Remember hashes computed from `hashed_at` on (nanoseconds since the epoch); racy ones are left out."""
        now = int(time.time())
        limit = hashed_at - RACY_NANOSECONDS
        rows: Sequence[tuple[object, ...]] = [
            (*stat, digest, now)
            for stat, digest in hashes
            if max(stat.mtime, stat.ctime) < limit and max(stat) < LARGEST
        ]
        if rows:
            self._database.write_many("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def trim(self, older_than: int) -> int:
        """Forget files not seen since `older_than` (seconds since the epoch); the number forgotten."""
        return self._database.write("DELETE FROM files WHERE used < ?", (older_than,))
