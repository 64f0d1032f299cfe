"""Verbs on the whole store and this host: usage, prune, check, info."""

import shutil
from typing import Any, NamedTuple

from moldar.app import images
from moldar.app.engine import Engine
from moldar.app.machinery import machinery
from moldar.containers.status import read_status
from moldar.store.check import Checker, Report
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


def check(engine: Engine, *, contents: bool = True) -> Report:
    """Verify every promise of the store; with `contents` every byte of it."""
    return Checker(engine.home, engine.database, machinery(engine).snapshots).check(contents=contents)


def prune(engine: Engine, *, everything: bool = False, volumes: bool = False) -> SystemPruned:
    """Remove stopped containers, unused images and the unused build cache; with `volumes` unused anonymous ones."""
    from moldar.app import containers
    from moldar.app import volumes as volume_verbs

    removed = containers.prune(engine)
    collected = images.collect_garbage(engine, Policy(cache_age=0.0, images="unused" if everything else "dangling"))
    sections = [("Deleted Containers", tuple(removed.removed)), ("Deleted Images", collected.images)]
    freed = removed.freed + collected.freed
    if volumes:
        pruned = volume_verbs.prune(engine)
        sections.append(("Deleted Volumes", pruned.removed))
        freed += pruned.freed
    return SystemPruned(tuple(sections), freed)


def prune_cache(engine: Engine, *, everything: bool = False) -> int:
    """Remove the cache's records and what only they kept; with `everything` the cache mounts too. The bytes freed."""
    freed = images.collect_garbage(engine, Policy(cache_age=0.0)).freed
    if everything:
        freed += machinery(engine).remove_cache_mounts()
    return freed


def info(engine: Engine) -> dict[str, Any]:
    """What this host offers, for a person and for bug reports."""
    parts = machinery(engine)
    return {
        "Store": engine.home.root,
        "Platform": str(engine.platform),
        "Snapshots": parts.snapshots.name,
        "Runtime": parts.runtime.name,
        "Port publishing": "pasta" if shutil.which("pasta") else "our own forwarder",
        "Images": len(engine.images.all()),
    }
