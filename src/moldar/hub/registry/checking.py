"""Verifies what the hub promises: every blob with a row has its bytes, and all bytes are what their digest says.

It runs beside pushes and collections: what it finds wrong it looks at again before it says so.
"""

import hashlib
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Select, func, select, tuple_

from moldar.errors import HostTrouble, NotFound
from moldar.hub.data.database import Database
from moldar.hub.data.schema import BLOBS, MANIFEST_REFERENCES, MANIFESTS, REPOSITORIES, REPOSITORY_BLOBS, UPLOADS
from moldar.hub.refusals import Unavailable
from moldar.hub.storage.contract import BlobStorage
from moldar.image.model import Digest

_STEP = 100
_NAMES = 3


class Problem(NamedTuple):
    """Something that is not as it should be. `kind`: in words; `holders`: the repositories that are hurt."""

    kind: str
    digest: str
    holders: str


class Checked(NamedTuple):
    """What was looked at, and what is wrong. `strays`: bytes without a row, which collection will take."""

    blobs: int
    size: int
    manifests: int
    strays: int
    problems: tuple[Problem, ...]


class Checker:
    """Checks of one hub's content."""

    def __init__(self, database: Database, storage: BlobStorage) -> None:
        self._database = database
        self._storage = storage

    def check(self, *, quick: bool = False) -> Checked:
        """Looks at everything; `quick`: at sizes only, without reading blobs. Raises Unavailable."""
        problems: list[Problem] = []
        blobs = size = 0
        for digest, length in self._blobs():
            kind = self._problem(digest, length, quick)
            blobs += 1
            size += length
            if kind and self._is_still_promised(digest):
                problems.append(Problem(kind, digest, self._holders(digest)))
        manifests = 0
        for repository, name, content in self._manifests():
            manifests += 1
            algorithm, _, wanted = name.partition(":")
            if hashlib.new(algorithm, content).hexdigest() != wanted:
                problems.append(Problem("damaged manifest", name, repository))
        return Checked(blobs, size, manifests, self._strays(), tuple(problems))

    def _problem(self, digest: Digest, length: int, quick: bool) -> str:
        """What is wrong with a blob; empty for nothing."""
        if quick:
            size = self._storage.size(digest)
            return "missing blob" if size is None else "" if size == length else "damaged blob"
        try:
            reader = self._storage.open(digest)
        except NotFound:
            return "missing blob"
        running = hashlib.new(digest.partition(":")[0])
        try:
            for data in reader.chunks(0, reader.size):
                running.update(data)
        except Unavailable:
            raise
        except (HostTrouble, FileNotFoundError):
            return "missing blob" if self._storage.size(digest) is None else "damaged blob"
        except OSError:
            return "unreadable blob"
        finally:
            reader.close()
        return "" if running.hexdigest() == digest.partition(":")[2] and reader.size == length else "damaged blob"

    def _is_still_promised(self, digest: Digest) -> bool:
        with self._database.reading() as connection:
            return connection.execute(select(BLOBS.c.digest).where(BLOBS.c.digest == digest)).first() is not None

    def _holders(self, digest: Digest) -> str:
        """The repositories that refer to the blob; those that only hold it when none does."""
        references = MANIFEST_REFERENCES.c
        for table in (references, REPOSITORY_BLOBS.c):
            query = (
                select(REPOSITORIES.c.name)
                .join(table.digest.table, table.repository_id == REPOSITORIES.c.id)
                .where(table.digest == digest)
                .distinct()
                .order_by(REPOSITORIES.c.name)
            )
            with self._database.reading() as connection:
                names = list(connection.execute(query).scalars())
            if names:
                more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
                return ", ".join(names[:_NAMES]) + more
        return ""

    def _blobs(self) -> Iterator[tuple[Digest, int]]:
        last = ""
        while rows := self._read(
            select(BLOBS.c.digest, BLOBS.c.size).where(BLOBS.c.digest > last).order_by(BLOBS.c.digest)
        ):
            last = rows[-1][0]
            yield from ((Digest(digest), int(size)) for digest, size in rows)

    def _manifests(self) -> Iterator[tuple[str, str, bytes]]:
        place = tuple_(MANIFESTS.c.repository_id, MANIFESTS.c.digest)
        columns = (MANIFESTS.c.repository_id, MANIFESTS.c.digest, REPOSITORIES.c.name, MANIFESTS.c.content)
        query = select(*columns).join(REPOSITORIES, REPOSITORIES.c.id == MANIFESTS.c.repository_id)
        last: tuple[int, str] = (0, "")
        while rows := self._read(query.where(place > last).order_by(*place.clauses)):
            last = (rows[-1][0], rows[-1][1])
            yield from ((name, digest, bytes(content)) for _, digest, name, content in rows)

    def _strays(self) -> int:
        """How many blobs have bytes and neither a row nor a session that is about to give them one."""
        strays = 0
        stored = self._storage.digests()
        while batch := list(islice(stored, _STEP)):
            known = select(BLOBS.c.digest).where(BLOBS.c.digest.in_(batch))
            coming = select(UPLOADS.c.digest).where(UPLOADS.c.digest.in_(batch))
            both = known.union(coming).subquery()
            with self._database.reading() as connection:
                strays += len(batch) - connection.execute(select(func.count()).select_from(both)).scalar_one()
        return strays

    def _read(self, query: Select[Any]) -> list[Any]:
        with self._database.reading() as connection:
            return list(connection.execute(query.limit(_STEP)))
