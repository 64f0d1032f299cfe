"""Records of containers; what the state means is the containers room's business."""

from typing import NamedTuple

from moldar.errors import NotFound, UserMistake
from moldar.image.model import Digest
from moldar.store.database import Database


class ContainerNotFound(NotFound):
    """No container of that name or ID."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no such container: {name}", hint="`moldar ps -a` lists all containers")
        self.name = name


class ContainerRow(NamedTuple):
    """A container. `state` is JSON text; `created` in seconds since the epoch."""

    id: str
    name: str
    image: Digest
    created: float
    state: str


class ContainerTable:
    """Containers by ID and by name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, row: ContainerRow) -> None:
        """Store a new container; UserMistake when its name is taken."""
        with self._database.transaction():
            other = self._database.row("SELECT id FROM containers WHERE name = ?", (row.name,))
            if other:
                raise UserMistake(
                    f'the container name "/{row.name}" is already in use by container "{other[0]}"',
                    hint="remove or rename that container, or use another name",
                )
            self._database.write("INSERT INTO containers VALUES (?, ?, ?, ?, ?)", row)

    def update(self, container: str, state: str) -> None:
        """Replace the state."""
        self._database.write("UPDATE containers SET state = ? WHERE id = ?", (state, container))

    def rename(self, container: str, name: str) -> None:
        """Give another name; UserMistake when it is taken."""
        with self._database.transaction():
            if self._database.row("SELECT 1 FROM containers WHERE name = ?", (name,)):
                raise UserMistake(f'the container name "/{name}" is already in use')
            self._database.write("UPDATE containers SET name = ? WHERE id = ?", (name, container))

    def remove(self, container: str) -> None:
        self._database.write("DELETE FROM containers WHERE id = ?", (container,))

    def all(self) -> list[ContainerRow]:
        """Every container, the newest first."""
        return [ContainerRow(*row) for row in self._database.rows("SELECT * FROM containers ORDER BY created DESC")]

    def find(self, text: str) -> ContainerRow:
        """The container of that name, ID or unique beginning of an ID; ContainerNotFound, UserMistake."""
        text = text.removeprefix("/")
        row = self._database.row("SELECT * FROM containers WHERE name = ? OR id = ?", (text, text))
        if row:
            return ContainerRow(*row)
        rows = self._database.rows("SELECT * FROM containers WHERE substr(id, 1, ?) = ? LIMIT 2", (len(text), text))
        if not text or not rows:
            raise ContainerNotFound(text)
        if len(rows) > 1:
            raise UserMistake(f"{text!r} is the beginning of several container IDs", hint="write more characters")
        return ContainerRow(*rows[0])

    def using(self, image: str) -> list[ContainerRow]:
        """The containers made from an image."""
        return [
            ContainerRow(*row) for row in self._database.rows("SELECT * FROM containers WHERE image = ?", (image,))
        ]
