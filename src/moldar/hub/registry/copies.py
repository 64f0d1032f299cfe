"""Copies of what other registries hold: how they are put into repositories of ours, and when they are forgotten.

Such a repository is marked, is on no list, and may hold parts only: a manifest comes when it is asked for, a blob
when it is. What nobody has pulled for a while goes in small steps; collection then frees its blobs.
"""

import threading
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, select, tuple_

from moldar.hub.clock import Clock
from moldar.hub.data.database import Database, inserting
from moldar.hub.data.schema import CACHED_REPOSITORIES, MANIFEST_USE, MANIFESTS
from moldar.hub.registry.blobs import Blobs
from moldar.hub.registry.events import Outbox
from moldar.hub.registry.manifests import Manifests, remove
from moldar.hub.registry.repositories import Repositories
from moldar.hub.storage.contract import BlobStorage

_STEP = 100
_REST_SECONDS = 0.005


class Copies:
    """The copies of one hub. `blobs` and `manifests` put content into their repositories."""

    def __init__(self, database: Database, storage: BlobStorage, clock: Clock, *, limit: int, outbox: Outbox) -> None:
        self._database = database
        self._clock = clock
        self._repositories = Repositories(database, clock, new_are_public=False)
        self.blobs = Blobs(database, storage, self._repositories, clock)
        self.manifests = Manifests(database, self._repositories, clock, outbox, limit=limit, allow_sparse=True)

    def mark(self, repository: str, upstream: str) -> None:
        """Notes that `repository` holds copies of what `upstream` has; makes it when missing."""
        with self._database.writing(durable=False) as connection:
            number = self._repositories.ensure(connection, repository)
            row = inserting(connection, CACHED_REPOSITORIES).values(repository_id=number, upstream=upstream)
            connection.execute(row.on_conflict_do_nothing())

    def forget(self, keep: int, stopping: threading.Event | None = None) -> int:
        """Deletes the manifests that nobody pulled for `keep` seconds (0: none), with their tags: how many."""
        stopping = stopping or threading.Event()
        gone = 0
        after: tuple[int, str] = (0, "")
        place = tuple_(MANIFESTS.c.repository_id, MANIFESTS.c.digest)
        while keep and not stopping.wait(_REST_SECONDS):
            query = _unused(self._clock() - keep)
            with self._database.reading() as connection:
                found = connection.execute(query.where(place > after).order_by(*place.clauses).limit(_STEP)).all()
            if not found:
                break
            with self._database.writing(durable=False) as connection:
                for number, digest in found:
                    again = query.where(MANIFESTS.c.repository_id == number, MANIFESTS.c.digest == digest)
                    if connection.execute(again).first():
                        gone += remove(connection, number, digest, self._clock())
            after = (found[-1][0], found[-1][1])
        return gone


def _unused(oldest: int) -> Select[Any]:
    """Copied manifests that came, and were pulled last, before `oldest`."""
    same: ColumnElement[bool] = and_(
        MANIFEST_USE.c.repository_id == MANIFESTS.c.repository_id, MANIFEST_USE.c.digest == MANIFESTS.c.digest
    )
    return (
        select(MANIFESTS.c.repository_id, MANIFESTS.c.digest)
        .join(CACHED_REPOSITORIES, CACHED_REPOSITORIES.c.repository_id == MANIFESTS.c.repository_id)
        .outerjoin(MANIFEST_USE, same)
        .where(MANIFESTS.c.pushed < oldest, func.coalesce(MANIFEST_USE.c.pulled, 0) < oldest)
    )
