"""Stars and pulls: what the pages show of a repository's use, and what retention knows of it.

A pull is one GET of an image's manifest (an index before it does not count). Pulls are counted in memory and written
once a minute, so that pulling never waits for the database; what a killed process had not written is lost. When each
manifest was pulled last (indexes too) is noted and written with them.
"""

import threading
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import BigInteger, Connection, delete, func, literal, select

from moldar.hub.clock import Clock
from moldar.hub.data.database import Database, inserting
from moldar.hub.data.schema import MANIFEST_USE, MANIFESTS, PULLS, REPOSITORIES, STARS

DAY = 24 * 3600


class Figure(NamedTuple):
    """Stars and pulls of one repository, from the beginning."""

    stars: int = 0
    pulls: int = 0


class Figures:
    """The figures of one hub's repositories. Threads may share it."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._pending: Counter[tuple[str, int]] = Counter()
        self._used: dict[tuple[str, str], int] = {}

    def note_pull(self, repository: str, digest: str = "", *, is_image: bool = True) -> None:
        """Counts a pull of the manifest `digest`; cheap enough for every request."""
        now = self._clock()
        with self._lock:
            if is_image:
                self._pending[repository, now // DAY] += 1
            if digest:
                self._used[repository, digest] = now

    def flush(self) -> None:
        """Writes what was counted."""
        with self._lock:
            pending, self._pending = self._pending, Counter()
            used, self._used = self._used, {}
        if not pending and not used:
            return
        try:
            self._write(pending, used)
        except BaseException:
            with self._lock:
                self._pending.update(pending)
                self._used = {**used, **self._used}
            raise

    def pulls_by_day(self, repository_id: int, days: int) -> list[int]:
        """Pulls of each of the last `days` days, today the last."""
        self.flush()
        first = self._clock() // DAY - days + 1
        query = select(PULLS.c.day, PULLS.c.count).where(PULLS.c.repository_id == repository_id, PULLS.c.day >= first)
        with self._database.reading() as connection:
            found = {row.day: int(row[1]) for row in connection.execute(query)}
        return [found.get(first + number, 0) for number in range(days)]

    def of(self, repository_ids: Sequence[int]) -> dict[int, Figure]:
        """The figures of repositories, for those that have any."""
        ids = list(repository_ids)
        stars = select(STARS.c.repository_id, func.count()).where(STARS.c.repository_id.in_(ids))
        pulls = select(PULLS.c.repository_id, func.sum(PULLS.c.count)).where(PULLS.c.repository_id.in_(ids))
        with self._database.reading() as connection:
            starred = {int(row[0]): int(row[1]) for row in connection.execute(stars.group_by(STARS.c.repository_id))}
            pulled = {int(row[0]): int(row[1]) for row in connection.execute(pulls.group_by(PULLS.c.repository_id))}
        return {key: Figure(starred.get(key, 0), pulled.get(key, 0)) for key in starred.keys() | pulled.keys()}

    def has_star(self, repository_id: int, account_id: int) -> bool:
        query = select(STARS.c.created).where(
            STARS.c.repository_id == repository_id, STARS.c.account_id == account_id
        )
        with self._database.reading() as connection:
            return connection.execute(query).first() is not None

    def set_star(self, repository_id: int, account_id: int, is_starred: bool) -> None:
        with self._database.writing() as connection:
            if not is_starred:
                condition = (STARS.c.repository_id == repository_id) & (STARS.c.account_id == account_id)
                connection.execute(delete(STARS).where(condition))
                return
            row = {"repository_id": repository_id, "account_id": account_id, "created": self._clock()}
            connection.execute(inserting(connection, STARS).values(row).on_conflict_do_nothing())

    def _write(self, pending: Counter[tuple[str, int]], used: dict[tuple[str, str], int]) -> None:
        with self._database.writing(durable=False) as connection:
            for (name, day), count in sorted(pending.items()):
                number = connection.execute(select(REPOSITORIES.c.id).where(REPOSITORIES.c.name == name)).scalar()
                if number is None:
                    continue
                row = inserting(connection, PULLS).values(repository_id=number, day=day, count=count)
                connection.execute(
                    row.on_conflict_do_update(
                        index_elements=["repository_id", "day"], set_={"count": PULLS.c.count + count}
                    )
                )
            for (name, digest), moment in sorted(used.items()):
                _note_use(connection, name, digest, moment)


def _note_use(connection: Connection, name: str, digest: str, moment: int) -> None:
    """Writes when a manifest was pulled, if it is still there."""
    manifest = (
        select(MANIFESTS.c.repository_id, MANIFESTS.c.digest, literal(moment, BigInteger))
        .join(REPOSITORIES, REPOSITORIES.c.id == MANIFESTS.c.repository_id)
        .where(REPOSITORIES.c.name == name, MANIFESTS.c.digest == digest)
    )
    row = inserting(connection, MANIFEST_USE).from_select(["repository_id", "digest", "pulled"], manifest)
    connection.execute(row.on_conflict_do_update(index_elements=["repository_id", "digest"], set_={"pulled": moment}))
