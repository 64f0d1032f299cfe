"""`moldar build --explain`: after the picture, why each step ran or did not, with all that differed."""

import sys
import threading

from moldar.builder.progress import Event, VertexCompleted, VertexStarted
from moldar.cli.progress import Renderer


class Explained:
    """Passes everything on to another renderer and tells the reasons when the build has ended."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self._lock = threading.Lock()
        self._names: dict[str, str] = {}
        self._ended: dict[str, VertexCompleted] = {}

    def publish(self, event: Event) -> None:
        with self._lock:
            if isinstance(event, VertexStarted):
                self._names[event.id] = event.name
            elif isinstance(event, VertexCompleted):
                self._ended[event.id] = event
        self._renderer.publish(event)

    def close(self, error: str = "") -> None:
        self._renderer.close(error)
        with self._lock:
            steps = [(self._names[name], self._ended.get(name)) for name in self._names]
        lines = [line for name, ended in steps if _is_step(name) for line in explanation(name, ended)]
        if lines:
            sys.stderr.write("\n" + "\n".join(lines) + "\n")
            sys.stderr.flush()


def explanation(name: str, ended: VertexCompleted | None) -> list[str]:
    """The lines about one step: what became of it, and each difference."""
    if ended is None:
        return [f"{name}: did not end"]
    if ended.error:
        said = f"failed: {ended.reason}" if ended.reason else "failed"
    elif ended.cached:
        said = ended.reason or "cached: nothing changed"
    else:
        said = ended.reason or "ran"
    details = [detail for detail in ended.details if not said.endswith(f"ran because {detail}")]
    return [f"{name}: {said}", *(f"    {detail}" for detail in details)]


def _is_step(name: str) -> bool:
    return name.startswith("[") and not name.startswith("[internal]")
