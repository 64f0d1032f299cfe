"""Immutable tags: once they name a manifest, they name it for good.

The patterns are the repository's setting. They are looked at in the transaction that would move or delete a tag.
"""

from collections.abc import Iterable

from sqlalchemy import Connection, delete, insert, select

from moldar.hub.access import audit
from moldar.hub.access.audit import Actor, record
from moldar.hub.clock import Clock
from moldar.hub.data.database import Database
from moldar.hub.data.schema import IMMUTABLE_TAGS, TAGS
from moldar.hub.refusals import Refusal
from moldar.hub.registry.patterns import TagPatterns, parse_patterns
from moldar.hub.registry.repositories import Repository


class ImmutableTags:
    """The setting of one hub's repositories."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def patterns(self, repository_id: int) -> TagPatterns:
        with self._database.reading() as connection:
            return immutable_patterns(connection, repository_id)

    def set_patterns(self, repository: Repository, patterns: TagPatterns, *, by: Actor | None = None) -> None:
        with self._database.writing() as connection:
            connection.execute(delete(IMMUTABLE_TAGS).where(IMMUTABLE_TAGS.c.repository_id == repository.id))
            if patterns.patterns:
                row = {"repository_id": repository.id, "patterns": str(patterns)}
                connection.execute(insert(IMMUTABLE_TAGS).values(row))
            record(connection, self._clock(), by, audit.SETTINGS_CHANGED, repository.name, detail="immutable tags")


def immutable_patterns(connection: Connection, number: int) -> TagPatterns:
    query = select(IMMUTABLE_TAGS.c.patterns).where(IMMUTABLE_TAGS.c.repository_id == number)
    return parse_patterns(connection.execute(query).scalar() or "")


def refuse_move(connection: Connection, number: int, tags: Iterable[str], digest: str) -> None:
    """Refusal DENIED (409) when an immutable one of `tags` names another manifest than `digest`."""
    patterns = immutable_patterns(connection, number)
    fixed = [tag for tag in tags if patterns.match(tag)]
    if not fixed:
        return
    query = select(TAGS.c.name).where(TAGS.c.repository_id == number, TAGS.c.name.in_(fixed), TAGS.c.digest != digest)
    moved = connection.execute(query).scalar()
    if moved is not None:
        raise _refusal(moved, patterns, "it keeps its image; push under another tag")


def refuse_deletion(connection: Connection, number: int, reference: str) -> None:
    """Refusal DENIED (409) when `reference` is an immutable tag, or the digest that one names."""
    patterns = immutable_patterns(connection, number)
    if not patterns.patterns:
        return
    column = TAGS.c.digest if ":" in reference else TAGS.c.name
    for tag in connection.execute(select(TAGS.c.name).where(TAGS.c.repository_id == number, column == reference)):
        if patterns.match(tag[0]):
            raise _refusal(tag[0], patterns, "it cannot be deleted")


def _refusal(tag: str, patterns: TagPatterns, what: str) -> Refusal:
    message = f"the tag {tag} is immutable by the repository's setting {patterns.match(tag)}: {what}"
    return Refusal("DENIED", message, status=409, detail={"tag": tag})
