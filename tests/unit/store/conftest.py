"""A store in memory, because the tests here sync and delete much, and the worker processes that share it."""

import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

WORKER = Path(__file__).with_name("worker.py")


@pytest.fixture
def root() -> Iterator[Path]:
    """An empty directory on a tmpfs."""
    path = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def worker() -> ModuleType:
    """The module that worker processes run."""
    spec = importlib.util.spec_from_file_location("store_worker", WORKER)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
