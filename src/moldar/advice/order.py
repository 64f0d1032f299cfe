"""Copies of the whole context that stand above installs which need little of it: every edit runs these anew.

A move is only proposed where nothing can come of it: everything between is an install that is plainly understood, or
an instruction that makes no files; the files that the installs need are copied before them.
"""

import posixpath
import re
from typing import NamedTuple

from moldar.advice.commands import Part, plain_parts
from moldar.advice.facts import Advice, Facts, PastBuild
from moldar.dockerfile.instructions import (
    Arg,
    Cmd,
    Copy,
    Dockerfile,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    Run,
    Stage,
    StopSignal,
    User,
    Workdir,
)

_WITHOUT_FILES = (Arg, Env, Label, Expose, Cmd, Entrypoint, Healthcheck, StopSignal, User)
_SCRIPTS = re.compile(r'"(?:pre|post)?(?:install|prepare|pack)"\s*:|"(?:file|link):|"workspaces"\s*:')
_LOCAL = re.compile(r"(?:-e|--editable)\b|\.{0,2}/|file:|\.\Z|.*\s@\s*file:")
_INCLUDES = re.compile(r"(?:-r|--requirement|-c|--constraint)[ =]*(\S+)")
_SYSTEM = frozenset(
    {
        "/etc",
        "/usr",
        "/usr/local",
        "/usr/bin",
        "/usr/local/bin",
        "/usr/share",
        "/lib",
        "/bin",
        "/sbin",
        "/var",
        "/root",
    }
)
_MOST_FILES = 12


class Move(NamedTuple):
    """`copy`, to be put below `last`; `runs` are the installs that it passes.

    `manifests` are what must be copied first: (path in the context, path as it is relative to the destination).
    """

    stage: Stage
    copy: Copy
    last: Instruction
    runs: tuple[Run, ...]
    manifests: tuple[tuple[str, str], ...]


def advise_order(facts: Facts) -> tuple[Advice, ...]:
    """Advice for each move, with what it would have saved in the builds that are remembered."""
    return tuple(_advice(move, facts) for move in find_moves(facts))


def find_moves(facts: Facts) -> tuple[Move, ...]:
    """Every move that is safe, at most one for each stage."""
    moves = []
    for stage in facts.file.stages:
        for position, item in enumerate(stage.instructions):
            move = _move(facts, stage, position, item) if isinstance(item, Copy) else None
            if move is not None:
                moves.append(move)
                break
    return tuple(moves)


def _move(facts: Facts, stage: Stage, position: int, copy: Copy) -> Move | None:
    source = _source_directory(copy, facts)
    if source is None:
        return None
    place = _Place(facts, source, copy, _workdir(stage, position))
    if _reaches_system(place):
        return None
    runs: list[Run] = []
    manifests: dict[str, str] = {}
    last: Instruction | None = None
    for item in stage.instructions[position + 1 :]:
        if isinstance(item, Run):
            needed = _needs(item, place)
            if needed is None:
                break
            manifests |= needed
            runs.append(item)
            last = item
        elif isinstance(item, Workdir):
            if not _is_absolute(copy.destination) or item.path.startswith("$") or not _is_absolute(item.path):
                break
            place = place._replace(workdir=posixpath.normpath(item.path))
        elif not isinstance(item, _WITHOUT_FILES) or (isinstance(item, Arg | Env) and "$" in copy.origin.text):
            break
    if last is None or len(manifests) > _MOST_FILES:
        return None
    return Move(stage, copy, last, tuple(runs), tuple(sorted(manifests.items())))


def _source_directory(copy: Copy, facts: Facts) -> str | None:
    """The directory of the context that `copy` brings, `.` for all of it; None for any other copy."""
    if copy.from_stage or copy.files or copy.exclude or copy.parents or len(copy.sources) != 1:
        return None
    source = posixpath.normpath(copy.sources[0].lstrip("/") or ".")
    if any(char in source for char in "$*?[") or "$" in copy.destination:
        return None
    if source == "." or any(path.startswith(source + "/") for path in facts.paths):
        return source
    return None


class _Place(NamedTuple):
    """Where a copy goes, seen from a RUN: `workdir` is empty when it is unknown."""

    facts: Facts
    source: str
    copy: Copy
    workdir: str

    def path_in_context(self, name: str) -> str | None:
        """The file of the context that a command means by `name`; None when it cannot be one."""
        below = self.below(name)
        return None if below is None else posixpath.normpath(posixpath.join(self.source, below))

    def below(self, name: str) -> str | None:
        """`name` relative to the copy's destination; None when it is elsewhere."""
        destination = self.copy.destination
        if not _is_absolute(name) and destination in (".", "./"):
            return _inside(posixpath.normpath(name))
        workdir = self.workdir
        if not workdir:
            return None
        whole = posixpath.normpath(posixpath.join(workdir, name))
        top = posixpath.normpath(posixpath.join(workdir, destination))
        if whole.startswith(top.rstrip("/") + "/"):
            return whole[len(top.rstrip("/")) + 1 :]
        return None


def _reaches_system(place: _Place) -> bool:
    """Whether the copy may bring settings or programs that an install uses."""
    destination = place.copy.destination
    whole = posixpath.normpath(posixpath.join(place.workdir or "/", destination))
    if whole in _SYSTEM or whole.startswith(("/etc/", "/usr/lib/", "/usr/local/lib/")):
        return True
    top = "" if place.source == "." else place.source + "/"
    tops = {"/" + path[len(top) :].partition("/")[0] for path in place.facts.paths if path.startswith(top)}
    return whole == "/" and not _SYSTEM.isdisjoint(tops)


