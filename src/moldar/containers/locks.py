"""Locks that say that a process is at work on a container; the kernel frees them when it ends in whatever way."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

_YOUNG_SECONDS = 60.0


@contextmanager
def hold(path: str) -> Iterator[None]:
    """Hold the lock of the file `path`, which is made, and which whoever deletes the container deletes."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def abandoned(path: str) -> bool:
    """Whether nobody holds the lock of the file `path`.

    A file that is not there counts as held for as long as its directory is young: it is about to be made, or the
    container is about to be gone.
    """
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return _old(os.path.dirname(path))
    except NotADirectoryError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(lock)


def _old(directory: str) -> bool:
    try:
        return time.time() - os.stat(directory).st_mtime > _YOUNG_SECONDS
    except FileNotFoundError:
        return False
