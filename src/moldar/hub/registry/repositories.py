"""Repositories: making, finding, listing and describing them. Knows nothing of HTTP or of who asks."""

from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, ScalarSelect, Select, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from moldar.hub.access import audit
from moldar.hub.access.audit import Actor, record
from moldar.hub.access.decisions import Place, Principal, readable
from moldar.hub.clock import Clock
from moldar.hub.data.database import Database, new_id
from moldar.hub.data.schema import ACCOUNTS, REPOSITORIES, TAGS
from moldar.hub.refusals import Refusal

DESCRIPTION_LIMIT = 500


class Repository(NamedTuple):
    """A repository. `created`, `pushed`: seconds since 1970; `pushed` is None before the first manifest."""

    id: int
    name: str
    is_public: bool
    description: str
    created: int
    pushed: int | None


class Listed(NamedTuple):
    """A repository in a list, with how many tags it has."""

    repository: Repository
    tags: int


class Audience(NamedTuple):
    """Whose eyes a list is for: public repositories, those of `patterns`, and all when `everything`."""

    patterns: tuple[str, ...] = ()
    everything: bool = False


class Repositories:
    """The repositories of one hub."""

    def __init__(self, database: Database, clock: Clock, *, new_are_public: bool) -> None:
        self._database = database
        self._clock = clock
        self._new_are_public = new_are_public

    def find(self, name: str) -> Repository | None:
        with self._database.reading() as connection:
            row = connection.execute(select(REPOSITORIES).where(REPOSITORIES.c.name == name)).first()
        return Repository(*row) if row else None

    def place(self, name: str) -> tuple[Place, Repository | None]:
        """What a decision about `name` must know, and the repository if there is one."""
        with self._database.reading() as connection:
            row = connection.execute(select(REPOSITORIES).where(REPOSITORIES.c.name == name)).first()
            namespace = name.partition("/")[0]
            owner = connection.execute(select(ACCOUNTS.c.id).where(ACCOUNTS.c.name == namespace)).first()
        repository = Repository(*row) if row else None
        is_public = repository.is_public if repository else False
        return Place(name, repository is not None, is_public, owner is not None), repository

    def set_visibility(self, repository: Repository, is_public: bool, *, by: Actor | None = None) -> None:
        with self._database.writing() as connection:
            connection.execute(
                update(REPOSITORIES).where(REPOSITORIES.c.id == repository.id).values(is_public=is_public)
            )
            detail = "public" if is_public else "private"
            record(connection, self._clock(), by, audit.VISIBILITY_CHANGED, repository.name, detail=detail)

    def set_description(self, repository: Repository, description: str, *, by: Actor | None = None) -> None:
        text = description.strip()[:DESCRIPTION_LIMIT]
        with self._database.writing() as connection:
            connection.execute(
                update(REPOSITORIES).where(REPOSITORIES.c.id == repository.id).values(description=text)
            )
            record(connection, self._clock(), by, audit.SETTINGS_CHANGED, repository.name, detail="description")

    def has_public(self, namespace: str) -> bool:
        """Whether anyone may see something below the namespace."""
        below = REPOSITORIES.c.name.startswith(namespace + "/", autoescape=True)
        query = select(REPOSITORIES.c.id).where(below, REPOSITORIES.c.is_public.is_(True)).limit(1)
        with self._database.reading() as connection:
            return connection.execute(query.where(REPOSITORIES.c.pushed.is_not(None))).first() is not None

    def count_below(self, namespace: str) -> int:
        """How many repositories the namespace has, also those that hold nothing."""
        below = REPOSITORIES.c.name.startswith(namespace + "/", autoescape=True)
        with self._database.reading() as connection:
            return connection.execute(select(func.count()).select_from(REPOSITORIES).where(below)).scalar_one()

    def names(self, audience: Audience, *, last: str = "", limit: int | None = None) -> list[str]:
        """The names after `last` that hold something, sorted."""
        query = select(REPOSITORIES.c.name).where(REPOSITORIES.c.pushed.is_not(None), REPOSITORIES.c.name > last)
        query = _for(audience, query).order_by(REPOSITORIES.c.name).limit(limit)
        with self._database.reading() as connection:
            return list(connection.execute(query).scalars())

    def below(self, namespace: str) -> list[str]:
        """The names of all repositories of a namespace, also of those that hold nothing yet."""
        query = select(REPOSITORIES.c.name).where(REPOSITORIES.c.name.startswith(namespace + "/", autoescape=True))
        with self._database.reading() as connection:
            return list(connection.execute(query.order_by(REPOSITORIES.c.name)).scalars())

    def search(
        self, audience: Audience, *, text: str = "", below: str = "", offset: int = 0, limit: int = 24
    ) -> list[Listed]:
        """Repositories that hold something, newest push first; `below` keeps to a namespace."""
        query: Select[Any] = select(REPOSITORIES, _tag_count()).where(REPOSITORIES.c.pushed.is_not(None))
        for word in text.lower().split()[:8]:
            query = query.where(
                or_(
                    REPOSITORIES.c.name.contains(word, autoescape=True),
                    func.lower(REPOSITORIES.c.description).contains(word, autoescape=True),
                )
            )
        if below:
            query = query.where(REPOSITORIES.c.name.startswith(below + "/", autoescape=True))
        query = _for(audience, query).order_by(REPOSITORIES.c.pushed.desc(), REPOSITORIES.c.name)
        with self._database.reading() as connection:
            return [_listed(row) for row in connection.execute(query.offset(offset).limit(limit))]

    def listed(self, name: str) -> Listed | None:
        """One repository as lists show it."""
        with self._database.reading() as connection:
            row = connection.execute(select(REPOSITORIES, _tag_count()).where(REPOSITORIES.c.name == name)).first()
        return _listed(row) if row else None

    def ensure(self, connection: Connection, name: str) -> int:
        """The repository's number, within a transaction; makes it when missing."""
        found = connection.execute(select(REPOSITORIES.c.id).where(REPOSITORIES.c.name == name)).scalar()
        if found is not None:
            return int(found)
        try:
            with connection.begin_nested():
                result = connection.execute(
                    insert(REPOSITORIES).values(
                        name=name, is_public=self._new_are_public, description="", created=self._clock()
                    )
                )
                return new_id(result)
        except IntegrityError:  # another process was faster; SQLite's writers take turns and never come here
            return int(connection.execute(select(REPOSITORIES.c.id).where(REPOSITORIES.c.name == name)).scalar_one())


