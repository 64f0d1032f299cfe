"""One entry of a tree that is copied from, and where its content is."""

from typing import NamedTuple

from moldar.store.stat_index import FileStat


class Entry(NamedTuple):
    """One entry of a tree. `mode` holds the permission, set-id and sticky bits; times in nanoseconds."""

    path: str
    kind: str
    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    ctime: int = 0
    device: int = 0
    inode: int = 0
    links: int = 1
    special: int = 0

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def key(self) -> FileStat:
        return FileStat(self.device, self.inode, self.size, self.mtime, self.ctime)


class Place(NamedTuple):
    """Where on the host a file's content is, and the stat that it must still have when it is read."""

    path: str
    key: FileStat
