"""Brings a database to the schema of this version with the package's own alembic migrations."""

import os

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from moldar.errors import Unsupported
from moldar.hub.data.database import Database


def upgrade(database: Database) -> None:
    """Runs the migrations that are missing, all in one transaction. Does nothing when there are none.

    Raises Unsupported when the database was made by a newer version.
    """
    scripts = ScriptDirectory.from_config(_config(None))
    with database.reading() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    if current == scripts.get_current_head():
        return
    with database.writing() as connection:
        try:
            command.upgrade(_config(connection), "head")
        except CommandError as error:
            raise Unsupported("the hub's data directory was made by a newer version of Moldar") from error


def _config(connection: Connection | None) -> Config:
    config = Config()
    directory = os.path.join(os.path.dirname(__file__), "migrations")
    config.set_main_option("script_location", directory.replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
