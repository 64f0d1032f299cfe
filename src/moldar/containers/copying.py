"""Copying between a container and the host: Docker's rules for names, and the trees on both sides.

The rules are those of the `docker cp` reference: an existing directory takes the source inside, `SRC/.` means what is
in it, the destination's parent must be there, a link as destination is followed, one as source only on demand.
"""

import errno
import os
import posixpath
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from moldar.containers.extracting import Extraction, Member
from moldar.errors import HostTrouble, NotFound, UserMistake
from moldar.image.layer_diff import Pair, diff_entries
from moldar.image.layer_entry import OVERLAY_XATTRS, LayerEntry
from moldar.sandbox.mounts import open_in_root

_LINKS = 40
_PATH = os.O_PATH | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KINDS = {
    stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo", stat.S_IFCHR: "char", stat.S_IFBLK: "block",
}  # fmt: skip


class NoSuchFile(NotFound):
    """Nothing is at a path; `where` names the container, empty for the host."""

    def __init__(self, path: str, where: str = "") -> None:
        if where:
            super().__init__(f"could not find the file {path} in container {where}")
        else:
            super().__init__(f"lstat {path}: no such file or directory")
        self.path = path


class CannotCopy(UserMistake):
    """The two ends do not fit."""


class Spot(NamedTuple):
    """A path on one of the two sides, as written. `place` names the container in messages, empty for the host.

    `root` is a descriptor of the container's root, or of the host's.
    """

    root: int
    path: str
    place: str = ""

    @property
    def contents(self) -> bool:
        """Whether it means what is in the directory, not the directory."""
        return posixpath.basename(self.path) == "." or self.clean == "/"

    @property
    def asserts_directory(self) -> bool:
        return self.path.endswith("/") or self.contents

    @property
    def clean(self) -> str:
        """The absolute path without `.`, `..` and slashes too many."""
        return "/" + posixpath.normpath("/" + self.path).lstrip("/")


class Tree(NamedTuple):
    """What is to be copied: the directory that it is in, its name there, and the name that it goes by."""

    parent: int
    name: str
    called: str
    is_directory: bool


class Target(NamedTuple):
    """Where it goes: into the directory at `base`, and under which name; an empty one means its members only."""

    base: str
    name: str


def find_source(spot: Spot, *, follow: bool) -> Tree:
    """What is at `spot`; the parent's descriptor is the caller's to close. NoSuchFile, CannotCopy.

    A link is copied as a link unless `follow` says otherwise or the path asserts a directory; it keeps its own name.
    """
    called = "" if spot.contents else posixpath.basename(spot.clean)
    path = _resolved(spot, spot.clean) if follow or spot.asserts_directory else spot.clean
    folder, name = _split(path)
    parent = _open_folder(spot, folder)
    try:
        status = os.lstat(name, dir_fd=parent)
    except OSError as error:
        os.close(parent)
        raise _missing(spot, error) from error
    is_directory = stat.S_ISDIR(status.st_mode)
    if spot.asserts_directory and not is_directory:
        os.close(parent)
        raise CannotCopy(f"{spot.path}: not a directory")
    return Tree(parent, name, called, is_directory)


def find_target(spot: Spot, source: Tree) -> Target:
    """Where `source` goes when it is copied to `spot`. NoSuchFile, CannotCopy."""
    path = _resolved(spot, spot.clean)
    folder, name = _split(path)
    parent = _open_folder(spot, folder)
    try:
        mode = os.lstat(name, dir_fd=parent).st_mode
    except FileNotFoundError:
        mode = 0
    finally:
        os.close(parent)
    if stat.S_ISDIR(mode):
        return Target(path, source.called)
    if mode and not stat.S_ISREG(mode):
        raise CannotCopy(f'destination "{_shown(spot)}" must be a directory or a regular file')
    if mode and source.is_directory:
        raise CannotCopy(f"cannot copy a directory to the file {_shown(spot)}")
    if not source.is_directory and spot.asserts_directory:
        raise CannotCopy(
            f"no such directory: {_shown(spot)}", hint="make it first, or leave out the slash at the end"
        )
    return Target(folder, name)


