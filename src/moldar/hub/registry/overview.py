"""What an administrator sees of the whole hub: how much each namespace keeps, and what collections did."""

from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, delete, func, insert, literal_column, select

from moldar.hub.clock import Clock
from moldar.hub.data.database import Database
from moldar.hub.data.schema import BLOBS, COLLECTIONS, MANIFESTS, REPOSITORIES, REPOSITORY_BLOBS, TAGS, UPLOADS
from moldar.hub.registry.garbage import Collected

_KEPT = 30


class Totals(NamedTuple):
    """How much there is. `size`: of the blobs' bytes, each counted once."""

    repositories: int
    tags: int
    manifests: int
    blobs: int
    size: int
    uploads: int


class Usage(NamedTuple):
    """What one namespace holds. A blob counts once, however many of its repositories hold it."""

    namespace: str
    repositories: int
    blobs: int
    size: int


class Collection(NamedTuple):
    """A garbage collection that was done, and when."""

    at: int
    found: Collected


class OpenUpload(NamedTuple):
    """An upload that was begun and not ended. `started`: seconds since 1970."""

    repository: str
    started: int


class Overview:
    """Figures of one hub. What it asks of the database grows with the hub: call it in a thread."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def totals(self) -> Totals:
        def count(table: Any) -> Any:
            return select(func.count()).select_from(table).scalar_subquery()

        size = select(func.coalesce(func.sum(BLOBS.c.size), 0)).scalar_subquery()
        query = select(count(REPOSITORIES), count(TAGS), count(MANIFESTS), count(BLOBS), size, count(UPLOADS))
        with self._database.reading() as connection:
            return Totals(*(int(number) for number in connection.execute(query).one()))

    def usage(self, limit: int = 100) -> list[Usage]:
        """The namespaces that hold the most, the largest first."""
        with self._database.reading() as connection:
            namespace = _namespace(connection.dialect.name)
            held = (
                select(namespace.label("namespace"), REPOSITORY_BLOBS.c.digest.label("digest"))
                .join(REPOSITORIES, REPOSITORIES.c.id == REPOSITORY_BLOBS.c.repository_id)
                .distinct()
                .subquery()
            )
            total = func.sum(BLOBS.c.size)
            query = select(held.c.namespace, func.count(), total).join(BLOBS, BLOBS.c.digest == held.c.digest)
            rows = connection.execute(query.group_by(held.c.namespace).order_by(total.desc()).limit(limit)).all()
            counted = select(namespace, func.count()).select_from(REPOSITORIES).group_by(namespace)
            repositories = {str(row[0]): int(row[1]) for row in connection.execute(counted)}
        return [Usage(str(name), repositories.get(str(name), 0), int(blobs), int(size)) for name, blobs, size in rows]

    def uploads(self, limit: int = 50) -> list[OpenUpload]:
        """The uploads that are open, the newest first."""
        query = select(UPLOADS.c.repository, UPLOADS.c.started).order_by(UPLOADS.c.started.desc()).limit(limit)
        with self._database.reading() as connection:
            return [OpenUpload(str(row[0]), int(row[1])) for row in connection.execute(query)]

    def last_collection(self) -> Collection | None:
        query = select(COLLECTIONS).order_by(COLLECTIONS.c.id.desc()).limit(1)
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        found = Collected(row.uploads, row.holds, row.blobs, row.size, row.strays, row.milliseconds / 1000)
        return Collection(row.at, found)

    def note_collection(self, found: Collected) -> None:
        """Remembers what a collection did."""
        row = {name: getattr(found, name) for name in ("uploads", "holds", "blobs", "size", "strays")}
        row |= {"at": self._clock(), "milliseconds": int(found.seconds * 1000)}
        with self._database.writing(durable=False) as connection:
            connection.execute(insert(COLLECTIONS).values(row))
            newest = select(func.max(COLLECTIONS.c.id)).scalar_subquery()
            connection.execute(delete(COLLECTIONS).where(COLLECTIONS.c.id <= newest - _KEPT))


def _namespace(dialect: str) -> ColumnElement[str]:
    """A repository's first component, in the database's own words."""
    if dialect == "postgresql":
        return literal_column("split_part(repositories.name, '/', 1)")
    return literal_column("substr(repositories.name, 1, instr(repositories.name || '/', '/') - 1)")
