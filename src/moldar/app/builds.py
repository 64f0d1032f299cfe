"""Past builds: their rows, steps and logs."""

import os
from typing import NamedTuple

from moldar.app.engine import Engine
from moldar.builder.history import StepHistory, read_log, steps_of, warnings_of
from moldar.errors import HostTrouble, NotFound, UserMistake
from moldar.store.builds import BuildRow, BuildTable, remove_logs

__all__ = [
    "BuildRow",
    "NoSuchStep",
    "StepHistory",
    "StepLog",
    "all_builds",
    "build_logs",
    "find_build",
    "remove_build",
    "steps_of",
    "warnings_of",
    "write_page",
]


class NoSuchStep(NotFound):
    """A build has no step of that number."""

    def __init__(self, build: str, number: int, count: int) -> None:
        super().__init__(f"build {build} has no step {number}", hint=f"its steps are numbered 1 to {count}")


class StepLog(NamedTuple):
    """What a step printed. `number` is the one that plain progress shows (`#5`)."""

    number: int
    step: StepHistory
    data: bytes


def all_builds(engine: Engine) -> list[BuildRow]:
    """The builds that are remembered, newest first."""
    return BuildTable(engine.database).all()


def find_build(engine: Engine, name: str = "") -> BuildRow:
    """The build whose ID begins with `name`, the latest for an empty one; NotFound, UserMistake when several fit."""
    rows = [row for row in all_builds(engine) if row.id.startswith(name)]
    if not rows:
        raise NotFound(
            f"no such build: {name}" if name else "there are no builds yet",
            hint="`moldar build history ls` lists the builds" if name else "",
        )
    if name and len(rows) > 1 and rows[0].id != name:
        raise UserMistake(f"{len(rows)} builds begin with {name}", hint="give more of the ID")
    return rows[0]


def build_logs(engine: Engine, row: BuildRow, number: int = 0) -> list[StepLog]:
    """What the steps of a build printed, those that printed nothing left out; or one step, by number. NoSuchStep."""
    directory = f"{engine.home.builds}/{row.id}"
    steps = steps_of(row)
    if number and not 1 <= number <= len(steps):
        raise NoSuchStep(row.id, number, len(steps))
    wanted = [(number, steps[number - 1])] if number else list(enumerate(steps, 1))
    logs = [StepLog(at, step, read_log(directory, step)) for at, step in wanted]
    return logs if number else [log for log in logs if log.data]


def remove_build(engine: Engine, row: BuildRow) -> None:
    """Forget a build and delete its logs."""
    BuildTable(engine.database).remove(row.id)
    remove_logs(engine.home, row.id)


def write_page(engine: Engine, row: BuildRow, path: str = "") -> str:
    """Write the build as one HTML page (beside its logs when no `path` is given); where it is. HostTrouble."""
    from moldar.app.build_page import build_page

    text = build_page(engine, row)
    directory = f"{engine.home.builds}/{row.id}"
    target = path or f"{directory}/build.html"
    try:
        if not path:
            os.makedirs(directory, mode=0o700, exist_ok=True)
        with open(target, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise HostTrouble(f"cannot write {target}: {error.strerror}") from error
    return os.path.abspath(target)
