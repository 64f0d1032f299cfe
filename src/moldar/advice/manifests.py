"""Copies that only show an install its manifests, where a bind mount would do without a layer."""

import posixpath
from collections.abc import Sequence

from moldar.advice.commands import manager_parts
from moldar.advice.facts import Advice, Facts
from moldar.dockerfile.instructions import Copy, Instruction, Run

MANIFESTS = frozenset(
    {
        "requirements.txt",
        "constraints.txt",
        "package.json",
        "package-lock.json",
        "yarn.lock",
        "go.mod",
        "go.sum",
        "Cargo.toml",
        "Cargo.lock",
    }
)


def advise_manifests(facts: Facts) -> tuple[Advice, ...]:
    """Advice for each copy of manifests whose next RUN installs from them, and which a later copy brings again."""
    found = []
    for stage in facts.file.stages:
        items = [item for item in stage.instructions if isinstance(item, Copy | Run)]
        for position, item in enumerate(items[:-1]):
            following = items[position + 1]
            if not isinstance(item, Copy) or not isinstance(following, Run) or not _only_manifests(item):
                continue
            if manager_parts(following) and _brought_again(item, items[position + 2 :]):
                found.append(_advice(item, following))
    return tuple(found)


def _only_manifests(copy: Copy) -> bool:
    names = {posixpath.basename(source) for source in copy.sources}
    return bool(names) and names <= MANIFESTS and not copy.from_stage and not copy.files


def _brought_again(copy: Copy, later: Sequence[Instruction]) -> bool:
    destination = posixpath.normpath(copy.destination)
    return any(
        isinstance(item, Copy)
        and not item.from_stage
        and item.sources in ((".",), ("./",))
        and posixpath.normpath(item.destination) == destination
        for item in later
    )


def _advice(copy: Copy, run: Run) -> Advice:
    flags = tuple(f"--mount=type=bind,source={source},target={posixpath.basename(source)}" for source in copy.sources)
    shown = ", ".join(copy.sources)
    message = f"a bind mount shows {shown} to the RUN in line {run.origin.location.start} without a layer"
    return Advice("bind-mount", copy.origin.location.start, message, lines=flags)
