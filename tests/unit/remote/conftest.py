"""The small registry of `mini_registry`, serving or about to."""

import threading
from collections.abc import Callable, Iterator

import pytest
from tests.unit.remote.mini_registry import MiniRegistry, Server


@pytest.fixture
def start_registry() -> Iterator[Callable[[], MiniRegistry]]:
    servers: list[tuple[Server, threading.Thread]] = []

    def start() -> MiniRegistry:
        server = Server()
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        servers.append((server, thread))
        return server.registry

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def mini(start_registry: Callable[[], MiniRegistry]) -> MiniRegistry:
    return start_registry()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that is not serving yet."""
    server = Server()
    yield server
    server.server_close()
