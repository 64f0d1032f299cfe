"""Backs up a hub on SQLite and files while it serves, and makes one from a backup.

A backup is laid out as a data directory: `hub.db`, `keys`, `blobs`. Blobs never change, so a later backup into the
same directory copies only new ones. It is consistent by its order: first a snapshot of the tables, then the blobs
that they name, and the snapshot gets its name last. What collection took away in between is named by a new snapshot
no more. A directory is thus at any time the last backup that came to its end.
"""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from moldar.errors import CorruptData, HostTrouble, NotFound, UserMistake
from moldar.hub.data.database import make_private_directory
from moldar.hub.refusals import Refusal
from moldar.hub.settings import HubSettings
from moldar.hub.storage.contract import CHUNK
from moldar.hub.storage.files import FileStorage
from moldar.image.model import Digest

_ATTEMPTS = 5
_DATABASE = "hub.db"
_KEYS = "keys"


class BackedUp(NamedTuple):
    """What a backup or a restored hub holds, and how much of it had to be copied."""

    blobs: int
    size: int
    copied: int


def back_up(settings: HubSettings, target: str) -> BackedUp:
    """Copies the hub into the directory `target`. NotFound, UserMistake; CorruptData when a blob is not whole."""
    _require_local(settings)
    if not os.path.exists(settings.path(_DATABASE)):
        raise NotFound(f"no hub in {settings.data}")
    inner, outer = os.path.realpath(target), os.path.realpath(settings.data)
    if os.path.commonpath([inner, outer]) in (inner, outer):
        raise UserMistake("a backup lies outside of the hub's data directory, and not around it")
    return _copy(settings.data, settings.storage or settings.data, target, target)


def restore(settings: HubSettings, source: str) -> BackedUp:
    """Makes the hub of `settings` from a backup. UserMistake when there is one already; NotFound, CorruptData."""
    _require_local(settings)
    if not os.path.exists(os.path.join(source, _DATABASE)):
        raise NotFound(f"no backup of a hub in {source}")
    if os.path.exists(settings.path(_DATABASE)):
        raise UserMistake(f"{settings.data} holds a hub already", hint="restore into another --data directory")
    return _copy(source, source, settings.data, settings.storage or settings.data)


def _require_local(settings: HubSettings) -> None:
    if settings.database_url or settings.storage.startswith("s3:"):
        raise UserMistake(
            "only a hub on SQLite and files is backed up by this command",
            hint="run pg_dump first and copy the bucket second: what a dump names stays there for the time of grace",
        )


def _copy(source: str, source_blobs: str, target: str, target_blobs: str) -> BackedUp:
    make_private_directory(target)
    blobs = _BlobCopy(FileStorage(source_blobs), FileStorage(target_blobs))
    snapshot = os.path.join(target, _DATABASE + ".new")
    for _ in range(_ATTEMPTS):
        _take_snapshot(os.path.join(source, _DATABASE), snapshot)
        lacking = blobs.copy_all(snapshot)
        if not lacking:
            break
    else:
        os.unlink(snapshot)
        raise CorruptData(f"the blob {lacking[0]} is missing or damaged", hint="moldar hub check names all of them")
    _copy_keys(os.path.join(source, _KEYS), os.path.join(target, _KEYS))
    os.replace(snapshot, os.path.join(target, _DATABASE))
    _sync(target)
    return blobs.tidied(os.path.join(target, _DATABASE))


class _BlobCopy:
    """Copies blobs that are not there yet, hashing them on the way."""

    def __init__(self, source: FileStorage, target: FileStorage) -> None:
        self._source = source
        self._target = target
        self._copied = 0

    def copy_all(self, snapshot: str) -> list[Digest]:
        """Copies what the tables name; gives what could not be had."""
        lacking = []
        for digest, size in _blobs_of(snapshot):
            if self._target.size(digest) != size and not self._copy(digest):
                lacking.append(digest)
        return lacking

    def tidied(self, snapshot: str) -> BackedUp:
        """Deletes what the tables do not name any more; tells what is there."""
        named = dict(_blobs_of(snapshot))
        self._target.delete_all([digest for digest in self._target.digests() if digest not in named])
        return BackedUp(len(named), sum(named.values()), self._copied)

    def _copy(self, digest: Digest) -> bool:
        name = f"copy-{os.getpid()}"
        self._target.discard(name)
        self._target.begin(name)
        writer = self._target.resume(name, digest.partition(":")[0])
        try:
            with open(self._source.path(digest), "rb", buffering=0) as file:
                while data := file.read(CHUNK):
                    writer.write(data)
            writer.seal(digest)
            writer.publish(digest)
        except (FileNotFoundError, Refusal):  # collected meanwhile, or not what its name says
            return False
        finally:
            writer.close()
            self._target.discard(name)
        self._copied += 1
        return True


def _take_snapshot(database: str, target: str) -> None:
    """The tables as they are at one moment, without the sessions, whose bytes are not copied."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(target)
    try:
        with (
            contextlib.closing(sqlite3.connect(f"file:{_quoted(database)}?mode=ro", uri=True)) as source,
            contextlib.closing(sqlite3.connect(target)) as copy,
        ):
            source.execute("PRAGMA busy_timeout=30000")
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
            copy.execute("DELETE FROM uploads")
            copy.commit()
    except sqlite3.DatabaseError as error:
        raise CorruptData(f"cannot read {database}: {error}") from error
    os.chmod(target, 0o600)
    _sync(target)


def _blobs_of(snapshot: str) -> Iterator[tuple[Digest, int]]:
    with contextlib.closing(sqlite3.connect(snapshot)) as tables:
        for digest, size in tables.execute("SELECT digest, size FROM blobs ORDER BY digest"):
            yield Digest(digest), int(size)


def _copy_keys(source: str, target: str) -> None:
    make_private_directory(target)
    try:
        for name in os.listdir(source):
            temporary = os.path.join(target, name + ".new")
            shutil.copyfile(os.path.join(source, name), temporary)
            os.chmod(temporary, 0o600)
            _sync(temporary)
            os.replace(temporary, os.path.join(target, name))
    except OSError as error:
        raise HostTrouble(f"cannot copy the hub's keys: {error.strerror}") from error


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
