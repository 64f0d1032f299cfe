"""The history of builds: what each step took, whether it was cached, why it ran, and where its log is.

A `BuildRecorder` listens to a build's events on their way to whoever draws them, and keeps them as one row of the
store; the logs are files that the steps write themselves.
"""

import json
import os
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from moldar.builder.graph import Graph
from moldar.builder.progress import (
    Event,
    EventSink,
    VertexCompleted,
    VertexLog,
    VertexStarted,
    Warned,
)
from moldar.builder.solver import Result
from moldar.image.model import encode_json
from moldar.store.builds import BuildRow, BuildTable


class StepHistory(NamedTuple):
    """One step of a past build. Times in seconds; `seconds` is None when it never ended; `log` is a file's name.

    `details` are the differences behind `reason`, `inputs` the IDs of the steps that it read; `layer` is the diff ID
    of what it made, and `size` the bytes of its tar.
    """

    id: str
    name: str
    started: float
    seconds: float | None = None
    cached: bool = False
    reason: str = ""
    error: str = ""
    log: str = ""
    details: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    layer: str = ""
    size: int = 0


class BuildRecorder:
    """Passes events on and keeps what the history needs. Events may come from any thread."""

    def __init__(self, table: BuildTable, build: str, context: str, target: str, events: EventSink) -> None:
        self._table = table
        self._build = build
        self._context = context
        self._target = target
        self._events = events
        self._started = time.time()
        self._lock = threading.Lock()
        self._steps: dict[str, StepHistory] = {}
        self._warnings: list[str] = []
        self._begun = False
        self._graph: Graph | None = None
        self._results: Sequence[Result | None] = ()

    def publish(self, event: Event) -> None:
        with self._lock:
            self._note(event)
        self._events.publish(event)

    def plan(self, graph: Graph) -> None:
        """Tell what the steps read."""
        self._graph = graph

    def made(self, results: Sequence[Result | None]) -> None:
        """Tell what the steps made."""
        self._results = results

    def begin(self) -> None:
        """Record that the build runs, so that a killed one is in the history; a cached one needs no such row."""
        with self._lock:
            if self._begun:
                return
            self._begun = True
        self._put(None, "", "")

    def end(self, *, image: str = "", error: str = "") -> None:
        """Record how the build ended."""
        self._put(time.time(), image, error)

    def _put(self, ended: float | None, image: str, error: str) -> None:
        with self._lock:
            steps = [list(self._with_results(step)) for step in self._steps.values()]
            document = {"steps": steps, "warnings": self._warnings}
        text = encode_json(document).decode(errors="surrogateescape")
        row = BuildRow(self._build, self._started, ended, self._context, self._target, image, error, text)
        self._table.put(row)

    def _with_results(self, step: StepHistory) -> StepHistory:
        """The step with what it read and made, where it is one of the graph's."""
        if self._graph is None or not step.id.isdigit():
            return step
        index = int(step.id)
        vertex = self._graph.vertices[index]
        result = self._results[index] if self._results else None
        layer, size = result.layers[-1] if result and result.layers and vertex.inputs else ("", 0)
        return step._replace(inputs=tuple(map(str, vertex.inputs)), layer=layer, size=size)

    def _note(self, event: Event) -> None:
        if isinstance(event, VertexStarted):
            self._steps[event.id] = StepHistory(event.id, event.name, event.time)
        elif isinstance(event, Warned):
            self._warnings.append(f"{event.rule}: {event.message}")
        elif isinstance(event, VertexLog | VertexCompleted) and event.id in self._steps:
            step = self._steps[event.id]
            if isinstance(event, VertexLog):
                self._steps[event.id] = step if step.log else step._replace(log=f"{event.id}.log")
            else:
                self._steps[event.id] = step._replace(
                    seconds=max(0.0, event.time - step.started),
                    cached=event.cached,
                    reason=event.reason,
                    details=event.details,
                    error=event.error,
                )


def steps_of(row: BuildRow) -> tuple[StepHistory, ...]:
    """The steps of a past build, in the order in which they began; none when another version wrote them."""
    try:
        document: Any = json.loads(row.document)
        return tuple(StepHistory(*step) for step in document["steps"])
    except (ValueError, TypeError, KeyError):
        return ()


def warnings_of(row: BuildRow) -> tuple[str, ...]:
    """The warnings of a past build; none when another version wrote them."""
    try:
        return tuple(map(str, json.loads(row.document)["warnings"]))
    except (ValueError, TypeError, KeyError):
        return ()


def read_log(directory: str, step: StepHistory) -> bytes:
    """What a step printed; nothing when it printed nothing or its log is gone. `directory` holds the build's logs."""
    if not step.log:
        return b""
    try:
        with open(os.path.join(directory, os.path.basename(step.log)), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""
