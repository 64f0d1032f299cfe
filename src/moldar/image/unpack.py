"""Unpacking a layer into a directory without ever touching anything outside of it.

Two styles. `overlay` fills an empty directory that overlayfs will use as a lower layer: whiteouts become character
devices 0:0, opaque directories carry a mark, of which `userxattr` is the form that needs no root (Documentation/
filesystems/overlayfs.rst, "User xattr"). `apply` changes a merged tree: whiteouts delete.
Owners, modes, times and extended attributes of directories are set last, so that creating their members neither
changes their times nor lets them inherit a group.
"""

import errno
import os
import stat
from collections.abc import Iterable
from typing import Literal, NamedTuple

from moldar.errors import CorruptData, HostTrouble
from moldar.image.layer_entry import (
    META_PREFIX,
    OPAQUE_MARKS,
    OPAQUE_WHITEOUT,
    OVERLAY_XATTRS,
    WHITEOUT_PREFIX,
    BadLayer,
    LayerEntry,
    NeedsParents,
    Whiteouts,
    is_metadata,
)
from moldar.image.layer_read import Content, Readable, read_entries
from moldar.image.ownership import Ownership, ownership
from moldar.image.rooted import NotThere, RootedDirectory, remove

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20
_SECOND = 10**9
_NODE_TYPES = {"fifo": stat.S_IFIFO, "char": stat.S_IFCHR, "block": stat.S_IFBLK}


class UnpackResult(NamedTuple):
    """What was unpacked: members, bytes of file content, and device nodes left out for want of privilege."""

    entries: int
    size: int
    skipped_devices: int = 0


def unpack(
    stream: Readable,
    directory: str | int,
    *,
    whiteouts: Whiteouts,
    missing_parents: Literal["make", "refuse"] = "make",
    keep_owners: bool = True,
) -> UnpackResult:
    """Unpack the uncompressed tar in `stream` into `directory`, a path or descriptor, and read the stream to its end.

    Members' parents that the layer does not list are made with mode 0755; with `refuse`, NeedsParents is raised
    instead, also for hard links to files that the layer does not have. Without `keep_owners` everything is ours.
    Raises BadLayer for bad archives, UnmappedOwner, and HostTrouble when the file system refuses. What was written
    stays there: the caller throws it away.
    """
    root = RootedDirectory(directory)
    try:
        owners = ownership() if keep_owners else ownership()._replace(squashed=True)
        worker = _Unpacker(root, OPAQUE_MARKS.get(whiteouts, ""), owners, missing_parents == "refuse")
        for entry, content in read_entries(stream, contents=True):
            worker.add(entry, content)
        worker.finish()
    finally:
        root.close()
    return UnpackResult(worker.entries, worker.size, worker.skipped)


