"""The live picture on a terminal: redrawn in place ten times a second while something runs, once at the end."""

import sys
import threading
import time

from moldar.builder.progress import Event
from moldar.cli import environment
from moldar.cli.progress.display import YELLOW, Display

INTERVAL = 0.1
HIDE_CURSOR, SHOW_CURSOR, CLEAR_BELOW = "\x1b[?25l", "\x1b[?25h", "\x1b[J"


class Terminal:
    """Draws on stderr. A build shorter than one interval is drawn only once."""

    def __init__(self, title: str) -> None:
        self._display = Display(title, colour=environment.wants_colour())
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._ticker: threading.Thread | None = None
        self._drawn = 0

    def publish(self, event: Event) -> None:
        with self._lock:
            self._display.apply(event)
            if self._ticker is None:
                self._ticker = threading.Thread(target=self._tick, daemon=True)
                self._ticker.start()

    def close(self, error: str = "") -> None:
        self._closed.set()
        if self._ticker is not None:
            self._ticker.join()
        if not self._display.steps:
            return
        with self._lock:
            self._draw(final=True)
            sys.stderr.write("".join(line + "\n" for line in self._display.failures()))
            self._write_warnings()
            sys.stderr.flush()

    def _tick(self) -> None:
        while not self._closed.wait(INTERVAL):
            with self._lock:
                self._draw(final=False)

    def _draw(self, *, final: bool) -> None:
        width, height = environment.terminal_size()
        lines = self._display.lines(width, height, time.time(), final=final)
        up = f"\x1b[{self._drawn}A\r" if self._drawn else ""
        cursor = SHOW_CURSOR if final else HIDE_CURSOR
        sys.stderr.write(cursor + up + CLEAR_BELOW + "\n".join(lines) + "\n")
        sys.stderr.flush()
        self._drawn = 0 if final else len(lines)

    def _write_warnings(self) -> None:
        warnings = self._display.warnings
        if not warnings:
            return
        plural = "s" if len(warnings) > 1 else ""
        heading = f"\n {len(warnings)} warning{plural} found:"
        colour, reset = (YELLOW, "\x1b[0m") if self._display.colour else ("", "")
        sys.stderr.write(f"{colour}{heading}{reset}\n")
        for warning in warnings:
            where = f" (line {warning.line})" if warning.line else ""
            rule = f"{warning.rule}: " if warning.rule else ""
            sys.stderr.write(f" - {rule}{warning.message}{where}\n")
