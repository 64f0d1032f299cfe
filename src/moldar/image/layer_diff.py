"""Walking an overlay upper directory, or any tree, as the sorted entries of a layer.

Overlayfs marks a deletion by a character device 0:0 and a replaced directory by an extended attribute
(Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories"); a layer has `.wh.` names for both.
"""

import os
import stat
from collections.abc import Iterator

from moldar.errors import HostTrouble, Unsupported
from moldar.image.layer_entry import OPAQUE_MARKS, OPAQUE_WHITEOUT, OVERLAY_XATTRS, WHITEOUT_PREFIX, LayerEntry
from moldar.image.layer_write import Opener

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe put there meanwhile must not hold us
_OPAQUE = tuple(OPAQUE_MARKS.values())
_DEPENDENT = (".redirect", ".metacopy")
_HOST_ONLY = frozenset({"security.selinux", "security.ima", "security.evm", "system.nfs4_acl"})
"""Attributes that mean something on this host only."""
_KINDS = {
    stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo", stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
}  # fmt: skip

Pair = tuple[LayerEntry, Opener | None]


class DependentUpper(Unsupported):
    """An upper directory that means something only together with its lower ones, so that it is no layer."""

    def __init__(self, path: str, attribute: str) -> None:
        super().__init__(
            f"{path!r} carries {attribute}: mount the overlay with redirect_dir=nofollow and metacopy=off"
        )


def diff_entries(upper: str | int) -> Iterator[Pair]:
    """Every member beneath `upper` (a path or descriptor), parents first, names sorted by their bytes.

    The opener of a file is good until the next member is asked for. Sockets are left out, hard links after the first
    name become links to it, times are cut to whole seconds. Raises DependentUpper and HostTrouble.
    """
    root = os.dup(upper) if isinstance(upper, int) else os.open(upper, _OPEN_DIRECTORY & ~os.O_NOFOLLOW)
    try:
        yield from _walk(root)
    except OSError as error:
        raise HostTrouble(f"cannot read the changed files: {error.filename}: {error.strerror}") from error
    finally:
        os.close(root)


def _walk(root: int) -> Iterator[Pair]:
    """Depth first with a stack of open directories, because a recursive generator costs a step for each level."""
    links: dict[tuple[int, int], str] = {}
    stack = [(root, "", iter(_names(root)))]
    try:
        while stack:
            parent, prefix, names = stack[-1]
            name, plain = next(names, ("", False))
            if not name:
                stack.pop()
                if stack:
                    os.close(parent)
            elif plain:
                entry, held = _file(parent, prefix, name, links)
                try:
                    yield entry, held.pop if held else None
                finally:
                    if held:
                        os.close(held[0])
            else:
                status = os.lstat(name, dir_fd=parent)
                if stat.S_ISDIR(status.st_mode):
                    path = prefix + name
                    descriptor = os.open(name, _OPEN_DIRECTORY, dir_fd=parent)
                    stack.append((descriptor, path + "/", iter(_names(descriptor))))
                    yield from _directory(descriptor, path, status)
                else:
                    yield from _special(parent, prefix, name, status, links)
    finally:
        for descriptor, _, _ in stack[1:]:
            os.close(descriptor)


def _names(descriptor: int) -> list[tuple[str, bool]]:
    """Names in a directory, sorted by their bytes, and whether each is a regular file."""
    with os.scandir(descriptor) as entries:
        found = [(entry.name, entry.is_file(follow_symlinks=False)) for entry in entries]
    if all(name.isascii() for name, _ in found):
        found.sort()
    else:
        found.sort(key=lambda each: os.fsencode(each[0]))
    return found


def _directory(descriptor: int, path: str, status: os.stat_result) -> Iterator[Pair]:
    xattrs, opaque = _xattrs(descriptor, path)
    mode, seconds = stat.S_IMODE(status.st_mode), status.st_mtime_ns // 10**9
    yield LayerEntry(path, "dir", mode, status.st_uid, status.st_gid, seconds, xattrs=xattrs), None
    if opaque:
        yield LayerEntry(f"{path}/{OPAQUE_WHITEOUT}", "file", 0o644), None


def _file(parent: int, prefix: str, name: str, links: dict[tuple[int, int], str]) -> tuple[LayerEntry, list[int]]:
    """A regular file and its descriptor, if it has content of its own.

    It is opened at once, because asking a descriptor for its attributes is several times cheaper than a name.
    """
    path = prefix + name
    descriptor = os.open(name, _OPEN_FILE, dir_fd=parent)
    held = [descriptor]
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise HostTrouble(f"{path!r} was replaced while it was read")
        mode, uid, gid, seconds = status.st_mode & 0o7777, status.st_uid, status.st_gid, status.st_mtime_ns // 10**9
        if status.st_nlink > 1:
            first = links.setdefault((status.st_dev, status.st_ino), path)
            if first is not path:
                os.close(held.pop())
                return LayerEntry(path, "link", mode, uid, gid, seconds, 0, first), held
        xattrs = _xattrs(descriptor, path)[0]
    except BaseException:
        os.close(descriptor)
        raise
    return LayerEntry(path, "file", mode, uid, gid, seconds, status.st_size, "", 0, 0, xattrs), held


def _special(
    parent: int, prefix: str, name: str, status: os.stat_result, links: dict[tuple[int, int], str]
) -> Iterator[Pair]:
    """What is neither file nor directory; nothing for a socket."""
    path = prefix + name
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return
    if kind == "char" and not status.st_rdev:
        yield LayerEntry(f"{prefix}{WHITEOUT_PREFIX}{name}", "file", 0o644), None
        return
    mode, seconds = stat.S_IMODE(status.st_mode), status.st_mtime_ns // 10**9
    if status.st_nlink > 1:
        first = links.setdefault((status.st_dev, status.st_ino), path)
        if first is not path:
            yield LayerEntry(path, "link", mode, status.st_uid, status.st_gid, seconds, 0, first), None
            return
    xattrs = _xattrs(f"/proc/self/fd/{parent}/{name}", path)[0]
    target = os.readlink(name, dir_fd=parent) if kind == "symlink" else ""
    device = (os.major(status.st_rdev), os.minor(status.st_rdev)) if kind in ("char", "block") else (0, 0)
    yield LayerEntry(path, kind, mode, status.st_uid, status.st_gid, seconds, 0, target, *device, xattrs), None


def _xattrs(target: int | str, path: str) -> tuple[tuple[tuple[str, bytes], ...], bool]:
    """The attributes that belong in the layer, sorted, and whether the directory is opaque."""
    follow = isinstance(target, int)
    names = os.listxattr(target, follow_symlinks=follow)
    if not names:
        return (), False
    found, opaque = [], False
    for name in sorted(names):
        if name in _OPAQUE:
            opaque = opaque or os.getxattr(target, name, follow_symlinks=follow) == b"y"
        elif name.startswith(OVERLAY_XATTRS):
            if name.endswith(_DEPENDENT):
                raise DependentUpper(path, name)
        elif name not in _HOST_ONLY:
            found.append((name, os.getxattr(target, name, follow_symlinks=follow)))
    return tuple(found), opaque
