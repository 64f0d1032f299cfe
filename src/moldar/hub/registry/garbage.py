"""Collects what nothing needs any more, in small steps, while pushes and pulls go on.

Three kinds of garbage, in the order in which they are collected:

- a blob that no manifest of its repository refers to, once nobody was told of it for the time of grace (an upload, a
  mount, a HEAD and the end of the last reference each start that time anew): the repository's hold on it goes;
- the bytes of a blob that no repository holds, at once;
- files that the database does not know: what a kill left between a file and its row.

Every step is one short transaction that looks again at what it deletes, and writers take turns. Uploads and mounts
put bytes in place and write their rows in one transaction too, or announce before what they are about to put in
place: so no step ever takes half of a push. A hold is gone for good, power loss or not, before the bytes go.
"""

import threading
import time
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple, TypeVar

from sqlalchemy import ColumnElement, delete, exists, func, select, tuple_

from moldar.hub.clock import Clock
from moldar.hub.data.database import Database
from moldar.hub.data.schema import BLOBS, REPOSITORY_BLOBS, UPLOADS
from moldar.hub.registry.blobs import Blobs, announced, referenced
from moldar.hub.storage.contract import BlobStorage
from moldar.image.model import Digest

_STEP = 100
_REST_SECONDS = 0.005
T = TypeVar("T")


class Collected(NamedTuple):
    """What a collection did, or would do.

    `uploads`: expired sessions; `holds`: blobs that repositories no longer hold; `blobs` and `size`: those whose
    bytes went; `strays`: files without a row. `seconds`: how long it took. `tags`, `manifests`: what retention rules
    and copies that nobody pulls gave before it.
    """

    uploads: int = 0
    holds: int = 0
    blobs: int = 0
    size: int = 0
    strays: int = 0
    seconds: float = 0.0
    tags: int = 0
    manifests: int = 0

    @property
    def is_nothing(self) -> bool:
        return not (self.uploads or self.holds or self.blobs or self.strays or self.tags or self.manifests)


class Collector:
    """Garbage collection of one hub. Several may run at once, also in other processes."""

    def __init__(self, database: Database, storage: BlobStorage, blobs: Blobs, clock: Clock) -> None:
        self._database = database
        self._storage = storage
        self._blobs = blobs
        self._clock = clock

    def collect(self, grace: int, upload_lifetime: int, stopping: threading.Event | None = None) -> Collected:
        """Collects until nothing is left, or `stopping` is set. Times are in seconds."""
        started = time.monotonic()
        stopping = stopping or threading.Event()
        uploads = self._blobs.expire_uploads(upload_lifetime)
        holds = self._let_go(grace, stopping)
        blobs, size = self._free(stopping)
        strays = self._sweep(stopping)
        return Collected(uploads, holds, blobs, size, strays, time.monotonic() - started)

    def preview(self, grace: int, upload_lifetime: int) -> Collected:
        """What `collect` would do now. Changes nothing."""
        started = time.monotonic()
        idle = self._idle(grace)
        kept = exists().where(REPOSITORY_BLOBS.c.digest == BLOBS.c.digest, ~idle) | announced()
        with self._database.reading() as connection:
            holds = connection.execute(select(func.count()).select_from(REPOSITORY_BLOBS).where(idle)).scalar_one()
            query = select(func.count(), func.coalesce(func.sum(BLOBS.c.size), 0)).where(~kept)
            blobs, size = connection.execute(query).one()
        strays = sum(len(self._without_row(digests)) for digests in _batches(self._storage.digests()))
        uploads = self._blobs.count_expired(upload_lifetime)
        return Collected(uploads, int(holds), int(blobs), int(size), strays, time.monotonic() - started)

    def _idle(self, grace: int) -> ColumnElement[bool]:
        return (REPOSITORY_BLOBS.c.created < self._clock() - grace) & ~referenced()

    def _let_go(self, grace: int, stopping: threading.Event) -> int:
        place = tuple_(REPOSITORY_BLOBS.c.repository_id, REPOSITORY_BLOBS.c.digest)
        after: tuple[int, str] = (0, "")
        gone = 0
        while not stopping.wait(_REST_SECONDS):
            idle = self._idle(grace)
            query = select(REPOSITORY_BLOBS.c.repository_id, REPOSITORY_BLOBS.c.digest).where(idle, place > after)
            with self._database.reading() as connection:
                found = connection.execute(query.order_by(*place.clauses).limit(_STEP)).all()
            if not found:
                break
            with self._database.writing() as connection:
                for number, digest in found:
                    this = (REPOSITORY_BLOBS.c.repository_id == number) & (REPOSITORY_BLOBS.c.digest == digest)
                    gone += connection.execute(delete(REPOSITORY_BLOBS).where(this, idle)).rowcount
            after = (found[-1][0], found[-1][1])
        return gone

    def _free(self, stopping: threading.Event) -> tuple[int, int]:
        unheld = ~exists().where(REPOSITORY_BLOBS.c.digest == BLOBS.c.digest) & ~announced()
        after = ""
        gone = freed = 0
        while not stopping.wait(_REST_SECONDS):
            query = select(BLOBS.c.digest, BLOBS.c.size).where(unheld, BLOBS.c.digest > after)
            with self._database.reading() as connection:
                found = connection.execute(query.order_by(BLOBS.c.digest).limit(_STEP)).all()
            if not found:
                break
            with self._database.writing(durable=False) as connection:
                free = [
                    (Digest(digest), int(size))
                    for digest, size in found
                    if connection.execute(delete(BLOBS).where(BLOBS.c.digest == digest, unheld)).rowcount
                ]
                self._storage.delete_all([digest for digest, _ in free])
            gone += len(free)
            freed += sum(size for _, size in free)
            after = found[-1][0]
        return gone, freed

    def _sweep(self, stopping: threading.Event) -> int:
        gone = 0
        for digests in _batches(self._storage.digests()):
            if stopping.wait(_REST_SECONDS):
                break
            if not self._without_row(digests):
                continue
            with self._database.writing(durable=False):  # nobody writes a row now
                strays = self._without_row(digests)
                self._storage.delete_all(strays)
            gone += len(strays)
        return gone

    def _without_row(self, digests: list[Digest]) -> list[Digest]:
        with self._database.reading() as connection:
            stored = select(BLOBS.c.digest).where(BLOBS.c.digest.in_(digests))
            coming = select(UPLOADS.c.digest).where(UPLOADS.c.digest.in_(digests))
            known = set(connection.execute(stored.union(coming)).scalars())
        return [digest for digest in digests if digest not in known]


def _batches(items: Iterator[T]) -> Iterator[list[T]]:
    while batch := list(islice(items, _STEP)):
        yield batch
