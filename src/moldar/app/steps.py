"""The runners of build steps, put together when the first step must really run: those of COPY, ADD and WORKDIR.

What a RUN needs more is in `run_steps` and imported for one that runs; one that is reused does without.
"""

import threading

from moldar.app.engine import Engine
from moldar.app.requests import BuildRequest
from moldar.builder.copied_trees import StoredTrees
from moldar.builder.executor import StepRunner
from moldar.builder.graph import CopyOp, RunOp, WorkdirOp
from moldar.builder.ops import CopyRunner, Stack, WorkdirRunner, Workshop
from moldar.builder.progress import EventSink
from moldar.builder.read_sets import Kept, Lookup, ReadSets
from moldar.builder.sources import Sources
from moldar.sandbox.unpacked import Unpacked, known_unpacked


class LazyRunners:
    """Runners by kind of step; `read_sets` finds what can be reused, None when only exact keys count.

    Safe for threads.
    """

    def __init__(
        self,
        engine: Engine,
        request: BuildRequest,
        sources: Sources,
        build: str,
        *,
        events: EventSink,
        kept: Kept,
        lookup: Lookup,
    ) -> None:
        self._events = events
        self._engine = engine
        self._request = request
        self._build = build
        self._lock = threading.Lock()
        self._shop = Workshop(
            engine.blobs,
            engine.layers,
            _unpacked(engine),
            _Unpacking(engine),
            sources,
            engine.lease.protect,
            engine.home.ingest,
        )
        self.read_sets = None if request.exact_cache else ReadSets(kept, lookup, StoredTrees(self._shop))
        self._runners: dict[type, StepRunner] = {
            CopyOp: CopyRunner(self._shop),
            WorkdirOp: WorkdirRunner(self._shop),
        }

    def get(self, kind: type) -> StepRunner:
        """The runner for steps of that kind."""
        with self._lock:
            if kind not in self._runners:
                assert kind is RunOp, f"no runner for {kind}"
                from moldar.app.run_steps import run_runner

                self._runners[kind] = run_runner(
                    self._engine, self._request, self._build, self._shop, self.read_sets, events=self._events
                )
            return self._runners[kind]


class _Unpacking:
    """Unpacks layers with the engine's machinery, which is loaded for it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def unpacked(self, stack: Stack) -> None:
        from moldar.app.machinery import machinery

        machinery(self._engine).forms.unpacked(stack)


def _unpacked(engine: Engine) -> Unpacked:
    known = known_unpacked(engine.home.snapshots)
    if known is not None:
        return known
    from moldar.app.machinery import machinery

    return machinery(engine).snapshots