def find_directory(spot: Spot) -> Target:
    """The directory at `spot`, for an archive to be unpacked in. CannotCopy."""
    path = _resolved(spot, spot.clean)
    try:
        os.close(open_in_root(spot.root, path, _PATH | os.O_DIRECTORY))
    except OSError as error:
        raise CannotCopy(f'destination "{_shown(spot)}" must be a directory') from error
    return Target(path, "")


def members(tree: Tree, name: str) -> Iterator[Pair]:
    """The tree as an archive's members below `name`; with an empty one, what is in the directory. HostTrouble."""
    try:
        if not tree.is_directory:
            yield from _leaf(tree, name)
            return
        top = os.open(tree.name, _DIRECTORY, dir_fd=tree.parent)
    except OSError as error:
        raise HostTrouble(f"cannot read {tree.name}: {error.strerror}") from error
    try:
        yield _entry(name, "dir", os.fstat(top)), None
        inside = f"{name}/" if name else ""
        for entry, opener in diff_entries(top):
            target = inside + entry.target if entry.kind == "link" else entry.target
            yield entry._replace(path=inside + entry.path, target=target), opener
    finally:
        os.close(top)


def copy_members(found: Iterable[Member], root: int, target: Target, owner: tuple[int, int] | None) -> int:
    """Write members below `target.base`; the bytes that they have as an archive."""
    extraction = Extraction(root, target.base, owner)
    extraction.extract(found)
    return extraction.size + 1024


def _leaf(tree: Tree, name: str) -> Iterator[Pair]:
    status = os.lstat(tree.name, dir_fd=tree.parent)
    if stat.S_ISREG(status.st_mode):
        descriptor = os.open(tree.name, _FILE, dir_fd=tree.parent)
        held = [descriptor]
        try:
            xattrs = tuple(
                (key, os.getxattr(descriptor, key))
                for key in sorted(os.listxattr(descriptor))
                if not key.startswith(OVERLAY_XATTRS)
            )
            yield _entry(name, "file", os.fstat(descriptor))._replace(xattrs=xattrs), held.pop
        finally:
            for left in held:
                os.close(left)
        return
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        raise CannotCopy(f"{tree.name} is a socket, which cannot be copied")
    target = os.readlink(tree.name, dir_fd=tree.parent) if kind == "symlink" else ""
    yield _entry(name, kind, status, target), None


def _entry(name: str, kind: str, status: os.stat_result, target: str = "") -> LayerEntry:
    device = (os.major(status.st_rdev), os.minor(status.st_rdev)) if kind in ("char", "block") else (0, 0)
    size = status.st_size if kind == "file" else 0
    mode, seconds = stat.S_IMODE(status.st_mode), status.st_mtime_ns // 10**9
    return LayerEntry(name, kind, mode, status.st_uid, status.st_gid, seconds, size, target, *device)


def _resolved(spot: Spot, path: str) -> str:
    """`path` with the links that its last component leads through followed; it may end where nothing is."""
    for _ in range(_LINKS):
        folder, name = _split(path)
        if name == ".":
            return path
        parent = _open_folder(spot, folder)
        try:
            target = os.readlink(name, dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return path
            raise _missing(spot, error) from error
        finally:
            os.close(parent)
        path = posixpath.join(folder, target).rstrip("/") or "/"
    raise CannotCopy(f"{_shown(spot)}: too many levels of symbolic links")


def _split(path: str) -> tuple[str, str]:
    """Where to look and for what name; what ends with `..` is looked at as a directory, for the kernel to resolve."""
    folder, name = posixpath.split(path)
    return (path, ".") if name in ("", ".", "..") else (folder, name)


def _open_folder(spot: Spot, folder: str) -> int:
    try:
        return open_in_root(spot.root, folder, _PATH | os.O_DIRECTORY)
    except OSError as error:
        raise _missing(spot, error) from error


def _missing(spot: Spot, error: OSError) -> NotFound | HostTrouble:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NoSuchFile(spot.clean if spot.place else spot.path, spot.place)
    return HostTrouble(f"cannot look at {_shown(spot)}: {error.strerror}")


def _shown(spot: Spot) -> str:
    return f"{spot.place}:{spot.clean}" if spot.place else spot.path
