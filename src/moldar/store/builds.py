"""The history of builds: a row for each, with its steps as JSON; the logs are files below `builds/ID/`."""

import os
from typing import NamedTuple

from moldar.errors import NotFound
from moldar.store.database import Database
from moldar.store.home import Home

KEPT = 100
"""How many builds a collection leaves."""


class BuildRow(NamedTuple):
    """One build; times in seconds since the epoch, `ended` None while it runs (or when it was killed)."""

    id: str
    started: float
    ended: float | None
    context: str
    target: str
    image: str
    error: str
    document: str


class BuildTable:
    """Builds by ID."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, row: BuildRow) -> None:
        """Store or replace a build."""
        self._database.write("INSERT OR REPLACE INTO builds VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def all(self, limit: int = 1000) -> list[BuildRow]:
        """The latest builds, newest first."""
        rows = self._database.rows("SELECT * FROM builds ORDER BY started DESC LIMIT ?", (limit,))
        return [BuildRow(*row) for row in rows]

    def get(self, build: str) -> BuildRow:
        """One build by ID; NotFound."""
        row = self._database.row("SELECT * FROM builds WHERE id = ?", (build,))
        if not row:
            raise NotFound(f"no such build: {build}", hint="`moldar build history ls` lists the builds")
        return BuildRow(*row)

    def trim(self, before: float) -> None:
        """Forget all but the latest KEPT builds, and never one that has not ended and began after `before`."""
        self._database.write(
            "DELETE FROM builds WHERE id NOT IN (SELECT id FROM builds ORDER BY started DESC LIMIT ?)"
            " AND (ended IS NOT NULL OR started < ?)",
            (KEPT, before),
        )

    def remove(self, build: str) -> None:
        self._database.write("DELETE FROM builds WHERE id = ?", (build,))


def remove_logs(home: Home, build: str) -> None:
    """Delete the logs of a build; harmless when there are none."""
    directory = f"{home.builds}/{os.path.basename(build)}"
    try:
        for name in os.listdir(directory):
            os.unlink(f"{directory}/{name}")
        os.rmdir(directory)
    except OSError:
        pass  # what stays is taken by the next collection


def sweep_logs(home: Home, table: BuildTable) -> None:
    """Delete the logs of builds that are forgotten. A build has its row before its directory, so look here first."""
    found = os.listdir(home.builds)
    known = {row.id for row in table.all()}
    for name in found:
        if name not in known:
            remove_logs(home, name)
