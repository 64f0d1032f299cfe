"""From a database's address to the database."""

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from moldar.errors import UserMistake
from moldar.hub.data.database import Database
from moldar.hub.data.postgres import PostgresDatabase
from moldar.hub.data.sqlite import SqliteDatabase

_HINT = "postgresql://USER:PASSWORD@HOST/NAME"


def connect(url: str) -> Database:
    """The database at `url`, which is not asked anything yet. UserMistake when it is none that the hub can use."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise UserMistake("malformed address of a database", hint=_HINT) from error
    if parsed.drivername == "sqlite":
        return SqliteDatabase(url)
    if parsed.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        psycopg_url = parsed.set(drivername="postgresql+psycopg")
        return PostgresDatabase(psycopg_url.render_as_string(hide_password=False))
    raise UserMistake(f"the hub cannot keep its tables in {parsed.drivername!r}", hint=_HINT)


def shown(url: str) -> str:
    """The address without its password."""
    return make_url(url).render_as_string()
