"""The migrations and the tables say the same, and a newer database is refused."""

from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from moldar.errors import CorruptData, Unsupported
from moldar.hub.data.connecting import connect
from moldar.hub.data.schema import METADATA
from moldar.hub.data.upgrade import _config
from moldar.hub.services import Hub, open_database
from moldar.hub.settings import HubSettings


def test_migrations_make_the_schema(tmp_path: Path, either: dict[str, Any]) -> None:
    database = open_database(HubSettings(str(tmp_path), **either))
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    database.close()


def test_accounts_of_an_older_hub_are_people(tmp_path: Path) -> None:
    settings = HubSettings(str(tmp_path))
    database = connect(settings.sqlalchemy_url)
    with database.writing() as connection:
        command.upgrade(_config(connection), "0002")
        connection.exec_driver_sql("INSERT INTO accounts VALUES (1, 'alice', 'x', 1, 0, 5)")
    database.close()
    hub = Hub(settings)
    alice = hub.accounts.find("alice")
    assert alice
    assert (alice.kind, alice.is_admin, alice.created) == ("person", True, 5)
    hub.organisations.create("acme", alice)
    hub.close()


def test_a_newer_database_is_refused(tmp_path: Path, either: dict[str, Any]) -> None:
    settings = HubSettings(str(tmp_path), **either)
    database = open_database(settings)
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    with pytest.raises(Unsupported, match="newer version"):
        open_database(settings)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "hub.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(CorruptData, match="database"):
        open_database(HubSettings(str(tmp_path)))
