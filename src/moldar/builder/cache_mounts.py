"""The directories behind RUN --mount=type=cache: one per id, kept between builds and locked while in use.

On disk, below the store's directory for them: `<sha256 of the id>` holds the files (a private mount that finds it
taken uses `<sha256>-2` and so on), `<the same>.lock` is locked with flock, which a killed process cannot keep.
"""

import errno
import fcntl
import hashlib
import os
import time
from typing import NamedTuple

from moldar.builder.solver import Cancellation

SHARING = ("shared", "private", "locked")
"""How a cache may be used by several steps at once, the strictest last."""
_PATIENCE = 0.05
_HEX_DIGITS = 64


class CacheMount(NamedTuple):
    """A cache directory in use. `fresh` when nobody has used it before. `lock` is an open file descriptor."""

    path: str
    lock: int
    fresh: bool

    def release(self) -> None:
        """Let others have it."""
        os.close(self.lock)


def acquire(root: str, name: str, sharing: str, cancellation: Cancellation) -> CacheMount:
    """The directory for the id `name`, locked as `sharing` asks.

    `shared` is used by many at once, `locked` waits until nobody else uses it, `private` takes another directory
    when the first is in use. Raises Cancelled.
    """
    stem = stem_of(root, name)
    os.makedirs(root, exist_ok=True)
    if sharing == "private":
        return _acquire_private(stem)
    mode = fcntl.LOCK_SH if sharing == "shared" else fcntl.LOCK_EX
    while (mount := _try(stem, mode)) is None:
        cancellation.check()
        time.sleep(_PATIENCE)
    return mount


def stem_of(root: str, name: str) -> str:
    """The directory for the id `name`."""
    return os.path.join(root, hashlib.sha256(name.encode()).hexdigest())


def stems(root: str) -> list[str]:
    """The directories of all ids that were ever used."""
    if not os.path.isdir(root):
        return []
    names = sorted(name for name in os.listdir(root) if len(name) == _HEX_DIGITS and os.path.isdir(f"{root}/{name}"))
    return [os.path.join(root, name) for name in names]


def acquire_idle(stem: str, seconds: float) -> CacheMount | None:
    """The directory for ourselves alone, as soon as nobody uses it; None when that takes longer than `seconds`."""
    os.makedirs(os.path.dirname(stem), exist_ok=True)
    end = time.monotonic() + seconds
    while (mount := _try(stem, fcntl.LOCK_EX)) is None and time.monotonic() < end:
        time.sleep(_PATIENCE)
    return mount


def _acquire_private(stem: str) -> CacheMount:
    number = 1
    while (mount := _try(stem if number == 1 else f"{stem}-{number}", fcntl.LOCK_EX)) is None:
        number += 1
    return mount


def _try(path: str, mode: int) -> CacheMount | None:
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, mode | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return None
    fresh = not os.path.isdir(path)
    return CacheMount(path, lock, fresh)
