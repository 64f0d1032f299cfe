"""Directories of running processes below `snapshots/work`: locked while in use, swept when their process is gone.

Mounts are made in the process's own mount name space and not in a private one, because the threads of a build and
the code that reads a mounted root (by plain paths) must all see them, and unshare(2) moves one thread only. What a
killed process leaves is therefore visible, and `sweep` finds it by its free lock, unmounts it and deletes it.
"""

import errno
import fcntl
import os
import shutil
import stat
from contextlib import suppress
from functools import partial

from moldar.errors import HostTrouble
from moldar.image.layer_entry import OVERLAY_XATTRS
from moldar.sandbox.mounts import MNT_DETACH, unmount
from moldar.sandbox.snapshots import SnapshotTable


class WorkDirectory:
    """One directory `work/ID` with its lock. `path` is empty at first."""

    def __init__(self, base: str) -> None:
        self._lock = -1
        while self._lock < 0:
            self.path = f"{base}/{os.urandom(8).hex()}"
            self._lock = lock_new(self.path + ".lock")
        os.mkdir(self.path, 0o700)
        self.root = self.path + "/root"

    def mount_point(self) -> str:
        """The directory to mount on."""
        os.mkdir(self.root, 0o755)
        return self.root

    def close(self) -> None:
        """Unmount, delete and unlock. Harmless when repeated."""
        if self._lock < 0:
            return
        clear(self.path)
        os.unlink(self.path + ".lock")
        os.close(self._lock)
        self._lock = -1


def clear(directory: str) -> None:
    """Unmount `directory`/root and then the views that it stands on, and delete the whole directory."""
    release(directory + "/root")
    with suppress(FileNotFoundError):
        for name in os.listdir(directory + "/views"):
            release(f"{directory}/views/{name}")
    if os.path.isdir(directory):
        shutil.rmtree(directory)


def release(point: str) -> None:
    """Unmount whatever is on `point`; a busy mount is detached and goes when its last user does."""
    while _is_mounted(point):
        try:
            unmount(point)
        except OSError:
            unmount(point, MNT_DETACH)


def _is_mounted(point: str) -> bool:
    try:
        return os.lstat(point).st_dev != os.lstat(os.path.dirname(point)).st_dev
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno in (errno.ENOTCONN, errno.ECONNABORTED):  # a view whose server is gone
            return True
        raise


def sweep_work(base: str) -> list[str]:
    """Clear every directory whose owner is gone; gives their paths."""
    swept = []
    for name in os.listdir(base):
        path = f"{base}/{name}"
        if name.endswith(".lock"):
            if _sweep_one(path):
                swept.append(path.removesuffix(".lock"))
        elif os.path.isdir(path) and not os.path.exists(path + ".lock"):
            clear(path)
            swept.append(path)
    return swept


def _sweep_one(lock_path: str) -> bool:
    lock = take_abandoned(lock_path)
    if lock < 0:
        return False
    try:
        clear(lock_path.removesuffix(".lock"))
        os.unlink(lock_path)
        return True
    except FileNotFoundError:
        return False
    finally:
        os.close(lock)


def take_abandoned(lock_path: str) -> int:
    """The lock of a process that is gone, now ours; -1 while its process lives."""
    try:
        lock = os.open(lock_path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return -1
    return lock


def lock_new(path: str) -> int:
    """A new locked file, or -1 when a sweeper took it between its making and its locking.

    The kernel frees the lock when its process ends in whatever way; `take_abandoned` finds that.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return -1
    if not os.fstat(lock).st_nlink:
        os.close(lock)
        return -1
    return lock


def directory_size(path: str) -> int:
    """Bytes of the files below `path`, hard links counted once."""
    total = 0
    seen: set[int] = set()
    pending = [path]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    pending.append(entry.path)
                elif stat.S_ISREG(status.st_mode) and status.st_ino not in seen:
                    if status.st_nlink > 1:
                        seen.add(status.st_ino)
                    total += status.st_size
    return total


def copy_attributes(source: str, target: str) -> None:
    """Give the directory `target` the mode, owner, times and extended attributes of `source`."""
    status = os.stat(source)
    os.chown(target, status.st_uid, status.st_gid)
    os.chmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        if not name.startswith(OVERLAY_XATTRS):
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def make_folders(base: str) -> None:
    """The folders that every driver uses; closed to others, because layers hold set-uid programs."""
    try:
        for folder in ("layers", "work", "roots"):
            os.makedirs(f"{base}/{folder}", mode=0o700, exist_ok=True)
    except OSError as error:
        raise HostTrouble(f"cannot make {base}: {error.strerror}") from error


def publish(staged: str, final: str) -> bool:
    """Rename the finished directory `staged` to `final`; False when another process was quicker."""
    try:
        os.rename(staged, final)
        return True
    except OSError:
        if os.path.isdir(final):
            return False
        raise


def present(layers: str) -> set[str]:
    """The keys of the snapshots that are in the folder `layers`."""
    return {name.replace("-", ":", 1) for name in os.listdir(layers)}


def adopt(table: SnapshotTable, layers: str) -> None:
    """Record what a process left unrecorded that was killed between renaming a snapshot into place and its row."""
    for key in present(layers):
        path = f"{layers}/{key.replace(':', '-', 1)}"
        if table.has_snapshot(key):
            continue
        with suppress(FileNotFoundError):  # somebody removes it at this moment
            table.adopt_snapshot(key, directory_size(path), partial(os.path.isdir, path))
