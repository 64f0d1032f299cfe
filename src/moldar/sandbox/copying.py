"""Snapshots by copying, for file systems and kernels without overlayfs: every stack is a whole directory tree.

Files share their blocks where the file system can (FICLONE). What a step changed is found by change times: a file
system stamps everything that is touched after the copy was finished with a later time, and nobody can set it back.
"""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from moldar.image.layer_diff import diff_entries
from moldar.image.layer_entry import WHITEOUT_PREFIX, LayerEntry
from moldar.sandbox.readset.observations import Question
from moldar.sandbox.snapshots import Change, Fill, SnapshotTable
from moldar.sandbox.unpacked import Stack, UnpackedTrees
from moldar.sandbox.workdirs import (
    WorkDirectory,
    adopt,
    clear,
    copy_attributes,
    directory_size,
    make_folders,
    present,
    publish,
    sweep_work,
)

_FICLONE = 0x40049409
_CHUNK = 1 << 26
_STAMP = "stamp"
"""The file beside a container's root that holds when it was copied: a change time in nanoseconds."""


class CopyingSnapshots(UnpackedTrees):
    """Snapshots below `base` (the store's `snapshots` folder), recorded in `table`."""

    name = "copying"

    def __init__(self, base: str, table: SnapshotTable) -> None:
        super().__init__(base)
        self._table = table
        make_folders(base)
        os.makedirs(f"{base}/empty", exist_ok=True)

    def unpack(self, stack: Stack, fill: Fill) -> None:
        if self.has(stack):
            return
        (parent,) = self.directories(stack[:-1])
        work = WorkDirectory(f"{self.base}/work")
        try:
            staged = f"{work.path}/layer"
            copy_tree(parent, staged)
            fill(staged)
            self.publish_tree(staged, stack)
        finally:
            work.close()

    def unpack_over(self, stack: Stack, fill: Fill) -> None:
        self.unpack(stack, fill)

    @contextmanager
    def mount(self, stack: Stack) -> Iterator[str]:
        yield self.directories(stack)[0]

    def prepare(self, stack: Stack, viewed: Collection[int] = ()) -> "CopyingWorkspace":
        return CopyingWorkspace(self, self.directories(stack)[0], WorkDirectory(f"{self.base}/work"))

    def create_rootfs(self, name: str, stack: Stack) -> None:
        directory = f"{self.base}/roots/{name}"
        os.mkdir(directory, 0o700)
        copy_tree(self.directories(stack)[0], f"{directory}/root")
        stamp = _later_than_all_so_far(directory)
        with open(f"{directory}/{_STAMP}", "w") as file:
            file.write(str(stamp))

    def mount_rootfs(self, name: str) -> str:
        return f"{self.base}/roots/{name}/root"

    def rootfs_mounted(self, name: str) -> bool:
        return os.path.isdir(self.mount_rootfs(name))

    def unmount_rootfs(self, name: str) -> None:
        return

    def rootfs_upper(self, name: str) -> str:
        return self.mount_rootfs(name)

    def rootfs_changes(self, name: str, stack: Stack) -> Iterator[Change]:
        try:
            with open(f"{self.base}/roots/{name}/{_STAMP}") as file:
                stamp = int(file.read())
        except FileNotFoundError:  # made before there were stamps: everything counts as changed
            stamp = 0
        return _changes(self.directories(stack)[0], self.mount_rootfs(name), stamp)

    def remove_rootfs(self, name: str) -> None:
        clear(f"{self.base}/roots/{name}")

    def remove(self, key: str) -> None:
        work = WorkDirectory(f"{self.base}/work")
        try:
            with suppress(FileNotFoundError):
                os.rename(self.directory(key), f"{work.path}/layer")
            self._table.remove_snapshot(key)
        finally:
            work.close()

    def present(self) -> set[str]:
        return present(f"{self.base}/layers")

    def sweep(self) -> list[str]:
        swept = sweep_work(f"{self.base}/work")
        adopt(self._table, f"{self.base}/layers")
        return swept

    def publish_tree(self, staged: str, stack: Stack) -> None:
        """Make the whole tree `staged` the snapshot of `stack`."""
        (key,) = self.keys(stack)
        size = directory_size(staged)
        publish(staged, self.directory(key))
        self._table.add_snapshot(key, size)  # also when it was there: a collection may just have forgotten it


class CopyingWorkspace:
    """A copy of a tree, to be changed. It cannot tell what was looked at."""

    has_views = False

    def __init__(self, snapshots: CopyingSnapshots, lower: str, work: WorkDirectory) -> None:
        self._snapshots = snapshots
        self._lower = lower
        self._work = work
        try:
            self.path = self.upper = f"{work.path}/tree"
            copy_tree(lower, self.path)
            self._stamp = _later_than_all_so_far(work.path)
        except BaseException:
            work.close()
            raise

    def changes(self) -> Iterator[Change]:
        return _changes(self._lower, self.path, self._stamp)

    def questions(self) -> Mapping[int, frozenset[Question]] | None:
        return None

    def commit(self, stack: Stack, size: int = 0) -> None:
        self._snapshots.publish_tree(self.path, stack)
        self._work.close()

    def discard(self) -> None:
        self._work.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


