"""Manifests, tags and referrers of repositories.

A manifest is stored in the database, byte for byte as it came, in one transaction with what it references, its tags
and the repository's time of push: a reader sees all of a push or nothing of it.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, delete, select, update

from moldar.errors import CorruptData
from moldar.hub.access import audit
from moldar.hub.access.audit import Actor, record
from moldar.hub.clock import Clock
from moldar.hub.data.database import Database, inserting
from moldar.hub.data.schema import (
    MANIFEST_REFERENCES,
    MANIFEST_USE,
    MANIFESTS,
    REPOSITORIES,
    REPOSITORY_BLOBS,
    TAGS,
    UPLOADS,
)
from moldar.hub.refusals import Refusal
from moldar.hub.registry.events import DELETE as DELETED
from moldar.hub.registry.events import PUSH, Event, Outbox
from moldar.hub.registry.immutable import refuse_deletion, refuse_move
from moldar.hub.registry.repositories import Repositories, note_push, repository_id
from moldar.image.model import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    Descriptor,
    Digest,
    Index,
    Manifest,
    parse_manifest,
)


class Stored(NamedTuple):
    """A manifest of a repository."""

    digest: Digest
    media_type: str
    content: bytes


class Tag(NamedTuple):
    """A tag and the manifest that it names. `updated`: seconds since 1970."""

    name: str
    digest: Digest
    updated: int
    media_type: str
    size: int


class Pushed(NamedTuple):
    """What a push of a manifest made. `subject`: the digest that the manifest refers to, or empty."""

    digest: Digest
    subject: str
    tags: tuple[str, ...]


class Manifests:
    """The manifests of one hub's repositories."""

    def __init__(
        self,
        database: Database,
        repositories: Repositories,
        clock: Clock,
        outbox: Outbox,
        *,
        limit: int,
        allow_sparse: bool,
    ) -> None:
        self._database = database
        self._repositories = repositories
        self._clock = clock
        self._outbox = outbox
        self._limit = limit
        self._allow_sparse = allow_sparse

    def get(self, repository: str, reference: str) -> Stored | None:
        """The manifest of a tag or digest."""
        query = (
            select(MANIFESTS.c.digest, MANIFESTS.c.media_type, MANIFESTS.c.content)
            .join(REPOSITORIES, REPOSITORIES.c.id == MANIFESTS.c.repository_id)
            .where(REPOSITORIES.c.name == repository)
        )
        if ":" in reference:
            query = query.where(MANIFESTS.c.digest == reference)
        else:
            query = query.join(
                TAGS, (TAGS.c.repository_id == MANIFESTS.c.repository_id) & (TAGS.c.digest == MANIFESTS.c.digest)
            ).where(TAGS.c.name == reference)
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return Stored(*row) if row else None

    def put(
        self,
        repository: str,
        raw: bytes,
        media_type: str,
        *,
        digest: Digest | None = None,
        tags: Iterable[str] = (),
        by: Actor | None = None,
    ) -> Pushed:
        """Stores a manifest under `digest` (sha256 when None) and points `tags` at it; `by` does so.

        Refusal: MANIFEST_INVALID, DIGEST_INVALID, MANIFEST_BLOB_UNKNOWN, DENIED (a tag that is immutable).
        """
        manifest = self._checked(raw, media_type)
        algorithm = digest.partition(":")[0] if digest else "sha256"
        actual = Digest(f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}")
        if digest and actual != digest:
            raise Refusal("DIGEST_INVALID", detail={"digest": digest})
        tags = tuple(dict.fromkeys(tags))
        now = self._clock()
        with self._database.writing() as connection:
            number = self._repositories.ensure(connection, repository)
            if not self._allow_sparse:
                self._check_references(connection, number, manifest)
            refuse_move(connection, number, tags, actual)
            _store(connection, number, actual, manifest, now)
            for tag in tags:
                _point(connection, number, tag, actual, now)
            note_push(connection, number, now)
            event = Event(PUSH, by.name if by else "", "", actual, manifest.media_type, len(raw))
            heard = self._outbox.announce(
                connection, number, repository, [event._replace(tag=tag) for tag in tags] or [event]
            )
            record(connection, now, by, audit.PUSHED, repository, detail=f"{' '.join(tags)[:150]} {actual}".strip())
        if heard:
            self._outbox.on_event()
        return Pushed(actual, manifest.subject.digest if manifest.subject else "", tags)

    def delete(self, repository: str, reference: str, *, by: Actor | None = None) -> None:
        """Deletes a tag, or a manifest by digest with the tags that point at it. Refusal MANIFEST_UNKNOWN, DENIED."""
        with self._database.writing() as connection:
            number = repository_id(connection, repository)
            refuse_deletion(connection, number, reference)
            event = _deletion(connection, number, reference, by)
            if ":" not in reference:
                gone = remove_tag(connection, number, reference, self._clock())
            else:
                gone = remove(connection, number, reference, self._clock())
            if not gone:
                raise Refusal("MANIFEST_UNKNOWN", detail={"reference": reference})
            heard = self._outbox.announce(connection, number, repository, [event])
            record(connection, self._clock(), by, audit.DELETED, repository, detail=reference)
        if heard:
            self._outbox.on_event()

    def remove_repository(self, repository: str, *, by: Actor | None = None) -> None:
        """Deletes a repository with all that is in it; collection frees the bytes. Refusal NAME_UNKNOWN."""
        with self._database.writing() as connection:
            number = repository_id(connection, repository)
            heard = self._outbox.announce(connection, number, repository, [Event(DELETED, by.name if by else "")])
            connection.execute(delete(UPLOADS).where(UPLOADS.c.repository == repository))
            connection.execute(delete(REPOSITORIES).where(REPOSITORIES.c.id == number))
            record(connection, self._clock(), by, audit.REPOSITORY_DELETED, repository)
        if heard:
            self._outbox.on_event()

    def tag_names(self, repository: str, *, last: str = "", limit: int | None = None) -> list[str]:
        """The tags after `last`, in the order of their bytes. Refusal NAME_UNKNOWN."""
        with self._database.reading() as connection:
            number = repository_id(connection, repository)
            query = select(TAGS.c.name).where(TAGS.c.repository_id == number, TAGS.c.name > last)
            return list(connection.execute(query.order_by(TAGS.c.name).limit(limit)).scalars())

    def tags(self, repository: str, *, offset: int = 0, limit: int = 50) -> list[Tag]:
        """The tags with what they point at, last pushed first."""
        query = _tags(repository).order_by(TAGS.c.updated.desc(), TAGS.c.name)
        with self._database.reading() as connection:
            return [Tag(*row) for row in connection.execute(query.offset(offset).limit(limit))]

    def tag(self, repository: str, name: str) -> Tag | None:
        """One tag with what it points at."""
        with self._database.reading() as connection:
            row = connection.execute(_tags(repository).where(TAGS.c.name == name)).first()
        return Tag(*row) if row else None

    def referrers(
        self,
        repository: str,
        digest: Digest,
        artifact_type: str | None = None,
        *,
        last: str = "",
        limit: int | None = None,
    ) -> list[dict[str, Any]]:
        """Descriptors of the manifests whose subject is `digest`, by digest (distribution-spec, "Listing Referrers").

        `artifact_type`: only those of this type, which may be empty; None for all. `last`: only those after it.
        """
        with self._database.reading() as connection:
            number = repository_id(connection, repository)
            query = select(MANIFESTS).where(MANIFESTS.c.repository_id == number, MANIFESTS.c.subject == digest)
            if artifact_type is not None:
                query = query.where(MANIFESTS.c.artifact_type == artifact_type)
            query = query.where(MANIFESTS.c.digest > last).order_by(MANIFESTS.c.digest).limit(limit)
            rows = connection.execute(query).all()
        return [_referrer(row) for row in rows]

    def _checked(self, raw: bytes, media_type: str) -> Manifest | Index:
        if len(raw) > self._limit:
            raise Refusal("MANIFEST_INVALID", f"a manifest has at most {self._limit} bytes", status=413)
        if media_type not in (*MANIFEST_TYPES, *INDEX_TYPES):
            raise Refusal("MANIFEST_INVALID", f"unsupported Content-Type {media_type[:100]!r}")
        try:
            manifest = parse_manifest(raw, media_type)
        except (CorruptData, RecursionError, ValueError) as error:
            raise Refusal("MANIFEST_INVALID", str(error)[:300]) from error
        if isinstance(manifest, Index) != (media_type in INDEX_TYPES):
            raise Refusal("MANIFEST_INVALID", "the manifest is not of the kind that its Content-Type says")
        if manifest.media_type != media_type:
            raise Refusal("MANIFEST_INVALID", "the manifest's mediaType differs from its Content-Type")
        if not isinstance(manifest.annotations, dict):
            raise Refusal("MANIFEST_INVALID", "annotations are an object")
        if isinstance(manifest, Manifest) and not isinstance(manifest.artifact_type, str):
            raise Refusal("MANIFEST_INVALID", "artifactType is a string")
        return manifest

    def _check_references(self, connection: Connection, number: int, manifest: Manifest | Index) -> None:
        if isinstance(manifest, Index):
            wanted = {entry.digest for entry in manifest.manifests}
            column, table, owner = MANIFESTS.c.digest, MANIFESTS, MANIFESTS.c.repository_id
        else:
            wanted = {entry.digest for entry in (manifest.config, *manifest.layers) if not _is_elsewhere(entry)}
            column, table, owner = REPOSITORY_BLOBS.c.digest, REPOSITORY_BLOBS, REPOSITORY_BLOBS.c.repository_id
        names = sorted(wanted)
        held: set[str] = set()
        for start in range(0, len(names), 500):
            query = select(column).select_from(table).where(owner == number, column.in_(names[start : start + 500]))
            held.update(connection.execute(query).scalars())
        missing = [name for name in names if name not in held]
        if missing:
            raise Refusal("MANIFEST_BLOB_UNKNOWN", detail=[{"digest": name} for name in missing[:20]])


