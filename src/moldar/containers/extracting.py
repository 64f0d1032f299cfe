"""Putting members of an archive below a directory of a root that others may write to meanwhile.

Every directory on the way is opened by openat2 within the root, so that no link leads out of it, also not one that is
made at this moment; the last component is never followed. A directory takes no other thing's place, nor the reverse.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress

from moldar.errors import HostTrouble, UserMistake
from moldar.image.layer_entry import OVERLAY_XATTRS, LayerEntry
from moldar.image.layer_read import Content
from moldar.image.ownership import ownership
from moldar.sandbox.mounts import open_in_root

Source = Content | Callable[[], int] | None
"""Where a file's content comes from: an archive, or something that opens it and gives the descriptor."""
Member = tuple[LayerEntry, Source]

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CHUNK = 1 << 20
_NODES = {"fifo": stat.S_IFIFO, "char": stat.S_IFCHR, "block": stat.S_IFBLK}


class InTheWay(UserMistake):
    """A directory would have to take the place of something else, or the reverse."""


class Extraction:
    """Members on their way to the directory `base` of `root`, a descriptor. `owner` replaces the members' own."""

    def __init__(self, root: int, base: str, owner: tuple[int, int] | None) -> None:
        self._root = root
        self._base = base
        self._owner = owner
        self._ownership = ownership()
        self._parent: tuple[str | None, int] = (None, -1)
        self._directories: list[tuple[int, int, LayerEntry]] = []  # by device and inode, in case they are moved
        self.size = 0

    def extract(self, members: Iterable[Member]) -> None:
        """Write them all; InTheWay, HostTrouble. What was written before a failure stays."""
        try:
            for entry, source in members:
                try:
                    self._add(entry, source)
                except OSError as error:
                    raise _translated(error, entry.path) from error
            self._finish()
        finally:
            self._forget()

    def _add(self, entry: LayerEntry, source: Source) -> None:
        folder, _, name = entry.path.rpartition("/")
        if not name:
            return  # the directory that all goes to stays as it is
        self.size += 512 + (entry.size + 511 & ~511 if entry.kind == "file" else 0)
        parent = self._open(folder)
        if entry.kind == "dir":
            self._directory(parent, name, entry)
            return
        self._make_room(parent, name, entry)
        if entry.kind == "file":
            self._file(parent, name, entry, source)
            return
        if entry.kind == "link":
            self._link(parent, name, entry)
            return
        if entry.kind == "symlink":
            os.symlink(entry.target, name, dir_fd=parent)
        else:
            os.mknod(name, _NODES[entry.kind] | 0o600, os.makedev(entry.major, entry.minor), dir_fd=parent)
        os.chown(name, *self._owners(entry), dir_fd=parent, follow_symlinks=False)
        if entry.kind != "symlink":
            _set_mode(parent, name, entry.mode)
        os.utime(name, ns=_times(entry), dir_fd=parent, follow_symlinks=False)

    def _open(self, folder: str) -> int:
        """The descriptor of a directory below the base, made with its parents where it is missing."""
        if self._parent[0] != folder:
            self._forget()
            self._parent = (folder, self._reach(folder))
        return self._parent[1]

    def _reach(self, folder: str) -> int:
        path = f"{self._base}/{folder}"
        with suppress(FileNotFoundError):
            return open_in_root(self._root, path, _DIRECTORY)
        above, _, name = folder.rpartition("/")
        if not name:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        parent = self._reach(above)
        try:
            with suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=parent)
        finally:
            os.close(parent)
        return open_in_root(self._root, path, _DIRECTORY)

    def _forget(self) -> None:
        if self._parent[1] >= 0:
            os.close(self._parent[1])
        self._parent = (None, -1)

    def _directory(self, parent: int, name: str, entry: LayerEntry) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
                raise InTheWay(f"cannot overwrite non-directory {entry.path!r} with a directory") from None
        status = os.lstat(name, dir_fd=parent)
        self._directories.append((status.st_dev, status.st_ino, entry))

    def _make_room(self, parent: int, name: str, entry: LayerEntry) -> None:
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError):
            if stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
                raise InTheWay(f"cannot overwrite directory {entry.path!r} with a non-directory") from None
            raise

    def _file(self, parent: int, name: str, entry: LayerEntry, source: Source) -> None:
        descriptor = os.open(name, _CREATE, 0o600, dir_fd=parent)
        try:
            if isinstance(source, Content):
                while data := source.read(_CHUNK):
                    _write_all(descriptor, data)
            elif source is not None:
                _copy(source, descriptor)
            self._set_attributes(descriptor, entry)
        finally:
            os.close(descriptor)

    def _link(self, parent: int, name: str, entry: LayerEntry) -> None:
        folder, _, target = entry.target.rpartition("/")
        there = open_in_root(self._root, f"{self._base}/{folder}", _DIRECTORY)
        try:
            os.link(target, name, src_dir_fd=there, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(there)

    def _finish(self) -> None:
        """Directories get their modes and times last, the deepest first."""
        for device, inode, entry in reversed(self._directories):
            try:
                descriptor = open_in_root(self._root, f"{self._base}/{entry.path}", _DIRECTORY)
            except OSError:
                continue  # somebody took it away meanwhile
            try:
                status = os.fstat(descriptor)
                if (status.st_dev, status.st_ino) == (device, inode):
                    self._set_attributes(descriptor, entry)
            except OSError as error:
                raise _translated(error, entry.path) from error
            finally:
                os.close(descriptor)

    def _set_attributes(self, descriptor: int, entry: LayerEntry) -> None:
        os.fchown(descriptor, *self._owners(entry))
        os.fchmod(descriptor, entry.mode)
        for key, value in entry.xattrs:
            if not key.startswith(OVERLAY_XATTRS):
                with suppress(OSError):  # not every file system takes every attribute
                    os.setxattr(descriptor, key, value)
        os.utime(descriptor, ns=_times(entry))

    def _owners(self, entry: LayerEntry) -> tuple[int, int]:
        return self._ownership.to_set(entry.path, *(self._owner or (entry.uid, entry.gid)))


def _set_mode(parent: int, name: str, mode: int) -> None:
    """By a descriptor of the node itself, lest a link that took its place meanwhile is followed."""
    node = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{node}", mode)
    finally:
        os.close(node)


def _copy(opener: Callable[[], int], writing: int) -> None:
    reading = opener()
    try:
        while os.sendfile(writing, reading, None, _CHUNK):
            pass
    finally:
        os.close(reading)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _times(entry: LayerEntry) -> tuple[int, int]:
    nanoseconds = int(entry.mtime * 10**9)
    return nanoseconds, nanoseconds


def _translated(error: OSError, path: str) -> HostTrouble:
    return HostTrouble(f"cannot write {path!r}: {error.strerror}")
