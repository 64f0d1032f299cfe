"""Directories beneath a root, reached without ever leaving it.

Each component is opened by its parent's descriptor without following links; a symbolic link on the way is resolved
by hand as a process that is chrooted to the root would. Nobody else may write beneath the root meanwhile.
"""

import errno
import os
import stat
from collections.abc import Callable

from moldar.image.layer_entry import BadLayer

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS = 40
_KEPT = 256


class NotThere(Exception):
    """A directory on the way is missing, or is no directory; `path` is where, as the root sees it."""

    def __init__(self, path: str, *, exists: bool) -> None:
        super().__init__(path)
        self.path = path
        self.exists = exists


class RootedDirectory:
    """Descriptors of directories beneath a root, the latest ones kept open. Paths are as in LayerEntry.

    A canonical path has no symbolic links in it. Descriptors given out are borrowed: good until the next call.
    """

    def __init__(self, root: str | int) -> None:
        self._root = os.dup(root) if isinstance(root, int) else os.open(root, _OPEN & ~os.O_NOFOLLOW)
        self._open: dict[str, int] = {}

    @property
    def root(self) -> int:
        return self._root

    def close(self) -> None:
        self.forget("")
        os.close(self._root)

    def directory(self, path: str, create: Callable[[int, str, str], None] | None = None) -> tuple[int, str]:
        """The descriptor and canonical path of the directory at `path`.

        `create(parent descriptor, name, canonical path)` is called for a missing component. Raises NotThere, and
        BadLayer for a loop of symbolic links.
        """
        if path in self._open:
            return self._open[path], path
        if not path:
            return self._root, ""
        return self._walk(path.split("/"), create)

    def forget(self, path: str) -> None:
        """Close what is open at the canonical `path` and below, because it is being replaced."""
        inside = path + "/" if path else ""
        for known in [known for known in self._open if known == path or known.startswith(inside)]:
            os.close(self._open.pop(known))

    def _walk(self, names: list[str], create: Callable[[int, str, str], None] | None) -> tuple[int, str]:
        names.reverse()  # the next component is the last
        path, descriptor, links = "", self._root, 0
        while names:
            name = names.pop()
            if name in ("", "."):
                continue
            if name == "..":  # comes from links only
                path = path.rpartition("/")[0]
                descriptor = self._reopen(path)
                continue
            here = f"{path}/{name}" if path else name
            target = self._step(descriptor, name, here, create)
            if target is None:
                path, descriptor = here, self._open[here]
                continue
            links += 1
            if links > _LINKS:
                raise BadLayer("too many levels of symbolic links", here)
            names += reversed(target.split("/"))
            if target.startswith("/"):
                path, descriptor = "", self._root
        return descriptor, path

    def _reopen(self, path: str) -> int:
        return self.directory(path)[0]

    def _step(self, parent: int, name: str, here: str, create: Callable[[int, str, str], None] | None) -> str | None:
        """Opens one component into the cache, or gives the target of the symbolic link that it is."""
        if here in self._open:
            return None
        try:
            self._keep(here, os.open(name, _OPEN, dir_fd=parent))
            return None
        except FileNotFoundError:
            if not create:
                raise NotThere(here, exists=False) from None
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            if stat.S_ISLNK(os.lstat(name, dir_fd=parent).st_mode):
                return os.readlink(name, dir_fd=parent)
            raise NotThere(here, exists=True) from None
        create(parent, name, here)
        self._keep(here, os.open(name, _OPEN, dir_fd=parent))
        return None

    def _keep(self, path: str, descriptor: int) -> None:
        if len(self._open) >= _KEPT:
            for known in [known for known in self._open if not path.startswith(known + "/")][: _KEPT // 2]:
                os.close(self._open.pop(known))
        self._open[path] = descriptor


def remove(parent: int, name: str) -> None:
    """Remove the file or whole directory `name` of `parent`, without following links; what is missing is fine."""
    try:
        os.unlink(name, dir_fd=parent)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        pass  # Linux says EISDIR; what is no directory fails again below
    descriptor = os.open(name, _OPEN, dir_fd=parent)
    try:
        with os.scandir(descriptor) as children:
            names = [child.name for child in children]
        for child in names:
            remove(descriptor, child)
    finally:
        os.close(descriptor)
    os.rmdir(name, dir_fd=parent)