class _Unpacker:
    """One layer on its way into one directory. `opaque_mark` is empty where whiteouts are to be applied."""

    def __init__(self, root: RootedDirectory, opaque_mark: str, owners: Ownership, refuse: bool) -> None:
        self._root = root
        self._overlay = bool(opaque_mark)
        self._opaque_mark = opaque_mark
        self._refuse = refuse
        self._directories: dict[str, LayerEntry] = {}
        self._own: set[str] = set()  # apply only: what this layer made, which its whiteouts must spare
        self._umask = _umask()
        root_group = os.fstat(root.root)
        plain = self._overlay and not root_group.st_mode & stat.S_ISGID
        self._owner = (os.geteuid(), os.getegid()) if plain else (-1, -1)
        self._ownership = owners
        self._parent: tuple[int, str, str | None] = (-1, "", None)  # of the last member: descriptor, canonical, path
        self.entries = self.size = self.skipped = 0

    def add(self, entry: LayerEntry, content: Content | None) -> None:
        """Makes one member; BadLayer, NeedsParents, HostTrouble."""
        self.entries += 1
        path = entry.path
        parent, _, name = path.rpartition("/")
        try:
            if META_PREFIX in path and is_metadata(path):
                return
            if not path:
                self._directories[""] = entry
                return
            if parent == self._parent[2]:
                descriptor, canonical, _ = self._parent
            else:
                descriptor, canonical = self._root.directory(parent, self._make_parent)
                self._parent = (descriptor, canonical, parent)
            where = path if canonical == parent else (f"{canonical}/{name}" if canonical else name)
            if name.startswith(WHITEOUT_PREFIX):
                self._whiteout(descriptor, canonical, name, entry)
            elif content:
                self._file(descriptor, name, where, entry, content)
            else:
                self._other(descriptor, name, where, entry)
            if not self._overlay:
                self._own.add(where)
        except NotThere as error:
            raise self._missing(error.path, path) from error
        except OSError as error:
            raise _translated(error, path) from error
        except (OverflowError, ValueError) as error:
            raise BadLayer(str(error), path) from error

    def finish(self) -> None:
        """Gives the directories their metadata, the deepest first."""
        for path in sorted(self._directories, reverse=True):
            entry = self._directories[path]
            try:
                descriptor = self._root.directory(path)[0]
                os.fchown(descriptor, *self._owners(entry))
                os.fchmod(descriptor, entry.mode)
                _set_xattrs(descriptor, entry.xattrs)
                os.utime(descriptor, ns=_times(entry))
            except OSError as error:
                raise _translated(error, path) from error

    def _file(self, parent: int, name: str, where: str, entry: LayerEntry, content: Content) -> None:
        mode = entry.mode
        try:
            descriptor = os.open(name, _CREATE, mode & 0o777, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, name, where)
            descriptor = os.open(name, _CREATE, mode & 0o777, dir_fd=parent)
        try:
            size = entry.size
            if size:
                self.size += size
                _write(descriptor, content, size)
            if (entry.uid, entry.gid) != self._owner:
                os.fchown(descriptor, *self._owners(entry))
                os.fchmod(descriptor, mode)
            elif mode & (self._umask | 0o7000):
                os.fchmod(descriptor, mode)
            if entry.xattrs:
                _set_xattrs(descriptor, entry.xattrs)
            os.utime(descriptor, ns=_times(entry))
        finally:
            os.close(descriptor)

    def _other(self, parent: int, name: str, where: str, entry: LayerEntry) -> None:
        if entry.kind == "dir":
            self._directory(parent, name, where)
            self._directories[where] = entry
            return
        try:
            made = self._make(parent, name, where, entry)
        except FileExistsError:
            self._clear(parent, name, where)
            made = self._make(parent, name, where, entry)
        if not made or entry.kind == "link":
            return
        os.chown(name, *self._owners(entry), dir_fd=parent, follow_symlinks=False)
        if entry.kind != "symlink":
            os.chmod(name, entry.mode, dir_fd=parent)
        _set_xattrs(f"/proc/self/fd/{parent}/{name}", entry.xattrs)
        os.utime(name, ns=_times(entry), dir_fd=parent, follow_symlinks=False)

    def _make(self, parent: int, name: str, where: str, entry: LayerEntry) -> bool:
        """Makes what is neither file nor directory; False for a device that we may not make."""
        if entry.kind == "symlink":
            os.symlink(entry.target, name, dir_fd=parent)
        elif entry.kind == "link":
            self._hard_link(parent, name, where, entry)
        else:
            device = os.makedev(entry.major, entry.minor)
            try:
                os.mknod(name, _NODE_TYPES[entry.kind] | entry.mode & 0o777, device, dir_fd=parent)
            except PermissionError:  # only root outside of user namespaces may make devices
                self.skipped += 1
                return False
        return True

    def _hard_link(self, parent: int, name: str, where: str, entry: LayerEntry) -> None:
        self._parent = (-1, "", None)  # looking up the target may close it
        directory, _, base = entry.target.rpartition("/")
        source = -1
        try:
            # the parent's descriptor must outlive the look-up of the target's
            parent = os.dup(parent)
            try:
                source, canonical = self._root.directory(directory)
                if where == (f"{canonical}/{base}" if canonical else base):
                    raise BadLayer("a hard link to itself", entry.path)
                os.link(base, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(parent)
        except (NotThere, FileNotFoundError) as error:
            raise self._missing(entry.target, entry.path) from error
        except PermissionError as error:
            raise BadLayer(f"a hard link to {entry.target!r}, which is a directory", entry.path) from error

    def _directory(self, parent: int, name: str, where: str) -> None:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
            return
        except FileExistsError:
            status = os.lstat(name, dir_fd=parent)
        if stat.S_ISDIR(status.st_mode):
            return
        self._clear(parent, name, where)
        os.mkdir(name, 0o755, dir_fd=parent)
        if self._overlay and _is_whiteout(status):
            self._set_opaque(parent, name)

    def _make_parent(self, parent: int, name: str, where: str) -> None:
        if self._refuse:
            raise NeedsParents(where)
        os.mkdir(name, 0o755, dir_fd=parent)
        if self._umask & 0o755:
            os.chmod(name, 0o755, dir_fd=parent)

    def _whiteout(self, parent: int, directory: str, name: str, entry: LayerEntry) -> None:
        if name == OPAQUE_WHITEOUT:
            self._make_opaque(parent, directory)
            return
        hidden = name[len(WHITEOUT_PREFIX) :]
        if hidden in ("", ".", ".."):
            raise BadLayer("a whiteout of nothing", entry.path)
        where = f"{directory}/{hidden}" if directory else hidden
        if not self._overlay:
            if where not in self._own:
                self._clear(parent, hidden, where)
            return
        try:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=parent)
        except FileExistsError:  # this layer's own member wins; a directory of it hides the lower one
            if stat.S_ISDIR(os.lstat(hidden, dir_fd=parent).st_mode):
                self._set_opaque(parent, hidden)

    def _make_opaque(self, descriptor: int, directory: str) -> None:
        if self._overlay:
            os.setxattr(descriptor, self._opaque_mark, b"y")
            return
        with os.scandir(descriptor) as children:
            names = [child.name for child in children]
        for name in names:
            where = f"{directory}/{name}" if directory else name
            if where not in self._own:
                self._clear(descriptor, name, where)

    def _set_opaque(self, parent: int, name: str) -> None:
        os.setxattr(f"/proc/self/fd/{parent}/{name}", self._opaque_mark, b"y", follow_symlinks=False)

    def _clear(self, parent: int, name: str, where: str) -> None:
        """Removes what is in the way, and all that we know about it."""
        self._own.discard(where)
        if where in self._directories or _is_directory(parent, name):
            self._root.forget(where)
            self._parent = (-1, "", None)
            inside = where + "/"
            for path in [path for path in self._directories if path == where or path.startswith(inside)]:
                del self._directories[path]
            self._own = {path for path in self._own if not path.startswith(inside)}
        remove(parent, name)

    def _owners(self, entry: LayerEntry) -> tuple[int, int]:
        return self._ownership.to_set(entry.path, entry.uid, entry.gid)

    def _missing(self, what: str, member: str) -> CorruptData:
        if self._refuse:
            return NeedsParents(what)
        return BadLayer(f"{what!r} is missing or no directory", member)