def _tags(repository: str) -> Select[Any]:
    there = (MANIFESTS.c.repository_id == TAGS.c.repository_id) & (MANIFESTS.c.digest == TAGS.c.digest)
    return (
        select(TAGS.c.name, TAGS.c.digest, TAGS.c.updated, MANIFESTS.c.media_type, MANIFESTS.c.size)
        .join(REPOSITORIES, REPOSITORIES.c.id == TAGS.c.repository_id)
        .join(MANIFESTS, there)
        .where(REPOSITORIES.c.name == repository)
    )


def _deletion(connection: Connection, number: int, reference: str, by: Actor | None) -> Event:
    """What goes: looked up before it does."""
    tag = "" if ":" in reference else reference
    digest = reference
    if tag:
        query = select(TAGS.c.digest).where(TAGS.c.repository_id == number, TAGS.c.name == tag)
        digest = connection.execute(query).scalar() or ""
    query = select(MANIFESTS.c.media_type, MANIFESTS.c.size)
    found = connection.execute(query.where(MANIFESTS.c.repository_id == number, MANIFESTS.c.digest == digest)).first()
    media_type, size = found or ("", 0)
    return Event(DELETED, by.name if by else "", tag, digest, media_type, size)


def remove(connection: Connection, number: int, digest: str, now: int) -> bool:
    """Deletes a manifest of repository `number` and the tags that point at it; whether it was there.

    Its blobs stay for a while: somebody may be about to push it again.
    """
    this = (MANIFESTS.c.repository_id == number) & (MANIFESTS.c.digest == digest)
    gone = connection.execute(delete(MANIFESTS).where(this)).rowcount > 0
    references = MANIFEST_REFERENCES.c
    its_own = (references.repository_id == number) & (references.manifest == digest)
    names = select(references.digest).where(its_own)
    held = (REPOSITORY_BLOBS.c.repository_id == number) & REPOSITORY_BLOBS.c.digest.in_(names)
    connection.execute(update(REPOSITORY_BLOBS).where(held).values(created=now))
    connection.execute(delete(MANIFEST_REFERENCES).where(its_own))
    connection.execute(delete(TAGS).where(TAGS.c.repository_id == number, TAGS.c.digest == digest))
    return gone


