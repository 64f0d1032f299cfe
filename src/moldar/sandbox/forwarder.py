"""Forwarding host ports into a container's network name space, where pasta cannot do it.

One thread moves all bytes with a selector. A connection to the container is a socket made inside its name space; once
made, it can be used from outside.
"""

import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from moldar.sandbox.ports import PortMapping, bind_host_port

Enter = Callable[[Callable[[], None]], None]
"""Does something inside the container's name space."""
_CHUNK = 65536
_MOST_PENDING = 1 << 20
_UDP_IDLE = 60.0


class Forwarder:
    """Listens on the host side of `ports` from the moment it is made until `close`. PortTaken, CannotBind."""

    def __init__(self, ports: Iterable[PortMapping], enter: Enter, address: str) -> None:
        self._enter = enter
        self._address = address
        self._selector = selectors.DefaultSelector()
        self._waking, self._wake = socket.socketpair()
        self._selector.register(self._waking, selectors.EVENT_READ, None)
        self._open: set[socket.socket] = set()
        try:
            for mapping in ports:
                self._listen(mapping)
        except BaseException:
            self._close_all()
            raise
        self._thread = threading.Thread(target=self._serve, name="forwarder", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and cut all connections. Harmless when repeated."""
        if self._wake.fileno() < 0:
            return
        self._wake.send(b"x")
        self._thread.join()
        self._close_all()

    def inside(self, kind: socket.SocketKind) -> socket.socket:
        """A new socket in the container's name space."""
        made: list[socket.socket] = []
        self._enter(lambda: made.append(socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK)))
        return made[0]

    def watch(self, handle: socket.socket, events: int, action: Callable[[int], None]) -> None:
        """Call `action` with what `handle` is ready for; 0 events: do not watch for now."""
        self._open.add(handle)
        with suppress(KeyError):
            self._selector.unregister(handle)
        if events:
            self._selector.register(handle, events, action)

    def drop(self, handle: socket.socket) -> None:
        """Close `handle` and forget it."""
        with suppress(KeyError):
            self._selector.unregister(handle)
        self._open.discard(handle)
        handle.close()

    def _listen(self, mapping: PortMapping) -> None:
        listener = bind_host_port(mapping)
        listener.setblocking(False)
        target = (self._address, mapping.container_port)
        if mapping.protocol == "udp":
            flows = _Flows(self, listener, target)
            self.watch(listener, selectors.EVENT_READ, flows.incoming)
        else:
            self.watch(listener, selectors.EVENT_READ, lambda _: self._accept(listener, target))

    def _accept(self, listener: socket.socket, target: tuple[str, int]) -> None:
        with suppress(OSError):
            outside, _ = listener.accept()
            outside.setblocking(False)
            inside = self.inside(socket.SOCK_STREAM)
            with suppress(BlockingIOError):
                inside.connect(target)
            _Connection(self, outside, inside)

    def _serve(self) -> None:
        while True:
            for key, events in self._selector.select():
                if key.data is None:
                    return
                if key.fileobj in self._open:
                    key.data(events)

    def _close_all(self) -> None:
        for handle in [*self._open, self._waking, self._wake]:
            handle.close()
        self._selector.close()


class _Connection:
    """A TCP connection through the forwarder: two sockets and what is on its way to each."""

    def __init__(self, forwarder: Forwarder, outside: socket.socket, inside: socket.socket) -> None:
        self._forwarder = forwarder
        self._ends = (outside, inside)
        self._pending = (bytearray(), bytearray())  # bytes on their way to each end
        self._ended = [False, False]  # whether the end will send no more
        self._connected = False
        self._update()

    def _ready(self, end: int, events: int) -> None:
        try:
            if end == 1 and not self._connected:
                self._connected = True
                error = self._ends[1].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error:
                    raise OSError(error, "connect")
            if events & selectors.EVENT_WRITE:
                self._send(end)
            if events & selectors.EVENT_READ:
                self._receive(end)
            self._update()
        except OSError:
            self._drop()

    def _send(self, end: int) -> None:
        pending = self._pending[end]
        if pending:
            with suppress(BlockingIOError):
                del pending[: self._ends[end].send(pending)]
        if not pending and self._ended[1 - end]:
            with suppress(OSError):
                self._ends[end].shutdown(socket.SHUT_WR)

    def _receive(self, end: int) -> None:
        with suppress(BlockingIOError):
            data = self._ends[end].recv(_CHUNK)
            if data:
                self._pending[1 - end].extend(data)
            else:
                self._ended[end] = True
            self._send(1 - end)

    def _update(self) -> None:
        if all(self._ended) and not any(self._pending):
            self._drop()
            return
        for end in (0, 1):
            events = 0
            if not self._ended[end] and len(self._pending[1 - end]) < _MOST_PENDING and (end == 0 or self._connected):
                events |= selectors.EVENT_READ
            if self._pending[end] or (end == 1 and not self._connected):
                events |= selectors.EVENT_WRITE
            self._forwarder.watch(self._ends[end], events, lambda ready, end=end: self._ready(end, ready))  # type: ignore[misc]

    def _drop(self) -> None:
        for handle in self._ends:
            self._forwarder.drop(handle)


class _Flows:
    """UDP: for each sender a socket inside, kept until it has been idle for a minute."""

    def __init__(self, forwarder: Forwarder, listener: socket.socket, target: tuple[str, int]) -> None:
        self._forwarder = forwarder
        self._listener = listener
        self._target = target
        self._flows: dict[Any, tuple[socket.socket, float]] = {}

    def incoming(self, _: int) -> None:
        with suppress(OSError):
            data, sender = self._listener.recvfrom(_CHUNK)
            inside = self._flow(sender)
            inside.send(data)

    def _flow(self, sender: Any) -> socket.socket:
        now = time.monotonic()
        for other, (handle, used) in list(self._flows.items()):
            if now - used > _UDP_IDLE and other != sender:
                self._forwarder.drop(handle)
                del self._flows[other]
        if sender in self._flows:
            inside = self._flows[sender][0]
        else:
            inside = self._forwarder.inside(socket.SOCK_DGRAM)
            inside.connect(self._target)
            self._forwarder.watch(inside, selectors.EVENT_READ, lambda _: self._answer(inside, sender))
        self._flows[sender] = (inside, now)
        return inside

    def _answer(self, inside: socket.socket, sender: Any) -> None:
        with suppress(OSError):
            self._listener.sendto(inside.recv(_CHUNK), sender)
