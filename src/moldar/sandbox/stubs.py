"""Mount targets that a step's root lacks: the runtime makes them, and they must not stay in the layer.

As BuildKit does: what was made for mounts, parents included, is removed afterwards if it is still empty, except
/dev, /proc and /sys, which stay. Times of the directories touched are put back.
"""

import os
import stat
from collections.abc import Iterable
from typing import NamedTuple

from moldar.sandbox.mounts import open_in_root

_KEPT = frozenset({"/dev", "/proc", "/sys"})


class _Stub(NamedTuple):
    path: str
    parent: str
    parent_times: tuple[int, int] | None


class MountStubs:
    """The mount targets that are missing in `root` now. `clean` after the step removes them."""

    def __init__(self, root: str, targets: Iterable[str]) -> None:
        self._root = root
        self._stubs: dict[str, _Stub] = {}
        for target in targets:
            self._note(os.path.normpath("/" + target.lstrip("/")))

    @property
    def paths(self) -> tuple[str, ...]:
        """The missing paths, parents first."""
        return tuple(self._stubs)

    def clean(self) -> None:
        """Remove what is still empty, deepest first. Call it when nothing is mounted on the targets any more."""
        for stub in reversed(self._stubs.values()):
            try:
                parent = open_in_root(self._root, stub.parent, os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                continue  # the step removed the parent
            try:
                if _remove_empty(parent, os.path.basename(stub.path)) and stub.parent_times:
                    os.utime(parent, ns=stub.parent_times)
            finally:
                os.close(parent)

    def _note(self, path: str) -> None:
        """Records `path` and its parents up to the first that exists."""
        missing: list[str] = []
        while path != "/" and path not in self._stubs and not _exists(self._root, path):
            missing.append(path)
            path = os.path.dirname(path)
        for name in reversed(missing):
            if name not in _KEPT:
                parent = os.path.dirname(name)
                self._stubs[name] = _Stub(name, parent, _times(self._root, parent))


def _exists(root: str, path: str) -> bool:
    try:
        os.close(open_in_root(root, path, os.O_PATH))
    except OSError:
        return False
    return True


def _times(root: str, path: str) -> tuple[int, int] | None:
    try:
        descriptor = open_in_root(root, path, os.O_PATH)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        return status.st_atime_ns, status.st_mtime_ns
    finally:
        os.close(descriptor)


def _remove_empty(parent: int, name: str) -> bool:
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            os.rmdir(name, dir_fd=parent)
        elif stat.S_ISREG(status.st_mode) and not status.st_size:
            os.unlink(name, dir_fd=parent)
        else:
            return False
    except OSError:
        return False
    return True