def copy_tree(source: str, target: str) -> None:
    """Copy a directory tree with owners, modes, times, extended attributes and hard links. `target` must be new."""
    os.mkdir(target, 0o700)
    copy_members(source, target)
    copy_attributes(source, target)


def copy_members(source: str, target: str) -> None:
    """Copy what is in the directory `source` to the directory `target`, which has nothing of that name."""
    _copy_members(source, target, {})


def _copy_members(source: str, target: str, links: dict[int, str]) -> None:
    with os.scandir(source) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            copy = f"{target}/{entry.name}"
            if stat.S_ISDIR(status.st_mode):
                os.mkdir(copy, 0o700)
                _copy_members(entry.path, copy, links)
                copy_attributes(entry.path, copy)
            elif status.st_nlink > 1 and status.st_ino in links:
                os.link(links[status.st_ino], copy, follow_symlinks=False)
            else:
                _copy_leaf(entry.path, copy, status)
                links[status.st_ino] = copy


def _copy_leaf(source: str, copy: str, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        _copy_content(source, copy, status.st_size)
    elif stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), copy)
    elif stat.S_ISSOCK(status.st_mode):
        return
    else:
        os.mknod(copy, status.st_mode, status.st_rdev)
    os.chown(copy, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(copy, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source, follow_symlinks=False):
        os.setxattr(copy, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def _copy_content(source: str, copy: str, size: int) -> None:
    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        writing = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if size and not _cloned(reading, writing):
                _copy_bytes(reading, writing)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy_bytes(reading: int, writing: int) -> None:
    try:
        while os.copy_file_range(reading, writing, _CHUNK):
            pass
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL):
            raise
        while os.sendfile(writing, reading, None, _CHUNK):  # between file systems
            pass


def _cloned(reading: int, writing: int) -> bool:
    try:
        fcntl.ioctl(writing, _FICLONE, reading)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY):
            return False
        raise
    return True


def _later_than_all_so_far(directory: str) -> int:
    """A change time (in nanoseconds) that everything so far is at or below and everything from now on is above.

    The clock that stamps files ticks every few milliseconds only, so we wait for the next tick.
    """
    probe = f"{directory}/clock"
    with open(probe, "w"):
        pass
    stamp = os.stat(probe).st_ctime_ns
    while os.stat(probe).st_ctime_ns == stamp:
        time.sleep(0.001)
        os.utime(probe)
    return stamp


def _changes(lower: str, tree: str, stamp: int) -> Iterator[Change]:
    """Entries of `tree` touched after `stamp`, with their parents, and whiteouts for what is gone."""
    gone = _deletions(lower, tree)
    held: list[Change] = []  # directories on the way that are as before
    for change in diff_entries(tree):
        path, kind = change[0].path, change[0].kind
        while held and not path.startswith(held[-1][0].path + "/"):
            held.pop()
        deleted = gone.get(path, ()) if kind == "dir" else ()
        if kind == "dir" and not deleted and _same_directory(f"{lower}/{path}", f"{tree}/{path}"):
            held.append(change)
        elif kind == "dir" or os.lstat(f"{tree}/{path}").st_ctime_ns > stamp:
            yield from held
            held.clear()
            yield change
            for name in deleted:
                yield _whiteout(f"{path}/{name}"), None
    for name in gone.get("", ()):
        yield _whiteout(name), None


def _whiteout(path: str) -> LayerEntry:
    folder, _, name = path.rpartition("/")
    return LayerEntry(f"{folder}/{WHITEOUT_PREFIX}{name}" if folder else WHITEOUT_PREFIX + name, "file", 0o644)


def _deletions(lower: str, tree: str) -> dict[str, list[str]]:
    """For each directory that lost members, by its path: their names, sorted."""
    found: dict[str, list[str]] = {}
    pending = [""]
    while pending:
        folder = pending.pop()
        now = set(os.listdir(f"{tree}/{folder}"))
        gone = []
        with os.scandir(f"{lower}/{folder}") as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.name not in now:
                    gone.append(entry.name)
                elif entry.is_dir(follow_symlinks=False) and stat.S_ISDIR(os.lstat(f"{tree}/{path}").st_mode):
                    pending.append(path)
        if gone:
            found[folder] = sorted(gone, key=os.fsencode)
    return found


def _same_directory(before: str, now: str) -> bool:
    try:
        old = os.lstat(before)
    except (FileNotFoundError, NotADirectoryError):
        return False
    new = os.lstat(now)
    return (old.st_mode, old.st_uid, old.st_gid, old.st_mtime_ns) == (
        new.st_mode,
        new.st_uid,
        new.st_gid,
        new.st_mtime_ns,
    )
