"""Blobs of repositories and the uploads that make them.

The bytes are in the storage, once; what a repository holds is a row. A commit puts the bytes in place first and the
row second, so that a row always has its bytes. Garbage collection never sees half of it: both happen in one
transaction, or, where the storage is across a network and no transaction should wait for it, the session first
announces which blob it is about to become, and collection leaves an announced blob alone.
"""

import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, delete, exists, func, insert, select, update

from moldar.errors import NotFound
from moldar.hub.access import audit
from moldar.hub.access.audit import Actor, record
from moldar.hub.clock import Clock
from moldar.hub.data.database import Database, inserting
from moldar.hub.data.schema import BLOBS, MANIFEST_REFERENCES, REPOSITORIES, REPOSITORY_BLOBS, UPLOADS
from moldar.hub.refusals import Refusal
from moldar.hub.registry.repositories import Repositories, repository_id
from moldar.hub.storage.contract import ALGORITHMS, BlobReader, BlobStorage, UploadWriter
from moldar.image.model import Digest

Admission = Callable[[Connection, str, Digest, int], None]
"""Whether a repository may have a blob of that size, within the transaction that gives it: Refusal DENIED."""


class Upload(NamedTuple):
    """A session. `algorithm`: of the hash that is kept while the bytes come in."""

    id: str
    repository: str
    account_id: int | None
    algorithm: str
    started: int


class Held(NamedTuple):
    """A blob as a repository holds it. `told`: when somebody was last told that it is there."""

    size: int
    told: int
    is_referenced: bool


