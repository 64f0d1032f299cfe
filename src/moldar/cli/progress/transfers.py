"""Progress of pull and push: a line for each blob, with a bar on a terminal, a line when it is done in a pipe."""

import sys
import threading
import time
from types import TracebackType
from typing import Self

from moldar.cli import environment
from moldar.cli.tables import short_id, size
from moldar.image.model import Descriptor

INTERVAL = 0.1
BAR = 40


class Transfers:
    """Lines on stdout. A context manager: on leaving, the last state is drawn and kept."""

    def __init__(self, *, live: bool, quiet: bool) -> None:
        self._live = live
        self._quiet = quiet
        self._lock = threading.Lock()
        self._lines: dict[str, str] = {}
        self._drawn = 0
        self._time = 0.0

    def __enter__(self) -> Self:
        self._lines, self._drawn = {}, 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if self._live:
                self._draw()

    def pulling(self, descriptor: Descriptor, current: int, total: int, done: bool) -> None:
        """Progress of a blob that is being downloaded; the callback of `image.transfer.copy`."""
        self._take(descriptor, current, total, "Downloading", "Pull complete" if done else "", done=done)

    def pushing(self, descriptor: Descriptor, current: int, total: int, done: bool) -> None:
        """Progress of a blob that is being uploaded."""
        ending = "Pushed" if current else "Layer already exists"
        self._take(descriptor, current, total, "Pushing", ending if done else "", done=done)

    def _take(self, descriptor: Descriptor, current: int, total: int, verb: str, ending: str, *, done: bool) -> None:
        name = short_id(descriptor.digest)
        text = ending or f"{verb} {_bar(current, total)}"
        with self._lock:
            if self._quiet or self._lines.get(name) == text:
                return
            self._lines[name] = text
            if not self._live:
                if done:
                    print(f"{name}: {text}", flush=True)
            elif done or time.monotonic() - self._time > INTERVAL:
                self._draw()

    def _draw(self) -> None:
        self._time = time.monotonic()
        width = environment.terminal_size()[0]
        up = f"\x1b[{self._drawn}A\r\x1b[J" if self._drawn else ""
        lines = [f"{name}: {text}"[:width] for name, text in self._lines.items()]
        sys.stdout.write(up + "".join(line + "\n" for line in lines))
        sys.stdout.flush()
        self._drawn = len(lines)


def choose(*, quiet: bool, terminal: bool) -> Transfers:
    """Bars on a terminal, lines in a pipe, nothing when quiet."""
    return Transfers(live=terminal and not quiet, quiet=quiet)


def _bar(current: int, total: int) -> str:
    if total <= 0:
        return size(current)
    filled = min(BAR, BAR * current // total)
    head = ">" if filled < BAR else ""
    return f"[{'=' * filled}{head:<{BAR - filled}}] {size(current)}/{size(total)}"
