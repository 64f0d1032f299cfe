"""Quotas: how many bytes of distinct blobs a namespace (`alice`) may hold.

Whether an upload fits is guessed when it begins and decided in the transaction that would make it a blob. A hub
without quotas asks the database one short question for each upload, and pulls none.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, exists, func, insert, select

from moldar.hub.data.database import Database
from moldar.hub.data.schema import BLOBS, QUOTAS, REPOSITORIES, REPOSITORY_BLOBS
from moldar.hub.refusals import Refusal
from moldar.image.model import Digest


class Usage(NamedTuple):
    """Bytes that a namespace holds and may hold; a `limit` of 0 means as many as it likes."""

    namespace: str
    used: int
    limit: int

    @property
    def room(self) -> int | None:
        return max(self.limit - self.used, 0) if self.limit else None


class Quotas:
    """The quotas of one hub. `default`: in bytes, for namespaces without one of their own; 0 for none."""

    def __init__(self, database: Database, default: int = 0) -> None:
        self._database = database
        self._default = default

    def usage(self, namespace: str) -> Usage:
        with self._database.reading() as connection:
            return Usage(namespace, _used(connection, namespace), self._limit(connection, namespace))

    def room(self, repository: str, digest: Digest | None = None) -> Usage | None:
        """The usage when it limits an upload (of `digest`, if that is known) to the repository, else None."""
        namespace = repository.partition("/")[0]
        with self._database.reading() as connection:
            limit = self._limit(connection, namespace)
            if not limit or (digest and _holds(connection, namespace, digest)):
                return None
            return Usage(namespace, _used(connection, namespace), limit)

    def admit(self, connection: Connection, repository: str, digest: Digest, size: int) -> None:
        """Within the transaction that gives `repository` a blob. Refusal DENIED when it does not fit."""
        namespace = repository.partition("/")[0]
        limit = self._limit(connection, namespace)
        if not limit or _holds(connection, namespace, digest):
            return
        usage = Usage(namespace, _used(connection, namespace), limit)
        if usage.used + size > limit:
            raise over_quota(usage, size)

    def set_limit(self, namespace: str, limit: int | None) -> None:
        """`limit`: 0 for none, None for the hub's default."""
        with self._database.writing() as connection:
            connection.execute(delete(QUOTAS).where(QUOTAS.c.namespace == namespace))
            if limit is not None:
                connection.execute(insert(QUOTAS).values(namespace=namespace, bytes=limit))

    def own_limits(self) -> Sequence[Usage]:
        """The namespaces that have a quota of their own, with what they use."""
        with self._database.reading() as connection:
            rows = connection.execute(select(QUOTAS).order_by(QUOTAS.c.namespace)).all()
            return [Usage(row.namespace, _used(connection, row.namespace), int(row.bytes)) for row in rows]

    def _limit(self, connection: Connection, namespace: str) -> int:
        own = connection.execute(select(QUOTAS.c.bytes).where(QUOTAS.c.namespace == namespace)).scalar()
        return self._default if own is None else int(own)


def over_quota(usage: Usage, size: int) -> Refusal:
    """The refusal of an upload of `size` bytes, or of unknown size when 0."""
    upload = f"an upload of {_shown(size)}" if size else "this upload"
    return Refusal(
        "DENIED",
        f"{usage.namespace} uses {_shown(usage.used)} of its {_shown(usage.limit)}: {upload} does not fit. "
        "Delete images that are not needed (their space is free after the next garbage collections), "
        "or ask the hub's administrator for more",
    )


def _of(namespace: str) -> ColumnElement[bool]:
    return REPOSITORIES.c.name.startswith(namespace + "/", autoescape=True) | (REPOSITORIES.c.name == namespace)


def _used(connection: Connection, namespace: str) -> int:
    held = (
        select(REPOSITORY_BLOBS.c.digest)
        .join(REPOSITORIES, REPOSITORIES.c.id == REPOSITORY_BLOBS.c.repository_id)
        .where(_of(namespace))
    )
    query = select(func.coalesce(func.sum(BLOBS.c.size), 0)).where(BLOBS.c.digest.in_(held))
    return int(connection.execute(query).scalar_one())


def _holds(connection: Connection, namespace: str, digest: Digest) -> bool:
    here = exists().where(
        REPOSITORY_BLOBS.c.digest == digest, REPOSITORIES.c.id == REPOSITORY_BLOBS.c.repository_id, _of(namespace)
    )
    return bool(connection.execute(select(here)).scalar())


def _shown(size: int) -> str:
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
