"""Verbs on volumes: make, list, look at, remove, prune."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from moldar.app.engine import Engine
from moldar.containers.definition import decode_definition
from moldar.containers.locks import alone
from moldar.containers.views import timestamp
from moldar.containers.volumes import (
    Volume,
    VolumeInUse,
    VolumeNotFound,
    find_volume,
    new_volume_name,
    open_volume,
    remove_volume,
)
from moldar.containers.volumes import list_volumes as all_volumes
from moldar.errors import UserMistake
from moldar.store.containers import ContainerTable
from moldar.store.usage import tree_size

DRIVER = "local"
_TRUE, _FALSE = ("1", "true"), ("0", "false")


class VolumeView(NamedTuple):
    """A volume and the containers that have it, running or not; `size` in bytes, -1 where it was not asked for."""

    volume: Volume
    containers: tuple[str, ...]
    size: int = -1


class Pruned(NamedTuple):
    """The volumes that were removed, and the bytes that this freed."""

    removed: tuple[str, ...]
    freed: int


def create(engine: Engine, name: str = "", labels: Iterable[tuple[str, str]] = (), *, driver: str = DRIVER) -> str:
    """Make a volume, an anonymous one without `name`; its name. One that is there stays as it is. UserMistake."""
    if driver != DRIVER:
        raise UserMistake(
            f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found',
            hint="the driver is local",
        )
    return open_volume(engine.home.volumes, name or new_volume_name(), labels, anonymous=not name).name


def list_volumes(engine: Engine, filters: Iterable[tuple[str, str]] = (), *, sizes: bool = False) -> list[VolumeView]:
    """The volumes that pass, by name. Values of one filter are alternatives. UserMistake for unknown filters.

    With `sizes` their files are counted, which takes its time.
    """
    wanted = _grouped(filters, {"dangling", "driver", "label", "name"})
    users = _users(engine)
    views = [
        VolumeView(volume, users.get(volume.name, ()), tree_size(volume.path) if sizes else -1)
        for volume in all_volumes(engine.home.volumes)
    ]
    return [
        view
        for view in views
        if all(any(_passes(view, key, value) for value in values) for key, values in wanted.items())
    ]


def inspect(engine: Engine, name: str) -> dict[str, Any]:
    """What `docker volume inspect` tells; VolumeNotFound."""
    volume = find_volume(engine.home.volumes, name)
    return {
        "CreatedAt": timestamp(int(volume.created)).replace(".000000", ""),
        "Driver": DRIVER,
        "Labels": dict(volume.labels) or None,
        "Mountpoint": volume.path,
        "Name": volume.name,
        "Options": None,
        "Scope": "local",
    }


def remove(engine: Engine, name: str, *, force: bool = False) -> None:
    """Delete a volume; VolumeInUse, and VolumeNotFound unless `force`."""
    with alone(engine.home.creation_lock, wait=True):
        try:
            find_volume(engine.home.volumes, name)
        except VolumeNotFound:
            if force:
                return
            raise
        if containers := _users(engine).get(name):
            raise VolumeInUse(name, containers)
        remove_volume(engine.home.volumes, name)


def prune(engine: Engine, *, everything: bool = False, filters: Iterable[tuple[str, str]] = ()) -> Pruned:
    """Remove the anonymous volumes that no container has, or with `everything` all of these. UserMistake.

    The filter `all=true` means `everything`, as Docker's does.
    """
    wanted = _grouped(filters, {"all", "label", "label!"})
    everything = everything or any(_truth("all", value) for value in wanted.pop("all", ()))
    removed: list[str] = []
    freed = 0
    with alone(engine.home.creation_lock, wait=True):
        users = _users(engine)
        for volume in all_volumes(engine.home.volumes):
            view = VolumeView(volume, users.get(volume.name, ()))
            if view.containers or not (everything or volume.anonymous) or not _prunable(view, wanted):
                continue
            freed += tree_size(volume.path)
            remove_volume(engine.home.volumes, volume.name)
            removed.append(volume.name)
    return Pruned(tuple(removed), freed)


def _prunable(view: VolumeView, wanted: dict[str, list[str]]) -> bool:
    kept = any(_passes(view, "label", value) for value in wanted.get("label!", ()))
    labels = wanted.get("label")
    return not kept and (labels is None or any(_passes(view, "label", value) for value in labels))


def _users(engine: Engine) -> dict[str, tuple[str, ...]]:
    """For each volume that a container has, the IDs of these containers."""
    found: dict[str, tuple[str, ...]] = {}
    for row in ContainerTable(engine.database).all():
        for name in {mount.name for mount in decode_definition(row.state).mounts if mount.name}:
            found[name] = (*found.get(name, ()), row.id)
    return found


def _grouped(filters: Iterable[tuple[str, str]], known: set[str]) -> dict[str, list[str]]:
    wanted: dict[str, list[str]] = {}
    for key, value in filters:
        if key not in known:
            raise UserMistake(f"invalid filter '{key}'", hint=f"use one of {', '.join(sorted(known))}")
        wanted.setdefault(key, []).append(value)
    return wanted


def _passes(view: VolumeView, key: str, value: str) -> bool:
    volume = view.volume
    if key == "dangling":
        return _truth(key, value) != bool(view.containers)
    if key == "driver":
        return value == DRIVER
    if key == "label":
        name, equals, wanted = value.partition("=")
        labels = dict(volume.labels)
        return labels.get(name) == wanted if equals else name in labels
    return value in volume.name


def _truth(key: str, value: str) -> bool:
    if value.lower() not in _TRUE + _FALSE:
        raise UserMistake(f"invalid filter '{key}={value}'", hint="use true or false")
    return value.lower() in _TRUE
