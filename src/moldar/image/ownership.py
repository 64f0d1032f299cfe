"""Which owners this process can give to files: all, those of its user namespace, or none but its own.

The ids that a user namespace has are in /proc/self/uid_map and gid_map (user_namespaces(7)). One that was made
without subordinate ids has one of each, and its files cannot have other owners: they then all belong to it, as they
do for a user without a namespace.
"""

import os
from typing import NamedTuple

from moldar.errors import HostTrouble

_ALL = 2**32 - 1


class UnmappedOwner(HostTrouble):
    """A layer has a file of somebody for whom this user has no id."""

    def __init__(self, path: str, uid: int, gid: int) -> None:
        super().__init__(
            f"cannot unpack {path!r}: its owner {uid}:{gid} is not among the ids that this user may use",
            hint="give the user more subordinate ids in /etc/subuid and /etc/subgid, or work as root",
        )
        self.uid = uid
        self.gid = gid


class IdRange(NamedTuple):
    """Ids that exist in this user namespace."""

    first: int
    length: int


class Ownership(NamedTuple):
    """What ids there are. `squashed`: files can have no owner but ourselves, who are `uid` and `gid`."""

    uid: int
    gid: int
    squashed: bool
    uids: tuple[IdRange, ...] = (IdRange(0, _ALL),)
    gids: tuple[IdRange, ...] = (IdRange(0, _ALL),)

    @property
    def in_namespace(self) -> bool:
        """Whether some ids of the host do not exist here."""
        return self.uids[:1] != (IdRange(0, _ALL),)

    def shown(self, uid: int, gid: int) -> tuple[int, int]:
        """The owner that a file of `uid` and `gid` gets here."""
        return (self.uid, self.gid) if self.squashed else (uid, gid)

    def to_set(self, path: str, uid: int, gid: int) -> tuple[int, int]:
        """What chown(2) is to be given for the member `path` of a layer; -1 keeps. Raises UnmappedOwner."""
        if self.squashed:
            return -1, -1
        if not (self.has_user(uid) and self.has_group(gid)):
            raise UnmappedOwner(path, uid, gid)
        return uid, gid

    def has_user(self, uid: int) -> bool:
        return any(first <= uid < first + length for first, length in self.uids)

    def has_group(self, gid: int) -> bool:
        return any(first <= gid < first + length for first, length in self.gids)


def ownership() -> Ownership:
    """That of this process, as it is now."""
    uids, gids = _ranges("/proc/self/uid_map"), _ranges("/proc/self/gid_map")
    squashed = os.geteuid() != 0 or sum(part.length for part in uids) < 2
    return Ownership(os.geteuid(), os.getegid(), squashed, uids, gids)


def _ranges(path: str) -> tuple[IdRange, ...]:
    try:
        with open(path) as file:
            lines = [line.split() for line in file]
    except OSError:  # a kernel without user namespaces
        return (IdRange(0, _ALL),)
    return tuple(IdRange(int(first), int(count)) for first, _, count in lines)
