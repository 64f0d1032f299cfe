"""Real hubs for the tests: in this process for the services, as a process of its own for everything over HTTP."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from moldar.hub import administration
from moldar.hub.services import Hub
from moldar.hub.settings import HubSettings

from .hubs import PASSWORD, Running, Tick, run


@pytest.fixture
def clock() -> Tick:
    return Tick()


@pytest.fixture
def hub(tmp_path: Path, clock: Tick) -> Iterator[Hub]:
    hub = Hub(HubSettings(str(tmp_path / "data")), clock)
    yield hub
    hub.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A hub with the accounts alice, bob and boss (an administrator). Tests use repositories of their own names."""
    root = tmp_path_factory.mktemp("hub")
    data = str(root / "data")
    for name in ("alice", "bob", "boss"):
        administration.add_user(data, name, PASSWORD, is_admin=name == "boss")
    running = Running(data, root / "log")
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="session")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A hub on which anyone may push; for the specification's tests."""
    root = tmp_path_factory.mktemp("open-hub")
    administration.add_user(str(root / "data"), "alice", PASSWORD)
    running = Running(str(root / "data"), root / "log", allow_anonymous_push=True, upload_patience=0.5)
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