def repository_id(connection: Connection, name: str) -> int:
    """The number of a repository that must exist. Refusal NAME_UNKNOWN."""
    found = connection.execute(select(REPOSITORIES.c.id).where(REPOSITORIES.c.name == name)).scalar()
    if found is None:
        raise Refusal("NAME_UNKNOWN", detail={"name": name})
    return int(found)


def note_push(connection: Connection, number: int, now: int) -> None:
    connection.execute(update(REPOSITORIES).where(REPOSITORIES.c.id == number).values(pushed=now))


def _tag_count() -> ScalarSelect[int]:
    return select(func.count()).where(TAGS.c.repository_id == REPOSITORIES.c.id).scalar_subquery()


def _for(audience: Audience, query: Select[Any]) -> Select[Any]:
    if audience.everything:
        return query
    visible: ColumnElement[bool] = REPOSITORIES.c.is_public.is_(True)
    return query.where(or_(visible, *(_named_by(pattern) for pattern in audience.patterns)))


def _named_by(pattern: str) -> ColumnElement[bool]:
    if pattern.endswith("*"):
        return REPOSITORIES.c.name.startswith(pattern[:-1], autoescape=True)
    return REPOSITORIES.c.name == pattern


def audience_of(principal: Principal) -> Audience:
    """What a list shows to `principal`; with a token's limits, only what anyone may see."""
    if principal.is_anonymous or principal.grants is not None:
        return Audience()
    return Audience(readable(principal), principal.is_admin)


def _listed(row: Row[Any]) -> Listed:
    repository = Repository(row.id, row.name, row.is_public, row.description, row.created, row.pushed)
    return Listed(repository, int(row[-1]))
