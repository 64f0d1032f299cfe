"""The migrations and the tables say the same, and a newer database is refused."""

from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from moldar.errors import CorruptData, Unsupported
from moldar.hub.data.schema import METADATA
from moldar.hub.services import open_database
from moldar.hub.settings import HubSettings


def test_migrations_make_the_schema(tmp_path: Path, either: dict[str, Any]) -> None:
    database = open_database(HubSettings(str(tmp_path), **either))
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    database.close()


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
