"""Fixtures: a busybox root made once, and for each test a bench with its own store, in memory."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .builder_bench import Bench, busybox_root


@pytest.fixture(scope="session")
def busybox() -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield busybox_root(base / "root")
    shutil.rmtree(base)


@pytest.fixture(params=["overlay", "copying"])
def bench(busybox: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    base = Path(tempfile.mkdtemp(dir="/dev/shm"))
    bench = Bench(base, busybox, request.param)
    yield bench
    bench.lease.release()
    bench.database.close()
    shutil.rmtree(base)
