"""Taking things out of the store for good: the trash of a collection, and what dead processes left in `ingest/`."""

import fcntl
import os
import shutil
import time
from types import TracebackType
from typing import Self

from moldar.errors import HostTrouble
from moldar.store.blobs import PART
from moldar.store.home import Home

PART_SECONDS = 7 * 86400.0
"""How long an interrupted download is kept to be resumed."""
YOUNG_SECONDS = 60.0
_TRASH = "trash-"


class Trash:
    """A folder of its own in `ingest/` that is deleted when the context ends. Renaming into it is quick."""

    def __init__(self, home: Home) -> None:
        self._path = f"{home.ingest}/{_TRASH}{os.getpid()}-{os.urandom(8).hex()}"
        self._made = False

    def take_blob(self, path: str, oldest: int) -> None:
        """Take a blob out of the store, unless somebody claimed it just now (it is as new as `oldest`, in ns)."""
        try:
            if not self._made:
                os.mkdir(self._path, 0o700)
                self._made = True
            taken = f"{self._path}/{os.path.basename(path)}"
            os.rename(path, taken)
            if os.stat(taken).st_mtime_ns >= oldest:
                os.rename(taken, path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise HostTrouble(f"cannot remove {path}: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._made:
            shutil.rmtree(self._path, ignore_errors=True)


def sweep_ingest(home: Home) -> int:
    """Delete unfinished blobs of dead processes, old interrupted downloads and trash; how many there were."""
    gone = leftovers(home)
    for path in gone:
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue
        except IsADirectoryError:
            shutil.rmtree(path, ignore_errors=True)
        except OSError as error:
            raise HostTrouble(f"cannot remove {path}: {error.strerror}") from error
    return len(gone)


def leftovers(home: Home) -> list[str]:
    """The paths in `ingest/` that nobody needs any more."""
    return [f"{home.ingest}/{name}" for name in sorted(os.listdir(home.ingest)) if _is_left(home.ingest, name)]


def _is_left(folder: str, name: str) -> bool:
    if name.startswith(_TRASH):
        return True
    try:
        fd = os.open(f"{folder}/{name}", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # it is gone, or no file of ours
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        age = time.time() - os.fstat(fd).st_mtime
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    if name.endswith(PART):
        return age > PART_SECONDS
    return age > YOUNG_SECONDS or not _runs(name.partition("-")[0])


def _runs(pid: str) -> bool:
    return pid.isdecimal() and os.path.exists(f"/proc/{pid}")
