"""Real runs of the `moldar` program: each test has a store of its own unless it asks for the shared one."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.program import Moldar


@pytest.fixture
def moldar(tmp_path: Path) -> Iterator[Moldar]:
    """A program with an empty store."""
    program = Moldar(tmp_path)
    yield program
    program.close()


BUSYBOX = """
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN mkdir -p /etc /root /tmp && echo root:x:0:0:root:/root:/bin/sh > /etc/passwd && echo root:x:0: > /etc/group
CMD ["sh"]
"""


@pytest.fixture(scope="session")
def busybox_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of a `busybox` image, built by the program itself from the host's static busybox."""
    root = tmp_path_factory.mktemp("busybox")
    program = Moldar(root)
    context = root / "context"
    context.mkdir()
    shutil.copy(shutil.which("busybox") or "/bin/busybox", context / "busybox")
    (context / "Dockerfile").write_text(BUSYBOX)
    program("build", "-t", "busybox", context)
    program("save", "-o", root / "busybox.tar", "busybox")
    return root / "busybox.tar"


@pytest.fixture
def with_busybox(moldar: Moldar, busybox_archive: Path) -> Moldar:
    """A program whose store holds `busybox`."""
    moldar("load", "-i", busybox_archive)
    return moldar


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Path]:
    """Writes a build context: `project(Dockerfile="FROM busybox", **{"app.py": "..."})`."""

    def write(name: str = "project", **files: str) -> Path:
        root = tmp_path / name
        for path, text in files.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        return root

    return write


@pytest.fixture
def hub(moldar: Moldar, tmp_path: Path) -> Iterator[str]:
    """The address of a running hub where alice is logged in."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    moldar("hub", "user", "add", "--data", tmp_path / "hub", "--password-stdin", "alice", stdin="secret-of-alice\n")
    words = ["hub", "serve", "--listen", address, "--data", str(tmp_path / "hub")]
    with (tmp_path / "hub.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "moldar", *words], env=moldar.environment, stdout=log, stderr=log
        )
    try:
        wait_for(address, server)
        moldar("login", "--username", "alice", "--password-stdin", address, stdin="secret-of-alice")
        yield address
    finally:
        server.terminate()
        server.wait(20)


def wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    """Until the server accepts connections; patient, for a busy machine takes long to start a process."""
    host, _, port = address.partition(":")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert server.poll() is None, "the hub ended"
        try:
            socket.create_connection((host, int(port)), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the hub does not listen")