def _is_directory(parent: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode)
    except FileNotFoundError:
        return False


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _write(descriptor: int, content: Content, size: int) -> None:
    if size <= _CHUNK:
        data = content.read()
        written = os.write(descriptor, data)
        if written < len(data):
            _write_all(descriptor, data[written:])
        return
    while data := content.read(_CHUNK):
        _write_all(descriptor, data)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _times(entry: LayerEntry) -> tuple[int, int]:
    nanoseconds = int(entry.mtime * _SECOND)
    return nanoseconds, nanoseconds


def _set_xattrs(target: int | str, xattrs: Iterable[tuple[str, bytes]]) -> None:
    """Sets what the file system can hold; overlayfs's own names are dropped, because they steer the mount."""
    for key, value in xattrs:
        if key.startswith(OVERLAY_XATTRS):
            continue
        try:
            os.setxattr(target, key, value, follow_symlinks=isinstance(target, int))
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.EACCES):
                raise


def _umask() -> int:
    """The process's file mode mask, read without changing it, because other threads make files too."""
    with open("/proc/self/status", "rb") as status:
        for line in status:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return 0o777


def _translated(error: OSError, path: str) -> CorruptData | HostTrouble:
    if error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
        return BadLayer(f"the file system refuses it: {error.strerror}", path)
    return HostTrouble(f"cannot unpack {path!r}: {error.strerror}")
