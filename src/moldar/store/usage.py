"""What the store holds and how much of it could go: the figures of `system df`."""

import json
import os
import stat
from collections.abc import Callable
from typing import NamedTuple

from moldar.errors import CorruptData, NotFound
from moldar.store.blobs import BlobStore
from moldar.store.containers import ContainerRow, ContainerTable
from moldar.store.database import Database
from moldar.store.gc import Collector, Policy
from moldar.store.home import Home
from moldar.store.images import ImageTable
from moldar.store.layers import LayerTable


class UsageLine(NamedTuple):
    """One kind of thing: how many there are, how many are in use; sizes in bytes."""

    kind: str
    total: int
    active: int
    size: int
    reclaimable: int


def usage(
    home: Home, database: Database, running: Callable[[str], bool] = lambda container: False
) -> list[UsageLine]:
    """Images, containers, volumes and the build cache, as Docker lists them.

    `running` tells whether a container runs, by its ID. An image's size is that of its unpacked layers, each counted
    once; the build cache's is what would be freed without it. Raises HostTrouble.
    """
    containers = ContainerTable(database).all()
    return [
        _images(home, database, {container.image for container in containers}),
        _containers(home, containers, running),
        _volumes(home, containers),
        _cache(home, database),
    ]


def _images(home: Home, database: Database, used: set[str]) -> UsageLine:
    images, layers = ImageTable(database, BlobStore(home)), LayerTable(database)
    sizes: dict[str, int] = {}
    active: set[str] = set()
    stored = images.all()
    for image in stored:
        try:
            diff_ids = images.layers(image.id)
        except (NotFound, CorruptData):
            continue  # `system check` tells of it
        sizes |= {diff_id: layers.size(diff_id) or 0 for diff_id in diff_ids}
        if image.id in used:
            active.update(diff_ids)
    idle = sum(size for diff_id, size in sizes.items() if diff_id not in active)
    count = sum(1 for image in stored if image.id in used)
    return UsageLine("Images", len(stored), count, sum(sizes.values()), idle)


def _containers(home: Home, containers: list[ContainerRow], running: Callable[[str], bool]) -> UsageLine:
    """What containers changed in their root file systems, and their logs."""
    sizes = {
        row.id: tree_size(f"{home.snapshots}/roots/{row.id}/upper") + tree_size(f"{home.containers}/{row.id}")
        for row in containers
    }
    active = {row.id for row in containers if running(row.id)}
    idle = sum(size for container, size in sizes.items() if container not in active)
    return UsageLine("Containers", len(containers), len(active), sum(sizes.values()), idle)


def _volumes(home: Home, containers: list[ContainerRow]) -> UsageLine:
    sizes = {name: tree_size(f"{home.volumes}/{name}") for name in os.listdir(home.volumes)}
    used = set().union(*(_volumes_of(row) for row in containers)) & sizes.keys()
    idle = sum(size for name, size in sizes.items() if name not in used)
    return UsageLine("Local Volumes", len(sizes), len(used), sum(sizes.values()), idle)


def _volumes_of(row: ContainerRow) -> set[str]:
    """The volumes that a container's definition names."""
    try:
        mounts = json.loads(row.state).get("mounts") or ()
        return {str(mount["name"]) for mount in mounts if mount.get("name")}
    except (ValueError, AttributeError, LookupError, TypeError):
        return set()


class _Untouched:
    """The snapshots of a collection that only counts."""

    def present(self) -> set[str]:
        return set()

    def remove(self, key: str) -> None:
        raise AssertionError(f"counting removes nothing: {key}")


def _cache(home: Home, database: Database) -> UsageLine:
    without = Collector(home, database, _Untouched()).collect(Policy(cache_age=0.0), dry_run=True)
    (count,) = database.row("SELECT count(*) FROM cache") or (0,)
    mounts = [name for name in os.listdir(home.cachemounts) if os.path.isdir(f"{home.cachemounts}/{name}")]
    size = without.freed + tree_size(home.cachemounts)
    return UsageLine("Build Cache", count + len(mounts), 0, size, size)


def tree_size(root: str) -> int:
    """The bytes on disk below `root`, hard links counted once; 0 when it is not there."""
    total = 0
    seen: set[int] = set()
    pending = [root]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        pending.append(entry.path)
                    elif status.st_nlink == 1 or status.st_ino not in seen:
                        seen.add(status.st_ino)
                        total += status.st_blocks * 512
        except (FileNotFoundError, NotADirectoryError):
            continue  # others go on working meanwhile
    return total
