"""Removing a container for good: anonymous volumes, root file system, files, record."""

import os
import shutil
from typing import Protocol

from moldar.containers.definition import Definition, decode_definition
from moldar.containers.volumes import remove_volume
from moldar.sandbox.snapshots import Snapshots
from moldar.store.containers import ContainerRow
from moldar.store.home import Home


class Records(Protocol):
    """The part of the store's container records that this needs."""

    def all(self) -> list[ContainerRow]: ...
    def remove(self, container: str) -> None: ...


def discard(
    home: Home, definition: Definition, snapshots: Snapshots, records: Records, *, volumes: bool = True
) -> None:
    """Delete a container that does not run. The record goes last, so that a killed removal can be repeated."""
    directory = f"{home.containers}/{definition.id}"
    snapshots.remove_rootfs(definition.id)
    if volumes:
        for name in {mount.name for mount in definition.mounts if mount.anonymous} - _used_by_others(
            definition, records
        ):
            remove_volume(home.volumes, name)
    if os.path.isdir(directory):
        shutil.rmtree(directory, ignore_errors=True)
    records.remove(definition.id)


def _used_by_others(definition: Definition, records: Records) -> set[str]:
    """The volumes of all other containers, which may have been made with --volumes-from."""
    others = (decode_definition(row.state) for row in records.all() if row.id != definition.id)
    return {mount.name for other in others for mount in other.mounts}
