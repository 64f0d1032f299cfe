"""Real hubs for the tests: in this process for the services, as a process of its own for everything over HTTP."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moldar.hub import administration
from moldar.hub.services import Hub
from moldar.hub.settings import HubSettings

from .hubs import PASSWORD, Running, Tick, run


@pytest.fixture
def clock() -> Tick:
    return Tick()


EITHER = (
    "accounts",
    "checking",
    "conformance",
    "crash",
    "database",
    "figures",
    "garbage",
    "pages",
    "readmes",
    "schema",
    "tokens",
)
"""Modules whose tests meet hubs on SQLite and files, and hubs on PostgreSQL and S3; so do tests marked `either`."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "either: with hubs on SQLite and files, and with hubs on PostgreSQL and S3")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marked = metafunc.definition.get_closest_marker("either") is not None
    if marked or metafunc.module.__name__.rpartition("test_")[2] in EITHER:
        asked = {"hub", "server", "open_server", "either"} & set(metafunc.fixturenames)
        for name in {"either"} if marked and "either" in asked else asked:  # the server is only the hub's other side
            metafunc.parametrize(name, ["local", "shared"], indirect=True)


def backend(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The settings for a parameter: nothing for "local", a fresh database of PostgreSQL and a bucket for "shared"."""
    if getattr(request, "param", "local") == "local":
        return {}
    postgres, s3 = request.getfixturevalue("postgres"), request.getfixturevalue("s3")
    return {"database_url": postgres.new_database(), **s3.new_bucket()}


@pytest.fixture
def either(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings for hubs that a test starts itself."""
    return backend(request)


@pytest.fixture
def hub(request: pytest.FixtureRequest, tmp_path: Path, clock: Tick) -> Iterator[Hub]:
    hub = Hub(HubSettings(str(tmp_path / "data"), **backend(request)), clock)
    yield hub
    hub.close()


@pytest.fixture
def local_hub(tmp_path: Path, clock: Tick) -> Iterator[Hub]:
    """A hub on SQLite and files, for what only they have."""
    hub = Hub(HubSettings(str(tmp_path / "data")), clock)
    yield hub
    hub.close()


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A hub with the accounts alice, bob and boss (an administrator). Tests use repositories of their own names."""
    root = tmp_path_factory.mktemp("hub")
    more = backend(request)
    for name in ("alice", "bob", "boss"):
        where = HubSettings(str(root / "data"), **more)
        administration.add_user(where, name, PASSWORD, is_admin=name == "boss")
    running = Running(str(root / "data"), root / "log", **more)
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="session")
def open_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A hub on which anyone may push; for the specification's tests."""
    root = tmp_path_factory.mktemp("open-hub")
    more = backend(request)
    administration.add_user(HubSettings(str(root / "data"), **more), "alice", PASSWORD)
    running = Running(str(root / "data"), root / "log", allow_anonymous_push=True, upload_patience=0.5, **more)
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An OCI layout with one image, made by umoci."""
    root = tmp_path_factory.mktemp("oci")
    image = f"{root}/layout:one"
    run("umoci", "init", "--layout", f"{root}/layout")
    run("umoci", "new", "--image", image)
    run("umoci", "unpack", "--image", image, f"{root}/bundle")
    Path(root, "bundle", "rootfs", "hello").write_bytes(b"hello " * 50_000)
    run("umoci", "repack", "--image", image, f"{root}/bundle")
    run("umoci", "config", "--image", image, "--config.env", "A=1", "--config.cmd", "/hello")
    return image
