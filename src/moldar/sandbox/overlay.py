"""Snapshots on overlayfs: each layer unpacked once, by itself, under its diff ID.

Layers are named to the kernel as /proc/self/fd/N: that is short, so that about 200 of them fit into the single page
that mount(2) takes, needs no escaping and works on every kernel with overlayfs. Deeper stacks use fsconfig(2)'s
`lowerdir+` (Linux 6.8). `index`, `metacopy` and `redirect_dir` are off so that an upper directory means the same
wherever it is mounted, and becomes a layer by a rename. Without root the marks of overlayfs are `user.` attributes
(Linux 5.11), which its option `userxattr` asks for; a store keeps the style in which it was begun.
"""

import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Self

from moldar.errors import MoldarError
from moldar.image.layer_diff import diff_entries
from moldar.image.layer_entry import OPAQUE_MARKS, OVERLAY_XATTRS, Whiteouts
from moldar.sandbox import mounts
from moldar.sandbox.readset.observations import ATTRIBUTE, ATTRIBUTES, ENTRY, Question
from moldar.sandbox.readset.view import VIEWED_TIME, Views, open_views
from moldar.sandbox.snapshots import Change, Fill, MountFailed, SnapshotTable
from moldar.sandbox.unchanged import without_unchanged
from moldar.sandbox.unpacked import Stack, UnpackedLayers, merged_key
from moldar.sandbox.workdirs import (
    WorkDirectory,
    adopt,
    clear,
    copy_attributes,
    directory_size,
    make_folders,
    present,
    publish,
    release,
    sweep_work,
)

