"""What the solver deals in (results, keys, records) and whom it asks: the cache, the executor, the event sink."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from moldar.builder.graph import Vertex
from moldar.builder.progress import EventSink
from moldar.errors import StepFailed
from moldar.image.model import Digest

BELOW = "the files below it"
"""What the parts of a key call the root file system that a step starts from."""


class Result(NamedTuple):
    """A root file system. `layers` are (diff ID, bytes of the tar), lowest first.

    `identity` names its content, modification times apart; `created` is when its top layer was made (seconds since
    the epoch, 0 when unknown). `copied` are the positions of the layers that this build made of files from elsewhere,
    and not by running a process.
    """

    layers: tuple[tuple[Digest, int], ...]
    identity: Digest
    created: float = 0.0
    copied: frozenset[int] = frozenset()


class Key(NamedTuple):
    """What names a step in the cache. `parts` describe it for a person: (what, value) in order of importance.

    `step` names the step across changes of its inputs, so that the nearest earlier record can be found.
    """

    digest: Digest
    parts: tuple[tuple[str, str], ...] = ()
    step: str = ""


class Record(NamedTuple):
    """What the cache keeps of a step: the layers that it added, the identity of its result, and when it ran.

    `snapshots[i]` is the key of layer i's snapshot, where that is not its diff ID.
    """

    layers: tuple[tuple[Digest, int], ...]
    identity: Digest
    created: float = 0.0
    snapshots: tuple[str, ...] = ()

    def expired(self, max_age: float | None) -> bool:
        """Whether it is older than `max_age` seconds; None means any age."""
        return max_age is not None and time.time() - self.created >= max_age


class Reuse(NamedTuple):
    """What an earlier run of a step over other files made, and in a person's words why it is right for these, too."""

    record: Record
    sentence: str


class Explanation(NamedTuple):
    """Why a step runs, in a person's words: one sentence, and each difference as a clause.

    `cause` says when another step may be to blame: below (the root is another one), beside (what it reads from
    another stage is), evicted or new (then what ran before it may have been evicted too).
    """

    sentence: str = ""
    details: tuple[str, ...] = ()
    cause: str = ""


class Cache(Protocol):
    """Remembers steps. `lookup` answers only with records whose layers are still there."""

    def lookup(self, key: Key) -> Record | None: ...

    def store(self, key: Key, record: Record) -> None: ...

    def begin(self) -> None:
        """A step is about to run, so that the build may last: keep what was found."""
        ...

    def explain(self, key: Key, *, ignored: bool = False) -> Explanation:
        """Why nothing was found for `key`; `ignored` when nothing was to be looked for."""
        ...


class Cancelled(StepFailed):
    """A step stopped because the build does."""

    def __init__(self) -> None:
        super().__init__("cancelled")


class Cancellation:
    """Tells running steps to stop. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self.cancelled = False

    def cancel(self) -> None:
        """Call every attached callback, once."""
        with self._lock:
            self.cancelled = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def check(self) -> None:
        """Raise Cancelled when it is time to stop."""
        if self.cancelled:
            raise Cancelled

    def attach(self, callback: Callable[[], None]) -> None:
        """Call `callback` on cancellation, at once when that has already happened."""
        with self._lock:
            if not self.cancelled:
                self._callbacks.append(callback)
                return
        callback()

    def detach(self, callback: Callable[[], None]) -> None:
        """Forget `callback`."""
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)


class StepContext(NamedTuple):
    """What a running step is given besides its inputs: `id` for its events, where they go, and when to stop."""

    id: str
    events: EventSink
    cancellation: Cancellation


Inputs = Sequence[Result | None]
"""Results of a vertex's inputs, in order; None for sources (contexts, files), which have no root file system."""


class Executor(Protocol):
    """Does the work. Methods raise MoldarError for what a person can cause, located in the Dockerfile.

    The solver calls `identify`, `fast_key`, `available` and `needs` in its own thread, the others in workers.
    """

    def identify(self, vertex: Vertex) -> Result | None:
        """The result of a vertex that is known without work (scratch, image); None for a step or a source."""
        ...

    def is_source(self, vertex: Vertex) -> bool:
        """Whether the vertex has no root file system of its own, but is read by the steps that use it."""
        ...

    def fast_key(self, vertex: Vertex, sources: Sequence[Vertex], inputs: Inputs) -> Key:
        """The step's cache key; `sources` are the vertices of its inputs, in order."""
        ...

    def content_key(self, vertex: Vertex, sources: Sequence[Vertex], inputs: Inputs) -> Key | None:
        """A second key that looks into the inputs and may mount them; None when the step has no other key."""
        ...

    def needs(self, vertex: Vertex) -> Sequence[int]:
        """Positions of the inputs whose layers must be there to run the step or to look into its inputs."""
        ...

    def available(self, vertex: Vertex) -> bool:
        """Whether an image's layers are all here."""
        ...

    def fetch(self, vertex: Vertex, step: StepContext) -> None:
        """Make an image's layers available."""
        ...

    def reuse(self, vertex: Vertex, inputs: Inputs, key: Key) -> Reuse | None:
        """What an earlier run over other files made, if running the step would make it again; `key` as for `run`."""
        ...

    def run(self, vertex: Vertex, sources: Sequence[Vertex], inputs: Inputs, key: Key, step: StepContext) -> Record:
        """Run the step. `key` is its content key, or its fast key when it has no other."""
        ...
