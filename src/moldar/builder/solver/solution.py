"""Scheduling: what is cached is settled in the calling thread, what must run goes to workers.

Vertices are identified in topological order, each from the identities of its inputs. Worker threads start only when
a step must run. Images are lazy: their layers are made available only when a step that really runs reads them, or
when the target is to be complete.
"""

import threading
import time
from _queue import SimpleQueue  # `queue` would import more
from collections.abc import Callable, Sequence
from typing import NamedTuple

from moldar.builder.graph import CopyOp, Graph, ImageOp, Vertex, WorkdirOp, question
from moldar.builder.progress import EventSink, VertexCompleted, VertexStarted
from moldar.builder.solver.contracts import (
    Cache,
    Cancellation,
    Executor,
    Explanation,
    Inputs,
    Key,
    Record,
    Result,
    Reuse,
    StepContext,
)
from moldar.image.model import Digest


def solve(
    graph: Graph,
    cache: Cache,
    executor: Executor,
    events: EventSink,
    *,
    jobs: int = 4,
    complete: bool = True,
) -> tuple[Result | None, ...]:
    """The results of all vertices that the targets need (None for sources and what is not needed).

    At most `jobs` steps run at once. `complete`: the targets' base images are made available too. The first failure
    cancels everything that runs and is raised; so is KeyboardInterrupt.
    """
    return _Solution(graph, cache, executor, events, jobs).solve(complete)


class _Outcome(NamedTuple):
    """What a worker hands back."""

    vertex: int
    record: Record | None = None
    cached: bool = False
    reason: Explanation = Explanation()
    error: BaseException | None = None


