"""Retention rules of repositories and namespaces, and their application in small steps while pushes go on.

What goes is decided from one consistent view. Each step is a short transaction that looks again at what it deletes:
a tag that moved, or a manifest that was pushed, tagged or referred to since, stays.
"""

import threading
from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import Connection, delete, exists, insert, or_, select

from moldar.hub.access import audit
from moldar.hub.access.audit import Actor, record
from moldar.hub.clock import Clock
from moldar.hub.data.database import Database
from moldar.hub.data.schema import (
    CACHED_REPOSITORIES,
    MANIFEST_REFERENCES,
    MANIFEST_USE,
    MANIFESTS,
    REPOSITORIES,
    RETENTION_RULES,
    TAGS,
)
from moldar.hub.registry.immutable import immutable_patterns
from moldar.hub.registry.manifests import remove, remove_tag
from moldar.hub.registry.patterns import parse_patterns
from moldar.hub.registry.repositories import repository_id
from moldar.hub.registry.retention import Contents, Going, HeldManifest, HeldTag, Rule, plan

_STEP = 50
_REST_SECONDS = 0.005


class Retained(NamedTuple):
    """How many tags and manifests went, or would go."""

    tags: int = 0
    manifests: int = 0


class Retention:
    """The retention rules of one hub."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def rule(self, name: str) -> Rule | None:
        """The rule of exactly this repository or namespace."""
        with self._database.reading() as connection:
            return _rule(connection, name)

    def rule_for(self, repository: str) -> Rule | None:
        """The rule that a repository obeys: its own, else its namespace's."""
        return self.rule(repository) or self.rule(repository.partition("/")[0])

    def set_rule(self, name: str, rule: Rule | None, *, by: Actor | None = None) -> None:
        """None removes it."""
        with self._database.writing() as connection:
            connection.execute(delete(RETENTION_RULES).where(RETENTION_RULES.c.name == name))
            if rule is not None:
                row = {**rule._asdict(), "patterns": str(rule.patterns), "name": name}
                connection.execute(insert(RETENTION_RULES).values(row))
            record(connection, self._clock(), by, audit.SETTINGS_CHANGED, name, detail="retention")

    def preview(self, repository: str, rule: Rule | None = None) -> list[Going]:
        """What would go now, by `rule` or the repository's own. Refusal NAME_UNKNOWN."""
        rule = rule or self.rule_for(repository)
        if rule is None:
            return []
        with self._database.reading() as connection:
            contents = _contents(connection, repository_id(connection, repository))
        return plan(contents, rule, self._clock())

    def repositories(self) -> list[str]:
        """The repositories that obey a rule."""
        names = select(RETENTION_RULES.c.name)
        below = exists().where(REPOSITORIES.c.name.startswith(RETENTION_RULES.c.name + "/"))
        copied = exists().where(CACHED_REPOSITORIES.c.repository_id == REPOSITORIES.c.id)
        query = select(REPOSITORIES.c.name).where(or_(REPOSITORIES.c.name.in_(names), below), ~copied)
        with self._database.reading() as connection:
            return list(connection.execute(query.order_by(REPOSITORIES.c.name)).scalars())

    def run(self, stopping: threading.Event | None = None) -> Retained:
        """Applies all rules, until it is done or `stopping` is set."""
        stopping = stopping or threading.Event()
        tags = manifests = 0
        for repository in self.repositories():
            if stopping.wait(_REST_SECONDS):
                break
            rule = self.rule_for(repository)
            if rule is not None:
                done = self.apply(repository, rule, stopping)
                tags, manifests = tags + done.tags, manifests + done.manifests
        return Retained(tags, manifests)

    def apply(self, repository: str, rule: Rule, stopping: threading.Event | None = None) -> Retained:
        """Lets go of what `rule` does not keep. Refusal NAME_UNKNOWN."""
        stopping = stopping or threading.Event()
        with self._database.reading() as connection:
            number = repository_id(connection, repository)
            going = plan(_contents(connection, number), rule, self._clock())
        tags = self._steps(number, [one for one in going if one.tag], stopping)
        manifests, left = 0, [one for one in going if not one.tag]
        while left:  # what others refer to can go once these are gone
            gone = self._steps(number, left, stopping)
            manifests += gone
            if not gone:
                break
            left = self._still_there(number, left)
        return Retained(tags, manifests)

    def _steps(self, number: int, going: list[Going], stopping: threading.Event) -> int:
        gone = 0
        for step in _batches(going):
            if stopping.wait(_REST_SECONDS):
                break
            with self._database.writing() as connection:
                gone += sum(_let_go(connection, number, one, self._clock()) for one in step)
        return gone

    def _still_there(self, number: int, going: list[Going]) -> list[Going]:
        with self._database.reading() as connection:
            query = select(MANIFESTS.c.digest).where(MANIFESTS.c.repository_id == number)
            there = set(connection.execute(query).scalars())
        return [one for one in going if one.digest in there]


