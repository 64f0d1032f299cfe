"""Verbs on the whole store and this host: usage, prune, check, info."""

import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from moldar.app import images
from moldar.app.engine import Engine, host_platform
from moldar.app.machinery import machinery
from moldar.containers.logs import moment
from moldar.containers.status import read_status
from moldar.errors import UserMistake
from moldar.store.check import Checker, Report
from moldar.store.containers import ContainerTable
from moldar.store.gc import Policy
from moldar.store.usage import UsageLine
from moldar.store.usage import usage as store_usage


class SystemPruned(NamedTuple):
    """What a prune removed, under Docker's headings; `freed` in bytes."""

    sections: tuple[tuple[str, tuple[str, ...]], ...]
    freed: int


def usage(engine: Engine) -> list[UsageLine]:
    """How much the store holds, and how much of it could go."""
    directory = engine.home.containers
    return store_usage(
        engine.home, engine.database, lambda container: read_status(f"{directory}/{container}").running
    )


class ImageShare(NamedTuple):
    """A line of `image ls`, how many bytes of the image others have too, and how many containers are of it."""

    image: images.ImageSummary
    shared: int
    containers: int


def image_shares(engine: Engine) -> list[ImageShare]:
    """How much of each image is shared with others."""
    listed = images.list_images(engine)
    layers = {image.id: engine.images.layers(image.id) for image in listed}
    users = Counter(layer for diff_ids in layers.values() for layer in set(diff_ids))
    containers = Counter(row.image for row in ContainerTable(engine.database).all())
    return [
        ImageShare(
            image, engine.layers.total(each for each in layers[image.id] if users[each] > 1), containers[image.id]
        )
        for image in listed
    ]


def check(engine: Engine, *, contents: bool = True) -> Report:
    """Verify every promise of the store; with `contents` every byte of it."""
    return Checker(engine.home, engine.database, machinery(engine).snapshots).check(contents=contents)


def prune(
    engine: Engine, *, everything: bool = False, volumes: bool = False, filters: Iterable[tuple[str, str]] = ()
) -> SystemPruned:
    """Remove stopped containers, unused images and the unused build cache; with `volumes` unused anonymous ones.

    The filters until, label and label! spare what does not pass; volumes know no until. UserMistake.
    """
    from moldar.app import containers
    from moldar.app import volumes as volume_verbs

    given = tuple(filters)
    if volumes and any(key == "until" for key, _ in given):
        raise UserMistake('the "until" filter is not supported with "--volumes"')
    policy = Policy(_cache_age(given), images="unused" if everything else "dangling")
    removed = containers.prune(engine, given)
    collected = images.prune_by(engine, policy, given)
    sections = [("Deleted Containers", tuple(removed.removed)), ("Deleted Images", collected.lines)]
    freed = removed.freed + collected.freed
    if volumes:
        pruned = volume_verbs.prune(engine, filters=given)
        sections.append(("Deleted Volumes", pruned.removed))
        freed += pruned.freed
    return SystemPruned(tuple(sections), freed)


def _cache_age(filters: Sequence[tuple[str, str]]) -> float | None:
    """How old records of the build cache may be. They have no labels, so a filter by labels keeps them all."""
    if any(key != "until" for key, _ in filters):
        return None
    now = time.time()
    return max((now - datetime.fromisoformat(moment(value)).timestamp() for _, value in filters), default=0.0)


def prune_cache(engine: Engine, *, everything: bool = False, filters: Iterable[tuple[str, str]] = ()) -> int:
    """Remove the cache's records and what only they kept; with `everything` the cache mounts too. The bytes freed.

    The filter until=24h keeps what was used since. UserMistake.
    """
    given = tuple(filters)
    for key, _ in given:
        if key != "until":
            raise UserMistake(f"invalid filter '{key}'", hint="use until")
    freed = images.collect_garbage(engine, Policy(cache_age=_cache_age(given))).freed
    if everything:
        freed += machinery(engine).remove_cache_mounts()
    return freed


def info(engine: Engine) -> dict[str, Any]:
    """What this host offers, for a person and for bug reports: our own names first, then Docker's."""
    parts = machinery(engine)
    own = {
        "Store": engine.home.root,
        "Platform": str(engine.platform),
        "Snapshots": parts.snapshots.name,
        "Runtime": parts.runtime.name,
        "Port publishing": "pasta" if shutil.which("pasta") else "our own forwarder",
        "Images": len(engine.images.all()),
    }
    return own | _docker_facts(engine, cgroups=parts.runtime.features.cgroups)


def _docker_facts(engine: Engine, *, cgroups: bool) -> dict[str, Any]:
    from moldar import __version__
    from moldar.app import containers

    parts = machinery(engine)
    states = [view.status.state for view in containers.list_containers(engine, everything=True)]
    uname = os.uname()
    version2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    return {
        "Containers": len(states),
        "ContainersRunning": states.count("running"),
        "ContainersPaused": states.count("paused"),
        "ContainersStopped": states.count("exited") + states.count("created"),
        "Driver": parts.snapshots.name,
        "DockerRootDir": engine.home.root,
        "DefaultRuntime": parts.runtime.name,
        "CgroupDriver": "cgroupfs" if cgroups else "none",
        "CgroupVersion": "2" if version2 else "1",
        "KernelVersion": uname.release,
        "OperatingSystem": _operating_system(),
        "OSType": "linux",
        "Architecture": uname.machine,
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "Name": uname.nodename,
        "ServerVersion": __version__,
    }


def _operating_system() -> str:
    """What the distribution calls itself (os-release(5))."""
    try:
        with open("/etc/os-release", encoding="utf-8") as file:
            lines = dict(line.rstrip("\n").partition("=")[::2] for line in file)
    except OSError:
        return "Linux"
    return lines.get("PRETTY_NAME", "Linux").strip('"')


def version() -> dict[str, Any]:
    """Docker's document of a client and a server, which are the same program here."""
    from moldar import __version__

    uname = os.uname()
    facts = {
        "Version": __version__,
        "Os": "linux",
        "Arch": host_platform().architecture,
        "KernelVersion": uname.release,
        "PythonVersion": sys.version.split()[0],
    }
    return {"Client": facts, "Server": facts, "Version": __version__}
