"""Where mounts go: paths inside a root that may be hostile, opened and made without ever leaving it.

A symbolic link of the image leads to where it leads inside the image, also when what it points at is yet to be made.
What is opened stays what it is while it is mounted on, however the image's files change.
"""

import errno
import os
import stat

from moldar.sandbox.isolation.failures import Doing, Failure
from moldar.sandbox.mounts import open_in_root

_MOST_LINKS = 40
_DIRECTORY_MODE, _FILE_MODE = 0o755, 0o644


def open_target(root: int, path: str, *, directory: bool) -> int:
    """A descriptor (O_PATH) of `path` in `root`, made with its parents if it is not there. Failure."""
    with Doing(f"make {path} in the container"):
        return _open(root, path, directory, _MOST_LINKS)


def open_existing(root: int, path: str, flags: int = os.O_PATH) -> int:
    """A descriptor of `path` in `root`; -1 when it is not there. Failure."""
    with Doing(f"open {path} in the container"):
        try:
            return open_in_root(root, path, flags)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return -1
            raise


def by_descriptor(descriptor: int) -> str:
    """A path for what a descriptor stands for, for calls that take paths only."""
    return f"/proc/self/fd/{descriptor}"


def refuse_link(root: int, path: str) -> None:
    """Failure when `path` is there and not a directory itself: the kernel's own file systems go where they are asked.

    What is later hidden in them is looked for at their usual place.
    """
    try:
        mode = os.stat(path.lstrip("/"), dir_fd=root, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        raise Failure(f"{path} of the image is not a directory")


def _open(root: int, path: str, directory: bool, links: int) -> int:
    try:
        return open_in_root(root, path, os.O_PATH)
    except FileNotFoundError:
        pass
    if not links:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    above, name = os.path.split(path.rstrip("/"))
    parent = _open(root, above or "/", True, links - 1)
    try:
        if name in ("", ".", ".."):  # its parent was missing, and is there now
            return open_in_root(root, path, os.O_PATH)
        try:
            _make(parent, name, directory)
        except FileExistsError:  # a link to what is not there, or somebody else was quicker
            if leads := _link(parent, name):
                return _open(root, os.path.join(above, leads), directory, links - 1)
        return open_in_root(root, path, os.O_PATH)
    finally:
        os.close(parent)


def _make(parent: int, name: str, directory: bool) -> None:
    if directory:
        os.mkdir(name, _DIRECTORY_MODE, dir_fd=parent)
    else:
        flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
        os.close(os.open(name, flags, _FILE_MODE, dir_fd=parent))


def _link(parent: int, name: str) -> str:
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError:
        return ""