def _batches(going: list[Going]) -> Iterator[list[Going]]:
    for start in range(0, len(going), _STEP):
        yield going[start : start + _STEP]


def _let_go(connection: Connection, number: int, going: Going, now: int) -> bool:
    """Deletes one thing, unless something has changed about it."""
    if going.tag:
        same = (TAGS.c.name == going.tag) & (TAGS.c.digest == going.digest) & (TAGS.c.updated == going.seen)
        found = connection.execute(select(TAGS.c.name).where(TAGS.c.repository_id == number, same)).first()
        return found is not None and remove_tag(connection, number, going.tag, now)
    this = (MANIFESTS.c.repository_id == number) & (MANIFESTS.c.digest == going.digest)
    row = connection.execute(select(MANIFESTS.c.pushed, MANIFESTS.c.subject).where(this)).first()
    if row is None or row.pushed != going.seen or _is_needed(connection, number, going.digest, row.subject):
        return False
    return remove(connection, number, going.digest, now)


def _is_needed(connection: Connection, number: int, digest: str, subject: str | None) -> bool:
    tagged = exists().where(TAGS.c.repository_id == number, TAGS.c.digest == digest)
    references = MANIFEST_REFERENCES.c
    named = exists().where(references.repository_id == number, references.digest == digest, references.is_manifest)
    belongs = exists().where(MANIFESTS.c.repository_id == number, MANIFESTS.c.digest == (subject or ""))
    return bool(connection.execute(select(or_(tagged, named, belongs))).scalar())


def _rule(connection: Connection, name: str) -> Rule | None:
    row = connection.execute(select(RETENTION_RULES).where(RETENTION_RULES.c.name == name)).first()
    if row is None:
        return None
    return Rule(row.keep_last, row.pushed_days, row.pulled_days, parse_patterns(row.patterns), row.untagged_days)


def _contents(connection: Connection, number: int) -> Contents:
    children: dict[str, list[str]] = {}
    references = MANIFEST_REFERENCES.c
    query = select(references.manifest, references.digest).where(
        references.repository_id == number, references.is_manifest
    )
    for index, digest in connection.execute(query):
        children.setdefault(index, []).append(digest)
    use = (MANIFEST_USE.c.repository_id == MANIFESTS.c.repository_id) & (MANIFEST_USE.c.digest == MANIFESTS.c.digest)
    columns = (MANIFESTS.c.digest, MANIFESTS.c.size, MANIFESTS.c.pushed, MANIFESTS.c.subject)
    rows = connection.execute(
        select(*columns, MANIFEST_USE.c.pulled, MANIFEST_USE.c.untagged)
        .outerjoin_from(MANIFESTS, MANIFEST_USE, use)
        .where(MANIFESTS.c.repository_id == number)
    )
    manifests = {
        row.digest: HeldManifest(
            row.digest,
            row.size,
            row.pushed,
            row.pulled or 0,
            row.untagged or 0,
            row.subject or "",
            tuple(children.get(row.digest, ())),
        )
        for row in rows
    }
    tags = connection.execute(
        select(TAGS.c.name, TAGS.c.digest, TAGS.c.updated).where(TAGS.c.repository_id == number)
    )
    return Contents(tuple(HeldTag(*row) for row in tags), manifests, immutable_patterns(connection, number))