class _Solution:
    """One run of the solver. Only the calling thread touches its state; workers hand back outcomes by a queue."""

    def __init__(self, graph: Graph, cache: Cache, executor: Executor, events: EventSink, jobs: int) -> None:
        self._cache = cache
        self._executor = executor
        self._events = events
        self._jobs = jobs
        self._vertices = graph.vertices
        self._same = _merge_equal(graph.vertices)
        self._targets = list(dict.fromkeys(self._same[target] for target in graph.targets))
        self._needed = _reachable(graph.vertices, self._same, self._targets)
        self._results: list[Result | None] = [None] * len(graph.vertices)
        self._keys: dict[int, Key] = {}
        self._missing = {index: len(set(self._inputs(index))) for index in self._needed}
        self._consumers: dict[int, list[int]] = {index: [] for index in self._needed}
        for index in self._needed:
            for source in set(self._inputs(index)):
                self._consumers[source].append(index)
        self._ready = [index for index in self._needed if not self._missing[index]]
        self._announced: set[int] = set()
        self._in_flight: dict[Digest, list[int]] = {}
        self._made: dict[Digest, Record] = {}
        self._causes: dict[int, tuple[str, str]] = {}
        self._fetched: set[int] = set()
        self._fetching: dict[int, list[int]] = {}
        self._blocked: dict[int, int] = {}
        self._backlog: list[tuple[int, Callable[[], _Outcome]]] = []
        self._active: dict[int, threading.Thread] = {}
        self._outcomes: SimpleQueue[_Outcome] = SimpleQueue()
        self._cancellation = Cancellation()

    def solve(self, complete: bool) -> tuple[Result | None, ...]:
        try:
            self._work()
            if complete:
                self._fetch_bases()
        except BaseException:
            self._stop()
            raise
        for index in self._needed:
            if isinstance(self._vertices[index].op, ImageOp):
                self._announce_cached(index)  # those that nothing had to fetch
        return tuple(self._results[self._same[index]] for index in range(len(self._vertices)))

    def _fetch_bases(self) -> None:
        """Fetch the images at the bottom of the targets, those that are not here yet."""
        for base in dict.fromkeys(map(self._base, self._targets)):
            if base is not None and not self._is_here(base):
                self._fetch(base)
        self._work()

    def _work(self) -> None:
        """Until nothing is ready, waiting for a thread, or running."""
        while self._ready or self._backlog or self._active:
            while self._backlog and len(self._active) < self._jobs:
                self._start(*self._backlog.pop(0))
            if self._ready:
                self._evaluate(self._ready.pop(0))
            elif self._active:
                self._take(self._outcomes.get())

    # Cheap work, in the calling thread

    def _evaluate(self, index: int) -> None:
        vertex = self._vertices[index]
        if self._executor.is_source(vertex):
            self._finish(index, None)
            return
        known = self._executor.identify(vertex)
        if known is not None:
            if isinstance(vertex.op, ImageOp) and self._is_here(index):
                self._announce_cached(index)
            self._finish(index, known)
            return
        key = self._keys[index] = self._key(index)
        record = self._made.get(key.digest)
        if record is None:
            record = self._lookup(vertex, key)
        if record is not None:
            self._announce_cached(index)
            self._finish_step(index, record)
        elif key.digest in self._in_flight:
            self._in_flight[key.digest].append(index)
        else:
            self._in_flight[key.digest] = []
            self._demand(index)

    def _key(self, index: int) -> Key:
        sources = [
            source
            for source in self._inputs(index)
            if source not in self._announced and self._executor.is_source(self._vertices[source])
        ]
        for source in sources:
            self._announced.add(source)
            self._events.publish(VertexStarted(str(source), self._vertices[source].name, time.time()))
        try:
            return self._executor.fast_key(self._vertices[index], *self._parameters(index))
        except Exception as error:
            now = time.time()
            self._events.publish(VertexStarted(str(index), self._vertices[index].name, now))
            self._events.publish(VertexCompleted(str(index), now, error=str(error)))
            raise
        finally:
            for source in sources:
                self._events.publish(VertexCompleted(str(source), time.time()))

    def _demand(self, index: int) -> None:
        """Queue the step, after the images that it reads."""
        inputs = self._inputs(index)
        bases = {self._base(inputs[position]) for position in self._executor.needs(self._vertices[index])}
        absent = [base for base in sorted(base for base in bases if base is not None) if not self._is_here(base)]
        for base in absent:
            self._fetch(base)
            self._fetching[base].append(index)
        if absent:
            self._blocked[index] = len(absent)
        else:
            self._queue_step(index)

    def _is_here(self, image: int) -> bool:
        if (
            image not in self._fetched
            and image not in self._fetching
            and self._executor.available(self._vertices[image])
        ):
            self._fetched.add(image)
        return image in self._fetched

    def _base(self, index: int) -> int | None:
        """The image at the bottom of a vertex's layers."""
        while not isinstance(self._vertices[index].op, ImageOp):
            inputs = self._inputs(index)
            if not inputs or self._results[index] is None:
                return None
            index = inputs[0]
        return index

    def _inputs(self, index: int) -> tuple[int, ...]:
        return tuple(self._same[source] for source in self._vertices[index].inputs)

    def _parameters(self, index: int) -> tuple[tuple[Vertex, ...], tuple[Result | None, ...]]:
        inputs = self._inputs(index)
        return tuple(self._vertices[source] for source in inputs), tuple(self._results[source] for source in inputs)

    # Work in threads

    def _queue_step(self, index: int) -> None:
        vertex, key = self._vertices[index], self._keys[index]
        sources, inputs = self._parameters(index)

        def work() -> _Outcome:
            self._cache.begin()
            content = self._executor.content_key(vertex, sources, inputs)
            record = self._lookup(vertex, content) if content else None
            if record is not None:
                self._cache.store(key, record)
                return _Outcome(index, record, cached=True)
            reuse = self._reuse(vertex, inputs, content or key)
            if reuse is not None:
                record, reason = reuse.record, Explanation(reuse.sentence)
            else:  # explained before it runs: later, its own record would be the nearest one
                reason = self._reason(vertex, key, content)
                try:
                    record = self._executor.run(vertex, sources, inputs, content or key, self._step(index))
                except Exception as error:  # raised by the calling thread, when it has said why the step ran
                    return _Outcome(index, reason=reason, error=error)
            for name in (key, content):
                if name is not None:
                    self._cache.store(name, record)
            return _Outcome(index, record, reuse is not None, reason)

        self._backlog.append((index, work))

    def _reuse(self, vertex: Vertex, inputs: Inputs, key: Key) -> Reuse | None:
        """What an earlier run over other files made, unless it may not be used or has grown too old."""
        found = None if vertex.ignore_cache else self._executor.reuse(vertex, inputs, key)
        return None if found is not None and found.record.expired(vertex.max_age) else found

    def _lookup(self, vertex: Vertex, key: Key) -> Record | None:
        """The cache's record, unless it may not be used or has grown too old."""
        record = None if vertex.ignore_cache else self._cache.lookup(key)
        return None if record is not None and record.expired(vertex.max_age) else record

    def _reason(self, vertex: Vertex, key: Key, content: Key | None) -> Explanation:
        """Why nothing of the cache was used. `content` names what the step reads of other stages by its files."""
        if vertex.max_age is not None and not vertex.ignore_cache and self._cache.lookup(key) is not None:
            return Explanation(f"its result is older than {vertex.max_age:g} seconds (moldar:ttl)")
        reason = self._cache.explain(key, ignored=vertex.ignore_cache)
        if content is not None and reason.cause == "beside":
            by_files = self._cache.explain(content)
            return reason if by_files.cause else by_files
        return reason

    def _fetch(self, image: int) -> None:
        if image in self._fetching:
            return
        self._fetching[image] = []

        def work() -> _Outcome:
            self._executor.fetch(self._vertices[image], self._step(image))
            return _Outcome(image)

        self._backlog.append((image, work))

    def _step(self, index: int) -> StepContext:
        return StepContext(str(index), self._events, self._cancellation)

    def _start(self, index: int, work: Callable[[], _Outcome]) -> None:
        def run() -> None:
            try:
                outcome = work()
            except BaseException as error:  # handed to the calling thread, which raises it
                outcome = _Outcome(index, error=error)
            self._outcomes.put(outcome)

        self._announced.add(index)
        self._events.publish(VertexStarted(str(index), self._vertices[index].name, time.time()))
        thread = self._active[index] = threading.Thread(target=run, name=f"step-{index}", daemon=True)
        thread.start()

    def _take(self, outcome: _Outcome) -> None:
        index = outcome.vertex
        self._active.pop(index).join()
        error = str(outcome.error) if outcome.error else ""
        if outcome.cached:
            self._pass_on_cause(index)
        sentence, details, _ = outcome.reason if outcome.cached else self._cause(index, outcome.reason)
        self._events.publish(VertexCompleted(str(index), time.time(), outcome.cached, error, sentence, details))
        if outcome.error:
            raise outcome.error
        if outcome.record is None:
            self._release(index)
            return
        digest = self._keys[index].digest
        self._made[digest] = outcome.record
        self._finish_step(index, outcome.record)
        self._ready += self._in_flight.pop(digest)

    def _cause(self, index: int, reason: Explanation) -> Explanation:
        """Why a step ran; when it only follows another one that ran, why that one did."""
        first = self._to_blame(index, reason.cause)
        if first is not None:
            self._causes[index] = first
            return reason._replace(sentence=f"follows from: {first[0]}")
        if reason.sentence:
            name = self._vertices[index].name.rpartition("] ")[2]
            self._causes[index] = f"{name} {reason.sentence}", reason.cause
        return reason

    def _pass_on_cause(self, index: int) -> None:
        """A step that was reused over other layers is none of the reasons for what follows; what is below it is."""
        below = self._to_blame(index, "below")
        if below is not None:
            self._causes[index] = below

    def _to_blame(self, index: int, cause: str) -> tuple[str, str] | None:
        """The first cause among the steps that this one builds on or reads from."""
        if not cause:
            return None
        inputs = self._inputs(index)
        for source in inputs[1:] if cause == "beside" else inputs[:1]:
            known = self._causes.get(source)
            if known is not None and (cause in ("below", "beside") or known[1] == "evicted"):
                return known
        return None

    def _release(self, image: int) -> None:
        self._fetched.add(image)
        for index in self._fetching.pop(image):
            self._blocked[index] -= 1
            if not self._blocked[index]:
                self._queue_step(index)

    def _stop(self) -> None:
        """Cancel what runs, wait for it, and say so for each."""
        self._cancellation.cancel()
        while self._active:
            outcome = self._outcomes.get()
            self._active.pop(outcome.vertex).join()
            said = "" if outcome.error is None else "cancelled"
            self._events.publish(VertexCompleted(str(outcome.vertex), time.time(), error=said))

    # Results

    def _finish_step(self, index: int, record: Record) -> None:
        inputs = self._inputs(index)
        below = self._results[inputs[0]] if inputs else None
        layers = (below.layers if below else ()) + record.layers
        copied = below.copied if below else frozenset()
        if isinstance(self._vertices[index].op, CopyOp | WorkdirOp):
            copied |= set(range(len(layers) - len(record.layers), len(layers)))
        self._finish(index, Result(layers, record.identity, record.created, copied))

    def _finish(self, index: int, result: Result | None) -> None:
        self._results[index] = result
        for consumer in self._consumers[index]:
            self._missing[consumer] -= 1
            if not self._missing[consumer]:
                self._ready.append(consumer)

    def _announce_cached(self, index: int) -> None:
        if index in self._announced:
            return
        self._announced.add(index)
        now = time.time()
        self._events.publish(VertexStarted(str(index), self._vertices[index].name, now))
        self._events.publish(VertexCompleted(str(index), now, cached=True))


def _merge_equal(vertices: Sequence[Vertex]) -> list[int]:
    """For each vertex the index of the first one that asks the same of the same inputs."""
    first: dict[object, int] = {}
    same: list[int] = []
    for index, vertex in enumerate(vertices):
        inputs = tuple(same[source] for source in vertex.inputs)
        same.append(first.setdefault(question(vertex._replace(inputs=inputs)), index))
    return same


def _reachable(vertices: Sequence[Vertex], same: Sequence[int], targets: Sequence[int]) -> list[int]:
    found: set[int] = set()
    rest = list(targets)
    while rest:
        index = rest.pop()
        if index not in found:
            found.add(index)
            rest += (same[source] for source in vertices[index].inputs)
    return sorted(found)
