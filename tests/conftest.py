"""What tests of several rooms share: a small root file system, a watch on threads, a PostgreSQL and an S3 server."""

import gc
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.unit.hub.backends import S3, Postgres, running_postgres, running_s3

MANY_DESCRIPTORS = 250
APPLETS = (
    "cat chmod echo env hostname httpd id kill ln ls mkdir nc printf pwd rm rmdir seq sh sleep stty touch true tty "
    "wc wget"
)


def _make_root(root: Path) -> int:
    for folder in ("bin", "dev", "etc", "proc", "sys", "tmp", "root", "www"):
        (root / folder).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for applet in APPLETS.split():
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/www:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nweb:x:34:\nextra:x:44:web\n")
    (root / "www/index.html").write_text("hello from busybox")
    os.chmod(root / "tmp", 0o1777)
    return (root / "bin/busybox").stat().st_size


@pytest.fixture
def make_busybox_root() -> Callable[[Path], int]:
    """Fills a directory with a root file system of busybox and gives the bytes written."""
    return _make_root


@pytest.fixture
def busybox_root(tmp_path: Path) -> Path:
    root = tmp_path / "busybox-root"
    _make_root(root)
    return root


@pytest.fixture
def no_new_threads() -> Iterator[None]:
    """The test leaves no thread behind; what other tests' servers still end is not counted."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with running_s3(tmp_path_factory.mktemp("s3") / "log") as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def few_descriptors() -> Iterator[None]:
    """Databases of tests that are over may wait in cycles for the garbage collector, with their descriptors open."""
    yield
    if len(os.listdir("/proc/self/fd")) > MANY_DESCRIPTORS:
        gc.collect()