def remove_tag(connection: Connection, number: int, tag: str, now: int) -> bool:
    """Deletes a tag of repository `number` and notes when its manifest lost it; whether it was there."""
    this = (TAGS.c.repository_id == number) & (TAGS.c.name == tag)
    digest = connection.execute(select(TAGS.c.digest).where(this)).scalar()
    if digest is None:
        return False
    connection.execute(delete(TAGS).where(this))
    _note_untagged(connection, number, digest, now)
    return True


def _note_untagged(connection: Connection, number: int, digest: str, now: int) -> None:
    connection.execute(
        inserting(connection, MANIFEST_USE)
        .values(repository_id=number, digest=digest, untagged=now)
        .on_conflict_do_update(index_elements=["repository_id", "digest"], set_={"untagged": now})
    )


def _is_elsewhere(descriptor: Descriptor) -> bool:
    """Whether a layer need not be here: non-distributable, or fetched from URLs."""
    return "nondistributable" in descriptor.media_type or "foreign" in descriptor.media_type or bool(descriptor.urls)


def _store(connection: Connection, number: int, digest: Digest, manifest: Manifest | Index, now: int) -> None:
    connection.execute(
        inserting(connection, MANIFESTS)
        .values(
            repository_id=number,
            digest=digest,
            media_type=manifest.media_type,
            size=len(manifest.raw),
            content=manifest.raw,
            subject=manifest.subject.digest if manifest.subject else None,
            artifact_type=artifact_type(manifest)[:255],
            pushed=now,
        )
        .on_conflict_do_update(
            index_elements=["repository_id", "digest"], set_={"pushed": now, "media_type": manifest.media_type}
        )
    )
    is_index = isinstance(manifest, Index)
    entries = manifest.manifests if isinstance(manifest, Index) else (manifest.config, *manifest.layers)
    rows = [
        {"repository_id": number, "manifest": digest, "digest": name, "is_manifest": is_index}
        for name in dict.fromkeys(entry.digest for entry in entries)
    ]
    if rows:
        connection.execute(inserting(connection, MANIFEST_REFERENCES).on_conflict_do_nothing(), rows)


