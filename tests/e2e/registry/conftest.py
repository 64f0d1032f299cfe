"""Debian's docker-registry as a peer on the loopback interface, with and without accounts."""

import contextlib
import http.client
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ALICE_SECRET = "alice:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"  # bcrypt of "secret"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait(host: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection(host, timeout=2)
            connection.request("GET", "/")
            connection.getresponse()
            connection.close()
            return
        time.sleep(0.05)
    raise AssertionError("docker-registry does not answer")


@pytest.fixture
def docker_registry(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts a registry and gives its `host:port`; `accounts` makes it ask for Basic, alice with "secret"."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*, accounts: bool = False) -> str:
        host = f"127.0.0.1:{_free_port()}"
        home = tmp_path / f"registry{len(processes)}"
        home.mkdir()
        (home / "htpasswd").write_text(ALICE_SECRET + "\n")
        access = f"auth:\n  htpasswd:\n    realm: test\n    path: {home}/htpasswd\n" if accounts else ""
        (home / "config.yml").write_text(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\n"
            f"storage:\n  filesystem:\n    rootdirectory: {home}/data\n  delete:\n    enabled: true\n"
            f"http:\n  addr: {host}\n{access}"
        )
        log = (home / "log").open("wb")
        command = ["docker-registry", "serve", str(home / "config.yml")]
        with log:
            processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        _wait(host)
        return host

    yield start
    for process in processes:
        process.terminate()
        process.wait(10)
