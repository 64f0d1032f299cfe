"""The lock between creating containers and clearing up after creations that were killed.

Creators share it, whoever clears up wants it alone. The kernel frees it when a process ends in whatever way.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def creating(path: str) -> Iterator[None]:
    """Share the lock file `path`, which is made when it is not there, with other creators."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield
    finally:
        os.close(lock)


@contextmanager
def alone(path: str, *, wait: bool = False) -> Iterator[bool]:
    """Keep creators out meanwhile; False when one is at work, and then nothing is held.

    With `wait` it is waited for.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(lock)
