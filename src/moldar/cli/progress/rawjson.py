"""One JSON object a line, for programs: the build's events as they are."""

import base64
import json
import sys
import threading
from typing import Any

from moldar.builder.progress import Event, VertexLog


class RawJson:
    """Writes `{"event": NAME, ...fields}` to stderr; log bytes are base64."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def publish(self, event: Event) -> None:
        document: dict[str, Any] = {"event": type(event).__name__, **event._asdict()}
        if isinstance(event, VertexLog):
            document["data"] = base64.b64encode(event.data).decode()
        with self._lock:
            sys.stderr.write(json.dumps(document) + "\n")

    def close(self, error: str = "") -> None:
        if error:
            sys.stderr.write(json.dumps({"event": "Failed", "error": error}) + "\n")
        sys.stderr.flush()
