"""Keeps what a step's process prints: whole in a file, and as events for whoever watches."""

import os
import threading
import time

from moldar.builder.progress import EventSink, VertexLog

_CHUNK = 65536


class StepLog:
    """Two pipes for a process (`stdout`, `stderr` are the file descriptors to give it), drained by two threads.

    Everything goes to `path` in the order of arrival and to `events` as VertexLog. `close` must be called when the
    process has ended; it returns when all is written.
    """

    def __init__(self, path: str, vertex: str, events: EventSink) -> None:
        self.path = path
        self._vertex = vertex
        self._events = events
        self.trouble = ""
        self._lock = threading.Lock()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        ends = [os.pipe2(os.O_CLOEXEC) for _ in range(2)]
        self.stdout, self.stderr = ends[0][1], ends[1][1]
        self._threads = [
            threading.Thread(target=self._drain, args=(ends[stream - 1][0], stream), daemon=True) for stream in (1, 2)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Close our ends, wait for the rest of the output, and close the file."""
        for descriptor in (self.stdout, self.stderr):
            os.close(descriptor)
        for thread in self._threads:
            thread.join()
        os.close(self._file)

    def _drain(self, descriptor: int, stream: int) -> None:
        try:
            while data := os.read(descriptor, _CHUNK):
                self._keep(data)
                self._events.publish(VertexLog(self._vertex, stream, data, time.time()))
        finally:
            os.close(descriptor)

    def _keep(self, data: bytes) -> None:
        """A log that cannot be written (a full disk) must not stop the process that prints."""
        rest = memoryview(data)
        with self._lock:
            try:
                while rest:
                    rest = rest[os.write(self._file, rest) :]
            except OSError as error:
                self.trouble = error.strerror or str(error)