def _inside(path: str) -> str | None:
    return None if path.startswith("..") else path


def _needs(run: Run, place: _Place) -> dict[str, str] | None:
    """The files of the context that `run` reads; None when it may read others."""
    parts = plain_parts(run)
    if run.mount_texts or parts is None or not parts or not all(part.pure for part in parts):
        return None
    needed: dict[str, str] = {}
    for part in parts:
        for name in part.manifests:
            if not _take(name, part, place, needed):
                return None
        for name in part.optional:
            path = place.path_in_context(name)
            if path is not None and path in place.facts.paths and not _take(name, part, place, needed):
                return None
        if part.manager in ("npm", "yarn") and part.manifests and _has_modules(place):
            return None
    return needed


def _take(name: str, part: Part, place: _Place, needed: dict[str, str]) -> bool:
    """Add a manifest and what it includes to `needed`; whether all of it is known and reads nothing else."""
    path, below = place.path_in_context(name), place.below(name)
    if path is None or below is None or path not in place.facts.paths or "$" in name or " " in name:
        return False
    if path in needed:
        return True
    text = place.facts.texts.get(path)
    if text is None:
        return False
    needed[path] = below
    if part.manager == "pip":
        return _take_included(text, name, part, place, needed)
    return not (path.endswith("package.json") and _SCRIPTS.search(text))


def _take_included(text: str, name: str, part: Part, place: _Place, needed: dict[str, str]) -> bool:
    for line in text.splitlines():
        line = line.partition(" #")[0].strip()
        if included := _INCLUDES.match(line):
            if not _take(posixpath.join(posixpath.dirname(name), included.group(1)), part, place, needed):
                return False
        elif _LOCAL.match(line) or line.endswith((".whl", ".tar.gz", ".zip")):
            return False
    return True


def _has_modules(place: _Place) -> bool:
    """Whether the copy brings `node_modules`, which would then overwrite what was installed."""
    top = "" if place.source == "." else place.source + "/"
    return any(path.startswith(top + "node_modules/") for path in place.facts.paths)


def _workdir(stage: Stage, position: int) -> str:
    """The directory in which the instruction runs, as far as the stage says it."""
    current = ""
    for item in stage.instructions[:position]:
        if isinstance(item, Workdir):
            if "$" in item.path:
                current = ""
            elif _is_absolute(item.path):
                current = posixpath.normpath(item.path)
            else:
                current = posixpath.normpath(posixpath.join(current, item.path)) if current else ""
    return current


def _is_absolute(path: str) -> bool:
    return path.startswith("/")


def _advice(move: Move, facts: Facts) -> Advice:
    names = [run.origin.text for run in move.runs]
    moving = f"moving {_short(move.copy.origin.text)} below {_short(names[-1])}"
    if move.manifests:
        shown = ", ".join(path for path, _ in move.manifests)
        moving += f" (and copying {shown} before it)"
    saved, times, builds = measured(move, facts)
    line = move.copy.origin.location.start
    if times:
        message = f"{moving} would have saved {saved:.1f} s in {times} of your last {builds} builds"
    else:
        message = f"{moving} keeps its result when other files change"
        message += f" ({builds} builds remembered, none shows the cost)" if builds else " (no build is remembered)"
    return Advice("order", line, message, seconds=saved, fixable=True)


def measured(move: Move, facts: Facts) -> tuple[float, int, int]:
    """The seconds that the move would have saved under exact caching, in how many builds, out of how many.

    It would have saved the installs of a build in which the copy was made anew but what stands above was not. An
    install that was reused by what it read counts with what it took when it last ran: others run it.
    """
    above = _above(move, facts.file)
    builds = [build for build in facts.builds if build.find(step_text(move.copy.origin.text))]
    saved, times = 0.0, 0
    for build in builds:
        seconds = _cost(move, build, above, facts)
        saved += seconds
        times += seconds > 0
    return saved, times, len(builds)


def _above(move: Move, file: Dockerfile) -> str:
    """The text of the last step above the copy that makes a layer, empty when the base is right above."""
    found = ""
    for item in move.stage.instructions:
        if item is move.copy:
            break
        if isinstance(item, Run | Copy | Workdir):
            found = step_text(item.origin.text)
    return found


def _cost(move: Move, build: PastBuild, above: str, facts: Facts) -> float:
    copied = build.find(step_text(move.copy.origin.text))
    before = build.find(above) if above else None
    if copied is None or copied.cached or (before is not None and not before.cached):
        return 0.0
    if not above and build is facts.builds[-1]:
        return 0.0  # the first build that is remembered may have had nothing to reuse
    if any(path in copied.reason for path, _ in move.manifests):
        return 0.0
    return sum(_seconds(run, build, facts) for run in move.runs)


def _seconds(run: Run, build: PastBuild, facts: Facts) -> float:
    text = step_text(run.origin.text)
    step = build.find(text)
    if step is None or (step.cached and not step.reused):
        return 0.0
    if not step.cached:
        return 0.0 if any(path in step.reason for path in _MANIFESTS) else step.seconds
    ran = (other.find(text) for other in facts.builds)
    return next((past.seconds for past in ran if past is not None and not past.cached), 0.0)


_MANIFESTS = ("requirements.txt", "package.json", "package-lock.json", "yarn.lock", "go.mod", "go.sum")


def step_text(text: str) -> str:
    """An instruction's text as it is compared with the names of past steps: blanks in a row are one."""
    return " ".join(text.split())


def _short(text: str) -> str:
    text = step_text(text)
    return text if len(text) <= 60 else text[:59] + "…"
