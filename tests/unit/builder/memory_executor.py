"""An executor and a cache that live in memory: the smallest honest implementations of the solver's Protocols.

A RunOp's argv says what it does: ("write", text) adds a layer holding the text, ("fail",) fails, ("wait",) lasts
until it is cancelled, ("meet", n) lasts until n such steps run at the same time. A CopyOp adds a layer naming the
identities that it copies from.
"""

import threading
from collections.abc import Sequence

from moldar.builder.graph import ContextOp, CopyOp, ImageOp, InlineOp, RunOp, ScratchOp, Vertex, definition
from moldar.builder.progress import Event
from moldar.builder.solver import Explanation, Inputs, Key, Record, Result, Reuse, StepContext
from moldar.errors import StepFailed
from moldar.image.model import digest_of


class ListSink:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def publish(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


class MemoryCache:
    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.lookups = 0
        self.begun = False
        self.explained: list[str] = []

    def lookup(self, key: Key) -> Record | None:
        self.lookups += 1
        return self.records.get(key.digest)

    def store(self, key: Key, record: Record) -> None:
        self.records[key.digest] = record

    def begin(self) -> None:
        self.begun = True

    def explain(self, key: Key, *, ignored: bool = False) -> Explanation:
        self.explained.append(key.step)
        return Explanation("ran because of --no-cache" if ignored else f"{key.step} was never run")


class MemoryExecutor:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.ran: list[str] = []
        self.fetched: list[str] = []
        self.here: set[str] = set()
        self.threads: set[str] = set()
        self.running = 0
        self.most = 0
        self.meeting = threading.Condition(self.lock)
        self.context = "content"
        self.reuses: dict[str, Reuse] = {}

    def identify(self, vertex: Vertex) -> Result | None:
        if isinstance(vertex.op, ScratchOp):
            return Result((), digest_of(b""))
        if isinstance(vertex.op, ImageOp):
            layers = tuple((diff_id, 1) for diff_id in vertex.op.diff_ids)
            return Result(layers, digest_of(repr(vertex.op.diff_ids).encode()))
        return None

    def is_source(self, vertex: Vertex) -> bool:
        return isinstance(vertex.op, ContextOp | InlineOp)

    def fast_key(self, vertex: Vertex, sources: Sequence[Vertex], inputs: Inputs) -> Key:
        parts = [definition(vertex.op), *(result.identity if result else self.context for result in inputs)]
        return Key(digest_of(" ".join(parts).encode()), (("command", vertex.name),), vertex.name)

    def content_key(self, vertex: Vertex, sources: Sequence[Vertex], inputs: Inputs) -> Key | None:
        if not isinstance(vertex.op, CopyOp) or self.is_source(sources[-1]):
            return None
        copied = "".join(sorted(size_of_identity for size_of_identity in self._contents(inputs[-1])))
        assert inputs[0] is not None
        return Key(digest_of(f"{definition(vertex.op)} {inputs[0].identity} {copied}".encode()))

    def _contents(self, result: Result | None) -> set[str]:
        return {f"{size}" for _, size in result.layers} if result else set()

    def needs(self, vertex: Vertex) -> Sequence[int]:
        return range(len(vertex.inputs))

    def available(self, vertex: Vertex) -> bool:
        assert isinstance(vertex.op, ImageOp)
        return vertex.op.reference in self.here

    def fetch(self, vertex: Vertex, step: StepContext) -> None:
        assert isinstance(vertex.op, ImageOp)
        with self.lock:
            self.fetched.append(vertex.op.reference)

    def reuse(self, vertex: Vertex, inputs: Inputs, key: Key) -> Reuse | None:
        with self.lock:
            return self.reuses.get(vertex.name)

    def run(self, vertex: Vertex, sources: Sequence[Vertex], inputs: Inputs, key: Key, step: StepContext) -> Record:
        with self.lock:
            self.ran.append(vertex.name)
            self.threads.add(threading.current_thread().name)
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            return self._act(vertex, key, step)
        finally:
            with self.lock:
                self.running -= 1

    def _act(self, vertex: Vertex, key: Key, step: StepContext) -> Record:
        args = vertex.op.args if isinstance(vertex.op, RunOp) else ("write", vertex.name)
        if args[0] == "fail":
            raise StepFailed(f"{vertex.name} failed")
        if args[0] == "wait":
            stop = threading.Event()
            step.cancellation.attach(stop.set)
            assert stop.wait(10)
            raise StepFailed(f"{vertex.name} was stopped")
        if args[0] == "meet":
            with self.meeting:
                self.meeting.notify_all()
                assert self.meeting.wait_for(lambda: self.most >= int(args[1]), 10)
        text = args[1] if len(args) > 1 else vertex.name
        diff_id = digest_of(text.encode())
        return Record(((diff_id, len(text)),), digest_of(f"{key.digest} {diff_id}".encode()), 1.0)