OPTIONS = ("index=off", "metacopy=off", "redirect_dir=nofollow")
_WITH_VIEWS = ("nfs_export=off", "xino=off")
_PAGE = 4095
_MOST_BY_DESCRIPTOR = 190
_READ_PATH = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class OverlaySnapshots(UnpackedLayers):
    """Snapshots below `base` (the store's `snapshots` folder), recorded in `table`. `style` is that of the marks."""

    name = "overlay"

    def __init__(self, base: str, table: SnapshotTable, style: Whiteouts = "overlay") -> None:
        super().__init__(base, style)
        self._table = table
        self._options = (*OPTIONS, *(("userxattr",) if style == "userxattr" else ()))
        make_folders(base)
        os.makedirs(f"{base}/empty", exist_ok=True)

    def unpack(self, stack: Stack, fill: Fill) -> None:
        if self.has(stack):
            return
        parents = self.directories(stack[:-1])
        work = WorkDirectory(f"{self.base}/work")
        try:
            staged = f"{work.path}/layer"
            os.mkdir(staged, 0o755)
            if parents:
                copy_attributes(parents[-1], staged)
            size = fill(staged)
            self._publish(staged, stack[-1], size)
        finally:
            work.close()

    def unpack_over(self, stack: Stack, fill: Fill) -> None:
        if self.has(stack):
            return
        with self.prepare(stack[:-1]) as workspace:
            size = fill(workspace.path)
            release(workspace.path)
            self._publish(workspace.upper, merged_key(stack), size)

    @contextmanager
    def mount(self, stack: Stack) -> Iterator[str]:
        lowers = self.directories(stack)
        work = WorkDirectory(f"{self.base}/work")
        try:
            # Overlayfs wants two lower directories, different ones, where there is no upper one.
            if not lowers:
                lowers = (f"{work.path}/nothing",)
                os.mkdir(lowers[0], 0o755)
            self.mount_layers((f"{self.base}/empty", *lowers), work.mount_point())
            yield work.root
        finally:
            work.close()

    def prepare(self, stack: Stack, viewed: Collection[int] = ()) -> "OverlayWorkspace":
        lowers = self.directories(stack) or (f"{self.base}/empty",)
        return OverlayWorkspace(self, lowers, WorkDirectory(f"{self.base}/work"), viewed)

    def create_rootfs(self, name: str, stack: Stack) -> None:
        lowers = self.directories(stack) or (f"{self.base}/empty",)
        directory = f"{self.base}/roots/{name}"
        os.mkdir(directory, 0o700)
        _make_upper(directory, lowers)
        os.mkdir(f"{directory}/root")
        with open(f"{directory}/lowers", "w") as file:
            file.write("\n".join(os.path.basename(lower) for lower in lowers))

    def mount_rootfs(self, name: str) -> str:
        directory = f"{self.base}/roots/{name}"
        root = f"{directory}/root"
        if not os.path.ismount(root):
            self.mount_layers(self._rootfs_lowers(name), root, directory)
        return root

    def rootfs_mounted(self, name: str) -> bool:
        return os.path.ismount(f"{self.base}/roots/{name}/root")

    def unmount_rootfs(self, name: str) -> None:
        release(f"{self.base}/roots/{name}/root")

    def rootfs_upper(self, name: str) -> str:
        return f"{self.base}/roots/{name}/upper"

    def rootfs_changes(self, name: str, stack: Stack) -> Iterator[Change]:
        upper = self.rootfs_upper(name)
        return without_unchanged(diff_entries(upper), upper, self._rootfs_lowers(name))

    def _rootfs_lowers(self, name: str) -> tuple[str, ...]:
        with open(f"{self.base}/roots/{name}/lowers") as file:
            names = file.read().splitlines()
        return tuple(f"{self.base}/{'' if name == 'empty' else 'layers/'}{name}" for name in names)

    def remove_rootfs(self, name: str) -> None:
        clear(f"{self.base}/roots/{name}")

    def remove(self, key: str) -> None:
        work = WorkDirectory(f"{self.base}/work")
        try:
            # The rename makes it vanish at once; deleting takes its time.
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

    def publish_upper(self, upper: str, stack: Stack, size: int) -> None:
        """Make the upper directory of a workspace the snapshot of `stack`'s top layer."""
        self._publish(upper, stack[-1], size or directory_size(upper))

    def mount_layers(
        self, lowers: tuple[str, ...], target: str, writable: str = "", more: Sequence[str] = ()
    ) -> None:
        """Mount `lowers` (lowest first) on `target`; `writable` holds the upper and work directories. MountFailed."""
        _mount_overlay(lowers, target, writable, (*self._options, *more))

    def works(self) -> bool:
        """Whether the host lets us: mounts a workspace over nothing, makes a file and an opaque directory in it."""
        try:
            with self.prepare(()) as workspace:
                os.mkdir(f"{workspace.path}/probe")
                os.rmdir(f"{workspace.path}/probe")
                os.mkdir(f"{workspace.upper}/opaque")
                os.setxattr(f"{workspace.upper}/opaque", OPAQUE_MARKS[self.whiteouts], b"y")
                os.mknod(f"{workspace.upper}/whiteout", stat.S_IFCHR, 0)
        except (OSError, MoldarError):
            return False
        return True

    def _publish(self, staged: str, key: str, size: int) -> None:
        publish(staged, self.directory(key))
        self._table.add_snapshot(key, size)  # also when it was there: a collection may just have forgotten it