class Blobs:
    """The blobs of one hub's repositories."""

    def __init__(
        self,
        database: Database,
        storage: BlobStorage,
        repositories: Repositories,
        clock: Clock,
        admit: Admission = lambda *_: None,
    ) -> None:
        self._admit = admit
        self._database = database
        self._storage = storage
        self._repositories = repositories
        self._clock = clock

    def size(self, repository: str, digest: Digest) -> int | None:
        """The size of a blob that the repository holds, None when it holds none such."""
        held = self.held(repository, digest)
        return held.size if held else None

    def held(self, repository: str, digest: Digest) -> Held | None:
        """What there is to say about a blob of the repository, None when it holds none such."""
        query = (
            select(BLOBS.c.size, REPOSITORY_BLOBS.c.created, referenced())
            .join(REPOSITORY_BLOBS, REPOSITORY_BLOBS.c.digest == BLOBS.c.digest)
            .join(REPOSITORIES, REPOSITORIES.c.id == REPOSITORY_BLOBS.c.repository_id)
            .where(REPOSITORIES.c.name == repository, BLOBS.c.digest == digest)
        )
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return Held(int(row[0]), int(row[1]), bool(row[2])) if row else None

    def tell(self, repository: str, digest: Digest) -> None:
        """Starts the blob's time of grace anew: a client hears that it is there. Refusal BLOB_UNKNOWN."""
        with self._database.writing(durable=False) as connection:
            this = REPOSITORY_BLOBS.c.repository_id == repository_id(connection, repository)
            this &= REPOSITORY_BLOBS.c.digest == digest
            if not connection.execute(update(REPOSITORY_BLOBS).where(this).values(created=self._clock())).rowcount:
                raise Refusal("BLOB_UNKNOWN", detail={"digest": digest})

    def open(self, digest: Digest) -> BlobReader:
        """A blob that `size` has found. Refusal BLOB_UNKNOWN when its bytes are gone."""
        try:
            return self._storage.open(digest)
        except NotFound as error:
            raise Refusal("BLOB_UNKNOWN", detail={"digest": digest}) from error

    def delete(self, repository: str, digest: Digest, *, by: Actor | None = None) -> None:
        """Takes the blob out of the repository. Refusal BLOB_UNKNOWN, NAME_UNKNOWN."""
        with self._database.writing() as connection:
            number = repository_id(connection, repository)
            condition = (REPOSITORY_BLOBS.c.repository_id == number) & (REPOSITORY_BLOBS.c.digest == digest)
            if not connection.execute(delete(REPOSITORY_BLOBS).where(condition)).rowcount:
                raise Refusal("BLOB_UNKNOWN", detail={"digest": digest})
            record(connection, self._clock(), by, audit.DELETED, repository, detail=digest)

    def holders(self, digest: Digest, limit: int = 50) -> list[str]:
        """Names of repositories that hold the blob."""
        query = (
            select(REPOSITORIES.c.name)
            .join(REPOSITORY_BLOBS, REPOSITORY_BLOBS.c.repository_id == REPOSITORIES.c.id)
            .where(REPOSITORY_BLOBS.c.digest == digest)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return list(connection.execute(query).scalars())

    def mount(self, repository: str, digest: Digest, source: str) -> int | None:
        """Gives `repository` a blob that `source` holds: its size, or None when it holds none such.

        Refusal DENIED when it is not admitted.
        """
        if self.size(source, digest) is None or self._storage.size(digest) is None:
            return None
        with self._database.writing(durable=False) as connection:
            size = self.size(source, digest)  # again: nothing can go now, and bytes go only with their row
            if size is None:
                return None
            self._admit(connection, repository, digest, size)
            self._link(connection, repository, digest, size)
        return size

    # --- Uploads ----------------------------------------------------------------------------------------------

    def begin(self, repository: str, account_id: int | None, algorithm: str = "sha256") -> Upload:
        """A new session. Refusal DIGEST_INVALID for an unknown algorithm."""
        if algorithm not in ALGORITHMS:
            raise Refusal("DIGEST_INVALID", f"unsupported digest algorithm {algorithm[:32]!r}")
        upload = Upload(str(uuid.uuid4()), repository, account_id, algorithm, self._clock())
        with self._database.writing(durable=False, alone=False) as connection:  # before its file: else a stray
            connection.execute(insert(UPLOADS).values(upload._asdict()))
        try:
            self._storage.begin(upload.id)
        except Exception:
            self.cancel(upload)
            raise
        return upload

    def find(self, repository: str, upload_id: str) -> Upload:
        """The session, of this repository only. Refusal BLOB_UPLOAD_UNKNOWN."""
        query = select(UPLOADS).where(UPLOADS.c.id == upload_id, UPLOADS.c.repository == repository)
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise Refusal("BLOB_UPLOAD_UNKNOWN")
        return _upload(row)

    def offset(self, upload: Upload) -> int:
        """How many bytes the session holds. Refusal BLOB_UPLOAD_UNKNOWN."""
        offset = self._storage.offset(upload.id)
        if offset is None:
            raise Refusal("BLOB_UPLOAD_UNKNOWN")
        return offset

    def resume(self, upload: Upload) -> UploadWriter:
        """Takes hold of the session. May read all its bytes again. Refusal BLOB_UPLOAD_UNKNOWN."""
        try:
            return self._storage.resume(upload.id, upload.algorithm)
        except NotFound as error:
            raise Refusal("BLOB_UPLOAD_UNKNOWN") from error

    def commit(self, upload: Upload, writer: UploadWriter, digest: Digest) -> int:
        """Ends the session with a blob of the repository; gives its size. Refusal DIGEST_INVALID, DENIED."""
        size = writer.seal(digest)
        if self._storage.is_remote:
            self._announce(upload, digest)
            _publish(writer, digest)
        with self._database.writing(durable=False) as connection:
            self._admit(connection, upload.repository, digest, size)
            if not self._storage.is_remote:
                _publish(writer, digest)
            self._link(connection, upload.repository, digest, size)
            ended = connection.execute(delete(UPLOADS).where(UPLOADS.c.id == upload.id)).rowcount
            if self._storage.is_remote and not ended:  # cancelled: nothing has kept collection from the bytes since
                raise Refusal("BLOB_UPLOAD_UNKNOWN")
        return size

    def _announce(self, upload: Upload, digest: Digest) -> None:
        with self._database.writing(durable=False, alone=False) as connection:
            row = update(UPLOADS).where(UPLOADS.c.id == upload.id)
            if not connection.execute(row.values(digest=digest)).rowcount:
                raise Refusal("BLOB_UPLOAD_UNKNOWN")

    def cancel(self, upload: Upload) -> None:
        self._storage.discard(upload.id)
        with self._database.writing(durable=False) as connection:
            connection.execute(delete(UPLOADS).where(UPLOADS.c.id == upload.id))

    def expire_uploads(self, lifetime: int) -> int:
        """Cancels the sessions that began over `lifetime` seconds ago, and files that no session owns."""
        files = list(self._storage.uploads())  # before the rows: a session that begins now has its row first
        oldest = self._clock() - lifetime
        with self._database.reading() as connection:
            rows = [_upload(row) for row in connection.execute(select(UPLOADS))]
        stale = [upload for upload in rows if upload.started < oldest]
        for upload in stale:
            self.cancel(upload)
        kept = {upload.id for upload in rows}
        for name in files:
            if name not in kept:
                self._storage.discard(name)
        return len(stale)

    def count_expired(self, lifetime: int) -> int:
        """How many sessions `expire_uploads` would cancel."""
        with self._database.reading() as connection:
            query = select(func.count()).select_from(UPLOADS).where(UPLOADS.c.started < self._clock() - lifetime)
            return int(connection.execute(query).scalar_one())

    def _link(self, connection: Connection, repository: str, digest: Digest, size: int) -> None:
        now = self._clock()
        number = self._repositories.ensure(connection, repository)
        connection.execute(
            inserting(connection, BLOBS).values(digest=digest, size=size, created=now).on_conflict_do_nothing()
        )
        connection.execute(
            inserting(connection, REPOSITORY_BLOBS)
            .values(repository_id=number, digest=digest, created=now)
            .on_conflict_do_update(index_elements=["repository_id", "digest"], set_={"created": now})
        )


def _publish(writer: UploadWriter, digest: Digest) -> None:
    try:
        writer.publish(digest)
    except FileNotFoundError as error:
        raise Refusal("BLOB_UPLOAD_UNKNOWN") from error


def _upload(row: Row[Any]) -> Upload:
    return Upload(row.id, row.repository, row.account_id, row.algorithm, row.started)


def announced() -> ColumnElement[bool]:
    """Whether a session is about to become the blob of a row of `blobs`."""
    return exists().where(UPLOADS.c.digest == BLOBS.c.digest)


def referenced() -> ColumnElement[bool]:
    """Whether a manifest of its repository refers to the blob of a row of `repository_blobs`."""
    references = MANIFEST_REFERENCES.c
    return exists().where(
        references.digest == REPOSITORY_BLOBS.c.digest, references.repository_id == REPOSITORY_BLOBS.c.repository_id
    )
