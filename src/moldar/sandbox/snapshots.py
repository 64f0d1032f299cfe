"""Snapshots: layers as directories, put together as the root file systems of steps and containers.

A stack names a root file system by its layers' diff IDs, lowest first. On disk, below the store's `snapshots/`:

- `layers/NAME`: a finished snapshot, never changed. NAME is its key with `-` for `:`. What a key names is the
  driver's business (`Snapshots.keys`).
- `work/ID`, `work/ID.lock`: a mount or an unfinished snapshot of a running process, which holds the lock; the
  kernel frees it when the process ends in whatever way, and `sweep` cleans up.
- `roots/ID`: the root file system of a container, until the container is removed.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self

from moldar.errors import HostTrouble
from moldar.image.layer_entry import LayerEntry
from moldar.sandbox.readset.observations import Question
from moldar.sandbox.unpacked import Stack, Unpacked

Fill = Callable[[str], int]
"""Unpacks a layer into the directory given, in the driver's style of whiteouts; gives the bytes written."""
Change = tuple[LayerEntry, Callable[[], int] | None]


class SnapshotTable(Protocol):
    """Where the store records finished snapshots."""

    def add_snapshot(self, key: str, size: int) -> None: ...
    def has_snapshot(self, key: str) -> bool: ...
    def adopt_snapshot(self, key: str, size: int, exists: Callable[[], bool]) -> None: ...
    def remove_snapshot(self, key: str) -> None: ...


class MountFailed(HostTrouble):
    """The kernel refused to mount a root file system."""

    def __init__(self, what: str, error: OSError) -> None:
        super().__init__(f"cannot mount {what}: {error.strerror}")
        self.errno = error.errno


class Workspace(Protocol):
    """A writable root file system for one step; a context manager that discards what was not committed.

    `path` is the mounted root, `upper` where its changes are kept, `has_views` whether it was made with views.
    """

    path: str
    upper: str
    has_views: bool

    def changes(self) -> Iterator[Change]:
        """What the step changed, as a layer's entries in order. A file's opener is good until the next entry.

        Unmounts a root that has views.
        """
        ...

    def questions(self) -> Mapping[int, frozenset[Question]] | None:
        """What was looked at in each layer that `prepare` was to view; None when that is not known in full.

        To be asked when the step's process has ended: unmounts the root. After None the step may have seen errors of
        a broken view when it was viewed (`has_views`), and what it made is not to be used.
        """
        ...

    def commit(self, stack: Stack, size: int = 0) -> None:
        """Make the changes the snapshot of `stack`'s top layer and unmount. `size`: about how many bytes they are."""
        ...

    def discard(self) -> None:
        """Unmount and delete the changes. Harmless when repeated or after commit."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Snapshots(Unpacked, Protocol):
    """Makes, mounts and removes snapshots. All methods may be called from any thread and from many processes."""

    name: str

    def unpack(self, stack: Stack, fill: Fill) -> None:
        """Make the snapshot of `stack`'s top layer by `fill`. Nothing is left behind when `fill` raises.

        The layers beneath must be unpacked already (`has(stack[:-1])`).
        """
        ...

    def unpack_over(self, stack: Stack, fill: Fill) -> None:
        """The same for a layer that relies on its parents: `fill` gets the merged root and applies whiteouts."""
        ...

    def mount(self, stack: Stack) -> AbstractContextManager[str]:
        """The root file system of `stack`, to read only."""
        ...

    def prepare(self, stack: Stack, viewed: Collection[int] = ()) -> Workspace:
        """A writable root file system over `stack`.

        The layers at the positions `viewed` are shown so that the workspace knows what was looked at in them, where
        the driver and the host can do that.
        """
        ...

    def create_rootfs(self, name: str, stack: Stack) -> None:
        """Make a container's root file system, which keeps its changes from one mount to the next."""
        ...

    def mount_rootfs(self, name: str) -> str:
        """Mount a container's root file system if it is not mounted, and give its path."""
        ...

    def rootfs_mounted(self, name: str) -> bool:
        """Whether the files of a container's root file system can be seen in this mount name space."""
        ...

    def unmount_rootfs(self, name: str) -> None:
        """Unmount it; what is not mounted or not there is fine."""
        ...

    def rootfs_upper(self, name: str) -> str:
        """Where the container's changes are kept."""
        ...

    def rootfs_changes(self, name: str, stack: Stack) -> Iterator[Change]:
        """What a container changed in its root file system over `stack`, as `Workspace.changes` gives it.

        The container may run. Anything that it does meanwhile may be there or not.
        """
        ...

    def remove_rootfs(self, name: str) -> None:
        """Delete a container's root file system with its changes."""
        ...

    def present(self) -> set[str]:
        """The keys of all finished snapshots on disk."""
        ...

    def remove(self, key: str) -> None:
        """Delete the snapshot of that key and its record; one that is not there is fine."""
        ...

    def sweep(self) -> list[str]:
        """Clean up after processes that were killed; gives what was removed."""
        ...
