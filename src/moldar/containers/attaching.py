"""Being attached to a container: a terminal or pipes on this side, its monitor on the other."""

import os
import selectors
import signal
import socket
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from moldar.containers import wire
from moldar.errors import HostTrouble

_CHUNK = 65536
_MOST_WAITING = 1 << 20
_DETACH = b"\x10\x11"
"""Ctrl-P Ctrl-Q, as Docker's detach keys."""
_PROXIED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class MonitorLost(HostTrouble):
    """The container's monitor ended without saying how the container did."""

    def __init__(self) -> None:
        super().__init__("lost the container: its monitor was killed", hint="`moldar ps -a` shows its state")


class Ending(NamedTuple):
    """How being attached ended. `detached` when the person left by the detach keys: no exit code yet."""

    exit_code: int
    detached: bool = False


class Attachment:
    """A connection to a container's monitor."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reader = wire.FrameReader()
        self._outgoing = bytearray()
        self._stdin = -1
        self._typed_detach = False

    def subscribe(self) -> None:
        """Ask for the container's output from now on."""
        self._connection.sendall(wire.frame(wire.SUBSCRIBE))

    def close(self) -> None:
        """Leave; the container goes on."""
        self._connection.close()

    def wait(self) -> int:
        """The container's exit code when it has ended, with its output left to others. MonitorLost."""
        try:
            while data := self._receive():
                for kind, payload in self._reader.feed(data):
                    if kind == wire.EXIT:
                        return int(payload)
        finally:
            self._connection.close()
        raise MonitorLost

    def pump(
        self, stdin: int, stdout: int, stderr: int, *, terminal: bool = False, proxy_signals: bool = True
    ) -> Ending:
        """Move bytes between the descriptors and the container until it ends. `stdin` -1: no input.

        `terminal`: `stdin` is a terminal to be put into raw mode while attached, and its size is passed on.
        `proxy_signals`: signals that reach this process go to the container instead (main thread only).
        """
        with _raw(stdin if terminal else -1), _signals(self._note_signal, proxy_signals, terminal) as waking:
            try:
                if terminal:
                    self._send_size(stdin)
                return self._pump(stdin, stdout, stderr, terminal, waking)
            finally:
                self._connection.close()

    def _pump(self, stdin: int, stdout: int, stderr: int, terminal: bool, waking: socket.socket) -> Ending:
        self._stdin = stdin
        with selectors.DefaultSelector() as selector:
            while True:
                for key in list(selector.get_map().values()):
                    selector.unregister(key.fileobj)
                writing = selectors.EVENT_WRITE if self._outgoing else 0
                selector.register(self._connection, selectors.EVENT_READ | writing, "monitor")
                selector.register(waking, selectors.EVENT_READ, "signal")
                if self._stdin >= 0 and len(self._outgoing) < _MOST_WAITING:
                    ending = self._watch_stdin(selector)
                    if ending:
                        continue
                for key, events in selector.select():
                    if key.data == "signal":
                        waking.recv(_CHUNK)
                    elif key.data == "stdin":
                        if self._take_stdin(terminal):
                            return Ending(0, True)
                    elif (code := self._serve(events, stdout, stderr)) is not None:
                        return Ending(code)

    def _watch_stdin(self, selector: selectors.BaseSelector) -> bool:
        """Waits for input; True when that is a file, which cannot be waited for and was taken at once."""
        try:
            selector.register(self._stdin, selectors.EVENT_READ, "stdin")
        except PermissionError:
            self._take_stdin(False)
            return True
        return False

    def _take_stdin(self, terminal: bool) -> bool:
        """Passes input on; True when it held the detach keys."""
        try:
            data = os.read(self._stdin, _CHUNK)
        except OSError:
            data = b""
        if not data:
            self._outgoing += wire.frame(wire.STDIN_END)
            self._stdin = -1
            return False
        if terminal and (_DETACH in data or (self._typed_detach and data.startswith(_DETACH[1:]))):
            return True
        self._typed_detach = terminal and data.endswith(_DETACH[:1])
        self._outgoing += wire.frame(wire.STDIN, data)
        return False

    def _serve(self, events: int, stdout: int, stderr: int) -> int | None:
        """Exchanges what is ready with the monitor; the exit code once it comes."""
        if events & selectors.EVENT_WRITE:
            self._send()
        if not events & selectors.EVENT_READ:
            return None
        data = self._receive()
        if not data:
            raise MonitorLost
        for kind, payload in self._reader.feed(data):
            if kind == wire.EXIT:
                return int(payload)
            _write_all(stderr if kind == wire.STDERR else stdout, payload)
        return None

    def _send(self) -> None:
        try:
            del self._outgoing[: self._connection.send(self._outgoing, socket.MSG_DONTWAIT)]
        except BlockingIOError:
            return
        except OSError:  # the monitor has closed its end; how the container ended is there to be read
            self._outgoing.clear()
            self._stdin = -1

    def _receive(self) -> bytes:
        """What the monitor sent. If it left input unread, the kernel says so before its last words."""
        for _ in range(2):
            try:
                return self._connection.recv(_CHUNK)
            except OSError:
                self._stdin = -1
        return b""

    def _note_signal(self, number: int) -> None:
        if number == signal.SIGWINCH:
            self._send_size(self._stdin)
        else:
            self._outgoing += wire.frame(wire.SIGNAL, str(number).encode())

    def _send_size(self, stdin: int) -> None:
        try:
            columns, rows = os.get_terminal_size(stdin)
        except OSError:
            return
        self._outgoing += wire.resize_frame(rows, columns)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


@contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    """The terminal in raw mode, put back afterwards."""
    if descriptor < 0 or not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor, termios.TCSANOW)  # what was typed ahead stays
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextmanager
def _signals(note: Callable[[int], None], proxy: bool, terminal: bool) -> Iterator[socket.socket]:
    """`note` instead of what signals do otherwise. The socket given becomes readable when there was one."""
    waking, wake = socket.socketpair()
    wake.setblocking(False)
    numbers = [*(_PROXIED if proxy else ()), *([signal.SIGWINCH] if terminal else [])]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    before = {number: signal.signal(number, lambda got, _: note(got)) for number in numbers}
    woken = signal.set_wakeup_fd(wake.fileno()) if numbers else -1
    try:
        yield waking
    finally:
        if numbers:
            signal.set_wakeup_fd(woken)
        for number, action in before.items():
            signal.signal(number, action)
        waking.close()
        wake.close()