def _point(connection: Connection, number: int, tag: str, digest: Digest, now: int) -> None:
    this = (TAGS.c.repository_id == number) & (TAGS.c.name == tag)
    before = connection.execute(select(TAGS.c.digest).where(this)).scalar()
    if before not in (None, digest):
        _note_untagged(connection, number, str(before), now)
    connection.execute(
        inserting(connection, TAGS)
        .values(repository_id=number, name=tag, digest=digest, updated=now)
        .on_conflict_do_update(index_elements=["repository_id", "name"], set_={"digest": digest, "updated": now})
    )


def artifact_type(manifest: Manifest | Index) -> str:
    """The type that referrers and pages show (distribution-spec, "Listing Referrers")."""
    if isinstance(manifest, Manifest):
        return manifest.artifact_type or manifest.config.media_type
    declared = json.loads(manifest.raw).get("artifactType", "")
    return declared if isinstance(declared, str) else ""


def _referrer(row: Any) -> dict[str, Any]:
    descriptor: dict[str, Any] = {"mediaType": row.media_type, "digest": row.digest, "size": row.size}
    if row.artifact_type:
        descriptor["artifactType"] = row.artifact_type
    annotations = json.loads(row.content).get("annotations")
    if annotations:
        descriptor["annotations"] = annotations
    return descriptor
