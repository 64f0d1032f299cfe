"""One past build as one HTML page that needs nothing else: its timeline, reasons and logs.

All text comes from Dockerfiles and from what steps printed: the template escapes every bit of it, and the page's own
policy forbids scripts and whatever lies elsewhere.
"""

import math
import os
import re
import time
from collections.abc import Sequence
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader

from moldar.app.builds import BuildRow, StepHistory, build_logs, steps_of, warnings_of
from moldar.app.engine import Engine

LONGEST_LOG = 200_000
"""Characters of a step's output that the page holds; it keeps the end."""
KINDS = ("ran", "reused", "cached", "failed")
"""What became of a step; what is no step (loading the context, say) is `aside`."""
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class Bar(NamedTuple):
    """One step on the timeline. `left` and `width` in percent; `kind` is one of KINDS or aside."""

    step: StepHistory
    kind: str
    left: float
    width: float
    begin: str
    took: str
    time: str
    log: str
    cut: bool
    inputs: tuple[str, ...]
    size: str


class Tick(NamedTuple):
    """A mark on the axis, `at` in percent."""

    at: float
    text: str


def build_page(engine: Engine, row: BuildRow) -> str:
    """The page of a build."""
    steps = steps_of(row)
    logs = {log.step.id: log.data for log in build_logs(engine, row)}
    end = max([row.ended or 0.0, *(step.started + (step.seconds or 0.0) for step in steps)], default=row.started)
    whole = max(end - row.started, 0.001)
    bars = timeline(row.started, whole, steps, logs)
    counts = [(kind, sum(1 for bar in bars if bar.kind == kind)) for kind in KINDS]
    folder = os.path.join(os.path.dirname(__file__), "templates")
    environment = Environment(loader=FileSystemLoader(folder), autoescape=True, trim_blocks=True)
    return environment.get_template("build.html").render(
        row=row,
        title=f"Build of {_plain(row.context)}",
        status="failed" if row.error else "succeeded" if row.ended is not None else "not finished",
        bad=bool(row.error) or row.ended is None,
        started=time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.started)),
        duration=seconds(whole),
        counts=[pair for pair in counts if pair[1] or pair[0] == "ran"],
        bars=bars,
        ticks=ticks(whole),
        warnings=[_plain(warning) for warning in warnings_of(row)],
    )


def timeline(began: float, whole: float, steps: Sequence[StepHistory], logs: dict[str, bytes]) -> list[Bar]:
    """The steps as bars, in the order in which they began."""
    names = {step.id: step.name for step in steps}
    bars = []
    for step in steps:
        since = max(0.0, step.started - began)
        took = step.seconds or 0.0
        kind = _kind(step)
        log, cut = _log(logs.get(step.id, b""))
        bars.append(
            Bar(
                step._replace(
                    name=_plain(step.name),
                    reason=_plain(step.reason),
                    error=_plain(step.error),
                    details=tuple(map(_plain, step.details)),
                ),
                kind,
                round(min(99.5, 100 * since / whole), 2),
                round(min(100.0, 100 * took / whole), 2),
                seconds(since),
                "did not end" if step.seconds is None else f"took {seconds(took)}",
                kind if kind in ("cached", "reused") else "" if step.seconds is None else seconds(took),
                log,
                cut,
                tuple(_plain(names[source]) for source in step.inputs if source in names),
                _size(step.size),
            )
        )
    return bars


def ticks(whole: float) -> list[Tick]:
    """About five marks at round numbers of seconds."""
    step = 10.0 ** math.floor(math.log10(whole / 4))
    step *= next((factor for factor in (1, 2, 5) if whole / (step * factor) <= 6), 10)
    count = int(whole / step)
    places = max(0, -math.floor(math.log10(step)))
    marks = [Tick(round(100 * at * step / whole, 2), f"{at * step:.{places}f} s") for at in range(count + 1)]
    return [mark for mark in marks if mark.at < 95]  # the last one would not fit


def seconds(amount: float) -> str:
    """A duration as a person reads it."""
    if amount >= 60:
        return f"{int(amount // 60)} min {int(amount % 60)} s"
    return f"{amount:.1f} s" if amount >= 0.1 or not amount else f"{amount * 1000:.0f} ms"


def _kind(step: StepHistory) -> str:
    if step.error:
        return "failed"
    if step.cached:
        return "reused" if step.reason else "cached"
    return "ran" if step.name.startswith("[") and not step.name.startswith("[internal]") else "aside"


def _log(data: bytes) -> tuple[str, bool]:
    """Output as a terminal would leave it, and whether its beginning is missing."""
    text = data.decode(errors="replace")
    cut = len(text) > LONGEST_LOG
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in text[-LONGEST_LOG:].split("\n"))
    return _plain("\n".join(lines)).rstrip("\n"), cut


def _plain(text: str) -> str:
    """Without escape sequences and control characters, and without what UTF-8 cannot say."""
    readable = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return _CONTROL.sub("", _ESCAPES.sub("", readable))


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