class OverlayWorkspace:
    """A mounted overlay with an upper directory of its own.

    A layer that is in the stack twice has one view, in its upper place, and what is asked there counts for both.
    """

    def __init__(
        self,
        snapshots: OverlaySnapshots,
        lowers: tuple[str, ...],
        work: WorkDirectory,
        viewed: Collection[int] = (),
    ) -> None:
        self._snapshots = snapshots
        self._lowers = lowers
        self._work = work
        self._viewed = sorted(viewed)
        self._unchanged: list[str] = []
        self._views: Views | None = None
        self._questions: Mapping[int, frozenset[Question]] | None = None if self._viewed else {}
        try:
            _make_upper(work.path, lowers)
            self.upper = f"{work.path}/upper"
            self.path = work.mount_point()
            if not self._mount_with_views():
                snapshots.mount_layers(lowers, self.path, work.path)
        except BaseException:
            self.discard()
            raise
        self.has_views = self._views is not None

    def _mount_with_views(self) -> bool:
        if not self._viewed:
            return False
        directories = list(dict.fromkeys(self._lowers[place] for place in self._viewed))
        self._views = open_views(directories, f"{self._work.path}/views")
        if self._views is None:
            return False
        shown = dict(zip(directories, self._views.paths, strict=True))
        try:
            lowers = tuple(shown.get(lower, lower) for lower in self._lowers)
            self._snapshots.mount_layers(lowers, self.path, self._work.path, _WITH_VIEWS)
        except MountFailed:
            self._views.close()
            self._views = None
            return False
        return True

    def changes(self) -> Iterator[Change]:
        self._end_views()
        self._unchanged.clear()
        return without_unchanged(diff_entries(self.upper), self.upper, self._lowers, self._unchanged)

    def questions(self) -> Mapping[int, frozenset[Question]] | None:
        self._end_views()
        return self._questions

    def _end_views(self) -> None:
        views, self._views = self._views, None
        if views is None:
            return
        try:
            release(self.path)
            asked = views.finish()
        finally:
            views.close()
        if asked is None:
            return
        directories = dict.fromkeys(self._lowers[place] for place in self._viewed)
        by_directory = dict(zip(directories, asked, strict=True))
        self._questions = {
            place: by_directory[self._lowers[place]] | _root_questions(self._lowers[place]) for place in self._viewed
        }
        self._restore_times(frozenset().union(*asked))

    def _restore_times(self, asked: Iterable[Question]) -> None:
        """Give directories that were copied up from a view the time that the view did not show."""
        for path in {question.path for question in asked if question.kind == ENTRY}:
            upper = f"{self.upper}/{path}"
            status = _status(upper)
            if status is None or not stat.S_ISDIR(status.st_mode) or status.st_mtime_ns != VIEWED_TIME:
                continue
            found = (_status(f"{lower}/{path}") for lower in reversed(self._lowers))
            native = next((status for status in found if status is not None), None)
            if native is not None and stat.S_ISDIR(native.st_mode):
                os.utime(upper, ns=(status.st_atime_ns, native.st_mtime_ns))

    def commit(self, stack: Stack, size: int = 0) -> None:
        self._end_views()
        release(self.path)
        for path in self._unchanged:  # they are no part of the layer, which other images may have too
            with suppress(OSError):
                os.rmdir(f"{self.upper}/{path}")
        self._snapshots.publish_upper(self.upper, stack, size)
        self._work.close()

    def discard(self) -> None:
        views, self._views = self._views, None
        if views is not None:
            release(self.path)
            views.close()
        self._work.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


def _root_questions(layer: str) -> frozenset[Question]:
    """What anybody sees of a layer's root directory: the upper directory has its attributes, and no view is asked."""
    names = [name for name in os.listxattr(layer) if not name.startswith(OVERLAY_XATTRS)]
    return frozenset(Question(kind, "") for kind in (ENTRY, ATTRIBUTES, *(ATTRIBUTE + name for name in names)))


def _status(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _make_upper(directory: str, lowers: tuple[str, ...]) -> None:
    """The upper directory shows as the root, so it takes the attributes of the topmost layer's."""
    os.mkdir(f"{directory}/upper", 0o755)
    copy_attributes(lowers[-1], f"{directory}/upper")
    os.mkdir(f"{directory}/work", 0o700)


def _mount_overlay(lowers: tuple[str, ...], target: str, writable: str, chosen: Sequence[str]) -> None:
    try:
        with ExitStack() as stack:
            # The kernel takes no directory twice, and a layer's upper occurrence says all that its lower one does.
            names = [_short(stack, lower) for lower in dict.fromkeys(reversed(lowers))]
            above = []
            if writable:
                above = [
                    ("upperdir", _short(stack, f"{writable}/upper")),
                    ("workdir", _short(stack, f"{writable}/work")),
                ]
            settings = [*above, *((name, value) for name, _, value in (option.partition("=") for option in chosen))]
            texts = [f"{name}={value}" if value else name for name, value in settings]
            data = ",".join([f"lowerdir={':'.join(names)}", *texts])
            if len(data) <= _PAGE:
                mounts.mount("overlay", target, "overlay", 0 if writable else mounts.MS_RDONLY, data)
            else:
                options = [*(("lowerdir+", name) for name in names), *settings]
                mounts.mount_with_options("overlay", target, options, readonly=not writable)
    except OSError as error:
        raise MountFailed(f"{len(lowers)} layers", error) from error


def _short(stack: ExitStack, path: str) -> str:
    descriptor = os.open(path, _READ_PATH)
    stack.callback(os.close, descriptor)
    return f"/proc/self/fd/{descriptor}"
