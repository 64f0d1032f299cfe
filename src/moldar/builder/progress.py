"""What a build tells while it works: immutable events, published to whoever draws or keeps them.

Every front (terminal, plain lines, JSON, the build's history) draws from this one stream. Times are seconds since
the epoch.
"""

from typing import NamedTuple, Protocol


class VertexStarted(NamedTuple):
    """Work on a vertex began. `id` is unique within the build; `name` is what a person reads."""

    id: str
    name: str
    time: float


class VertexCompleted(NamedTuple):
    """Work on a vertex ended. `cached` when its result was reused, `error` when it failed.

    `reason` is a sentence that says why it ran, or why it was reused although something changed; `details` are all
    differences that led to it.
    """

    id: str
    time: float
    cached: bool = False
    error: str = ""
    reason: str = ""
    details: tuple[str, ...] = ()


class VertexStatus(NamedTuple):
    """Progress of one part of a vertex, such as a layer being pulled; bytes, `total` 0 when unknown."""

    id: str
    part: str
    current: int
    total: int
    time: float
    completed: bool = False


class VertexLog(NamedTuple):
    """Output of the vertex's process. `stream` is 1 for stdout, 2 for stderr."""

    id: str
    stream: int
    data: bytes
    time: float


class Warned(NamedTuple):
    """Something that deserves attention and does not stop the build. `line` is 0 when it has none."""

    rule: str
    message: str
    line: int = 0
    detail: str = ""
    url: str = ""


Event = VertexStarted | VertexCompleted | VertexStatus | VertexLog | Warned


class EventSink(Protocol):
    """Takes events from any thread, in the order in which each thread sends them."""

    def publish(self, event: Event) -> None: ...
