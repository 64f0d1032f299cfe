"""The monitor's switchboard: a container's output to its log and to everybody attached, their input to the container.

One thread and one selector. Who reads too slowly holds the container up once a megabyte waits for them, as a pipe
would: attached output is never dropped.
"""

import errno
import fcntl
import os
import selectors
import socket
import struct
import termios
import time
from collections.abc import Callable
from contextlib import suppress

from moldar.containers import wire
from moldar.containers.logs import LogWriter

_CHUNK = 65536
_MOST_PENDING = 1 << 20
_DRAIN_SECONDS = 2.0


class Client:
    """Somebody attached."""

    def __init__(self, connection: socket.socket, subscribed: bool) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.reader = wire.FrameReader()
        self.outgoing = bytearray()
        self.subscribed = subscribed


class Relay:
    """Serves until the container's process ends. `send_signal` passes on a signal that a client asks for."""

    def __init__(
        self, server: socket.socket, log: LogWriter, send_signal: Callable[[int], None], clients: list[socket.socket]
    ) -> None:
        self._server = server
        self._log = log
        self._send_signal = send_signal
        self._selector = selectors.DefaultSelector()
        self._outputs: dict[int, str] = {}
        self._clients = [Client(connection, True) for connection in clients]
        self._input = -1
        self._terminal = False
        self._incoming = bytearray()
        self._input_ends = False

    def serve(
        self, process: int, outputs: dict[int, str], stdin: int, release: Callable[[], None], *, terminal: bool
    ) -> None:
        """Move bytes until the process of the pidfd `process` has ended and its output is drained.

        `outputs` are descriptors with their stream's name; `stdin` is that for input, or -1. All are closed.
        `release` lets the process go; before, the size that a client has for its terminal is taken over.
        """
        self._outputs, self._input, self._terminal = dict(outputs), stdin, terminal
        self._incoming.clear()
        for descriptor in {*outputs, *([stdin] if stdin >= 0 else [])}:
            os.set_blocking(descriptor, False)
        for client in list(self._clients):
            self._serve_client(client, selectors.EVENT_READ)
        release()
        ended = False
        deadline = 0.0
        while not ended or (self._outputs and time.monotonic() < deadline):
            self._register(process, ended)
            for key, events in self._selector.select(0.1 if ended else None):
                if key.data == "process":
                    ended, deadline = True, time.monotonic() + _DRAIN_SECONDS
                else:
                    self._handle(key.data, key.fd, events)
        for descriptor in {*self._outputs, *([self._input] if self._input >= 0 else [])}:
            os.close(descriptor)
        self._input = -1
        self._outputs = {}
        self._log.flush()

    def finish(self, exit_code: int) -> None:
        """Tell everybody attached how the container ended, and let them go."""
        for client in self._clients:
            client.outgoing += wire.frame(wire.EXIT, str(exit_code).encode())
            client.connection.setblocking(True)
            client.connection.settimeout(_DRAIN_SECONDS)
            with suppress(OSError):
                client.connection.sendall(client.outgoing)
            client.connection.close()
        self._clients.clear()
        self._selector.close()

    def accept_waiting(self) -> None:
        """Take in who connected meanwhile."""
        with suppress(BlockingIOError):
            while True:
                connection, _ = self._server.accept()
                self._clients.append(Client(connection, False))

    def _register(self, process: int, ended: bool) -> None:
        """What to wait for now, anew each time: a handful of descriptors whose state changes all the time."""
        for key in list(self._selector.get_map().values()):
            self._selector.unregister(key.fileobj)
        if not ended:
            self._selector.register(process, selectors.EVENT_READ, "process")
            self._selector.register(self._server, selectors.EVENT_READ, "server")
        wanted: dict[int, int] = {}
        if all(len(client.outgoing) < _MOST_PENDING for client in self._clients):
            wanted = dict.fromkeys(self._outputs, selectors.EVENT_READ)
        if self._input >= 0 and self._incoming:
            wanted[self._input] = wanted.get(self._input, 0) | selectors.EVENT_WRITE
        for descriptor, events in wanted.items():
            self._selector.register(descriptor, events, "container")
        for client in self._clients:
            events = selectors.EVENT_READ if len(self._incoming) < _MOST_PENDING else 0
            events |= selectors.EVENT_WRITE if client.outgoing else 0
            if events:
                self._selector.register(client.connection, events, client)

    def _handle(self, owner: object, descriptor: int, events: int) -> None:
        if owner == "server":
            self.accept_waiting()
        elif isinstance(owner, Client):
            self._serve_client(owner, events)
        else:
            if events & selectors.EVENT_WRITE:
                self._feed_input()
            if events & selectors.EVENT_READ and descriptor in self._outputs:
                self._take_output(descriptor)

    def _take_output(self, descriptor: int) -> None:
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:  # a pty without anybody on its other side
                raise
            data = b""
        stream = self._outputs[descriptor]
        if not data:
            del self._outputs[descriptor]
            if descriptor != self._input:
                os.close(descriptor)
            return
        self._log.write(stream, data)
        kind = wire.STDERR if stream == "stderr" else wire.STDOUT
        for client in self._clients:
            if client.subscribed:
                client.outgoing += wire.frame(kind, data)
                self._send(client)

    def _serve_client(self, client: Client, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._send(client)
        if events & selectors.EVENT_READ and client in self._clients:
            try:
                data = client.connection.recv(_CHUNK)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._drop(client)
                return
            for kind, payload in client.reader.feed(data):
                self._obey(client, kind, payload)

    def _obey(self, client: Client, kind: int, payload: bytes) -> None:
        if kind == wire.SUBSCRIBE:
            client.subscribed = True
        elif kind == wire.STDIN and self._input >= 0 and not self._input_ends:
            self._incoming += payload
            self._feed_input()
        elif kind == wire.STDIN_END and self._input >= 0:
            self._input_ends = not self._terminal
            self._feed_input()
        elif kind == wire.RESIZE and self._terminal and self._input >= 0:
            rows, columns = wire.parse_resize(payload)
            with suppress(OSError):
                fcntl.ioctl(self._input, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        elif kind == wire.SIGNAL:
            self._send_signal(int(payload))

    def _feed_input(self) -> None:
        try:
            while self._incoming and self._input >= 0:
                del self._incoming[: os.write(self._input, self._incoming)]
        except BlockingIOError:
            return
        except OSError:  # the process closed its end
            self._incoming.clear()
            self._input_ends = not self._terminal
        if self._input_ends and self._input >= 0 and not self._incoming:
            os.close(self._input)
            self._input = -1

    def _send(self, client: Client) -> None:
        try:
            while client.outgoing:
                del client.outgoing[: client.connection.send(client.outgoing)]
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)

    def _drop(self, client: Client) -> None:
        if client in self._clients:
            self._clients.remove(client)
            client.connection.close()
