"""Verbs on running containers by their processes: pause, top, stats, update."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from moldar.app.containers import list_containers, service
from moldar.app.engine import Engine
from moldar.app.machinery import machinery
from moldar.containers.figures import Figures, Sample
from moldar.containers.supervising import Supervision, Table, Wish
from moldar.errors import NotFound
from moldar.store.containers import ContainerTable

__all__ = ["Figures", "Table", "Wish"]

FIRST_SECONDS = 0.5
"""How long after the first sample the second is taken, to tell what share of a processor is used."""
SECONDS = 1.0


class Shown(NamedTuple):
    """A container with its figures."""

    id: str
    name: str
    figures: Figures


def pause(engine: Engine, name: str) -> None:
    """Let none of a container's processes run. ContainerNotFound, NotRunning, UserMistake, HostTrouble."""
    supervision(engine).pause(name)


def unpause(engine: Engine, name: str) -> None:
    """Let a paused container go on. ContainerNotFound, NotRunning, UserMistake."""
    supervision(engine).unpause(name)


def top(engine: Engine, name: str, options: Sequence[str] = ()) -> Table:
    """A container's processes; with `options` as the host's `ps` shows them. ContainerNotFound, NotRunning."""
    return supervision(engine).top(name, options)


def update(engine: Engine, name: str, wish: Wish) -> None:
    """Change a container's restart policy and limits. ContainerNotFound, NoCgroups, UserMistake, HostTrouble."""
    supervision(engine).update(name, wish, cgroups=machinery(engine).runtime.features.cgroups)


def stats(
    engine: Engine,
    names: Sequence[str] = (),
    *,
    everything: bool = False,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[list[Shown]]:
    """What containers use, again and again: those named, else the running ones, or all. ContainerNotFound.

    `wait` is given the seconds between two looks.
    """
    watched = supervision(engine)
    for name in names:
        service(engine).view(name)
    before: dict[str, Sample] = {}
    seconds = FIRST_SECONDS
    while True:
        chosen = _chosen(engine, names, everything)
        for identity, _ in chosen:
            before.setdefault(identity, watched.sample(identity))
        wait(seconds)
        seconds = SECONDS
        shown = []
        for identity, name in chosen:
            try:
                figures, before[identity] = watched.figures(before[identity], identity)
            except NotFound:
                continue  # removed meanwhile
            shown.append(Shown(identity, name, figures))
        yield shown


def _chosen(engine: Engine, names: Sequence[str], everything: bool) -> list[tuple[str, str]]:
    if not names:
        return [(view.id, view.name) for view in list_containers(engine, everything=everything)]
    found = []
    for name in names:
        try:
            view = service(engine).view(name)
        except NotFound:
            continue
        found.append((view.id, view.name))
    return found


def supervision(engine: Engine) -> Supervision:
    """The running containers of the engine's store."""
    return Supervision(engine.home, ContainerTable(engine.database))
