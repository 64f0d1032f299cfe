"""Forgetting old rows of a table that only grows, in short steps so that no writer waits for long."""

from sqlalchemy import Table, delete, select

from moldar.hub.data.database import Database

_STEP = 1000


def prune(database: Database, table: Table, border: int) -> int:
    """Deletes the rows whose `at` is before `border`; gives how many went. The table has an `id`."""
    gone = 0
    while True:
        old = select(table.c.id).where(table.c.at < border).order_by(table.c.at).limit(_STEP)
        with database.reading() as connection:
            numbers = list(connection.execute(old).scalars())
        if not numbers:
            return gone
        with database.writing(durable=False) as connection:
            gone += connection.execute(delete(table).where(table.c.id.in_(numbers))).rowcount
