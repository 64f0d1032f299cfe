"""Plain lines for pipes and logs: `#5 [2/4] WORKDIR /app`, `#5 CACHED`, `#6 1.234 output`, `#6 DONE 5.2s`."""

import sys
import threading

from moldar.builder.progress import Event, VertexCompleted, VertexLog, VertexStarted, VertexStatus, Warned
from moldar.cli.tables import size


class Plain:
    """Numbers vertices in the order in which they start and writes every line at once to stderr."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._numbers: dict[str, int] = {}
        self._started: dict[str, VertexStarted] = {}
        self._unfinished: dict[tuple[str, int], bytes] = {}
        self._last: str | None = None

    def publish(self, event: Event) -> None:
        with self._lock:
            lines = self._lines(event)
            if lines:
                sys.stderr.write("\n".join(lines) + "\n")
                sys.stderr.flush()

    def close(self, error: str = "") -> None:
        sys.stderr.flush()

    def _lines(self, event: Event) -> list[str]:
        if isinstance(event, VertexStarted):
            self._count += 1  # more than there are vertices when some are done again
            self._numbers[event.id] = self._count
            self._started[event.id] = event
            return self._under(event.id, [])
        if isinstance(event, VertexLog):
            return self._under(event.id, self._log(event))
        if isinstance(event, VertexCompleted):
            return self._under(event.id, [*self._rest(event), *self._completed(event)])
        if isinstance(event, VertexStatus):
            return self._under(event.id, [f"{event.part} {_amount(event)}done"]) if event.completed else []
        return _warning(event)

    def _under(self, vertex: str, texts: list[str]) -> list[str]:
        """The lines of one vertex, with its heading when another one wrote last."""
        number = self._numbers.get(vertex, 0)
        heading = []
        if self._last != vertex:
            name = self._started[vertex].name if vertex in self._started else vertex
            heading = [*([""] if self._last else []), f"#{number} {name}"]
            self._last = vertex
        return [*heading, *(f"#{number} {text}" for text in texts)]

    def _log(self, event: VertexLog) -> list[str]:
        key = (event.id, event.stream)
        *whole, rest = (self._unfinished.pop(key, b"") + event.data).split(b"\n")
        if rest:
            self._unfinished[key] = rest
        since = event.time - self._started[event.id].time
        return [f"{since:.3f} {_visible(line)}" for line in whole]

    def _rest(self, event: VertexCompleted) -> list[str]:
        rests = [self._unfinished.pop((event.id, stream), b"") for stream in (1, 2)]
        since = event.time - self._started[event.id].time
        return [f"{since:.3f} {_visible(rest)}" for rest in rests if rest]

    def _completed(self, event: VertexCompleted) -> list[str]:
        if event.cached:
            return ["CACHED"]
        reason = [event.reason] if event.reason else []
        if event.error:
            return [*reason, f"ERROR: {event.error}"]
        return [*reason, f"DONE {event.time - self._started[event.id].time:.1f}s"]


def _visible(line: bytes) -> str:
    """A log line without what a carriage return overwrote."""
    return line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="replace")


def _amount(event: VertexStatus) -> str:
    if event.total:
        return f"{size(event.current)} / {size(event.total)} "
    return f"{size(event.current)} " if event.current else ""


def _warning(event: Warned) -> list[str]:
    where = f" (line {event.line})" if event.line else ""
    rule = f"{event.rule}: " if event.rule else ""
    return [f"WARNING: {rule}{event.message}{where}"]
