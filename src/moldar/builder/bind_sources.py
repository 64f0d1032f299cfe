"""What a bind mount shows: a path of a build context or of another stage, as a path on this host.

A context is shown where it lies. Ignore rules hide files by an overlay whose top layer says that they are deleted;
a writable mount gets an overlay too, whose changes are thrown away.
"""

import os
import stat
from contextlib import ExitStack

from moldar.builder.selection import MissingSource
from moldar.builder.tree import InlineTree, LocalTree, Tree, resolve
from moldar.errors import Unsupported
from moldar.sandbox.mounts import MS_RDONLY, mount
from moldar.sandbox.snapshots import MountFailed, Snapshots
from moldar.sandbox.unpacked import Stack
from moldar.sandbox.workdirs import WorkDirectory, copy_attributes

_PATH = os.O_PATH | os.O_CLOEXEC
_WHITEOUT = stat.S_IFCHR | 0o600


class BindSources:
    """Shows sources for one step; everything is taken down when `stack` is closed. `work` is for our directories."""

    def __init__(self, snapshots: Snapshots, work: str, stack: ExitStack) -> None:
        self._snapshots = snapshots
        self._work = work
        self._stack = stack

    def of_stage(self, stage: Stack, path: str, *, writable: bool) -> str:
        """A path of a stage's root file system. Raises MissingSource."""
        if writable:
            root = self._stack.enter_context(self._snapshots.prepare(stage)).path
        else:
            root = self._stack.enter_context(self._snapshots.mount(stage))
        return _find(LocalTree(root), path)

    def of_tree(self, tree: Tree, path: str, *, writable: bool) -> str:
        """A path of a context. Raises MissingSource."""
        if isinstance(tree, InlineTree) or not isinstance(tree, LocalTree):
            raise Unsupported("only contexts and stages can be mounted")
        found = _find(tree, path)
        if not os.path.isdir(found):
            return self._copy_of(found) if writable else found
        if not writable and not tree.filtered:
            return found
        return self._overlay(tree, found, writable=writable)

    def directory(self) -> WorkDirectory:
        """A directory of our own, swept even when we are killed; its `mount_point` may be mounted on."""
        work = WorkDirectory(self._work)
        self._stack.callback(work.close)
        return work

    def _overlay(self, tree: LocalTree, directory: str, *, writable: bool) -> str:
        work = self.directory()
        mask = f"{work.path}/mask"
        os.mkdir(mask)
        copy_attributes(directory, mask)
        _hide(tree, directory[len(tree.root) :].strip("/"), mask)
        options = ["index=off", "metacopy=off", "redirect_dir=nofollow"]
        descriptors = [os.open(path, _PATH) for path in (mask, directory)]
        try:
            lowers = ":".join(f"/proc/self/fd/{descriptor}" for descriptor in descriptors)
            if writable:
                for name in ("upper", "work"):
                    os.mkdir(f"{work.path}/{name}")
                copy_attributes(directory, f"{work.path}/upper")
                options += [f"upperdir={work.path}/upper", f"workdir={work.path}/work"]
            data = ",".join([f"lowerdir={lowers}", *options])
            try:
                mount("overlay", work.mount_point(), "overlay", 0 if writable else MS_RDONLY, data)
            except OSError as error:
                raise MountFailed(directory, error) from error
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return work.root

    def _copy_of(self, path: str) -> str:
        copy = f"{self.directory().path}/{os.path.basename(path)}"
        with open(path, "rb") as source, open(copy, "wb") as target:
            while data := source.read(1 << 20):
                target.write(data)
        os.chmod(copy, stat.S_IMODE(os.stat(path).st_mode))
        return copy


def _find(tree: LocalTree, path: str) -> str:
    resolved = resolve(tree, path.strip("/"))
    if tree.lookup(resolved) is None:
        raise MissingSource("/" + path.strip("/"), tree.is_ignored(resolved))
    return f"{tree.root}/{resolved}" if resolved else tree.root


def _hide(tree: LocalTree, top: str, mask: str) -> None:
    """Mark in the layer `mask` as deleted what the ignore rules hide below `top`."""
    shown = {entry.path for entry in tree.walk(top)}
    every = LocalTree(tree.root).walk(top, lambda directory: directory not in shown)
    start = len(top) + 1 if top else 0
    for entry in every:
        if entry.path not in shown:
            _make_parents(f"{tree.root}/{top}" if top else tree.root, mask, entry.path[start:])
            os.mknod(f"{mask}/{entry.path[start:]}", _WHITEOUT, 0)


def _make_parents(source: str, mask: str, path: str) -> None:
    done = ""
    for part in path.split("/")[:-1]:
        done += f"/{part}"
        if not os.path.isdir(mask + done):
            os.mkdir(mask + done)
            copy_attributes(source + done, mask + done)
