"""What a container's monitor and those attached to it say to each other over a socket: frames of kind and payload."""

import os
import socket
import struct
from collections.abc import Iterator

STDIN, STDOUT, STDERR, EXIT, STDIN_END, RESIZE, SIGNAL, SUBSCRIBE = range(8)
"""Kinds of frames. EXIT carries the exit code as text, RESIZE rows and columns, SIGNAL a number as text."""
SOCKET = "attach.sock"
_HEADER = struct.Struct("!BI")
_SIZE = struct.Struct("!HH")


def frame(kind: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return _HEADER.pack(kind, len(payload)) + payload


def resize_frame(rows: int, columns: int) -> bytes:
    return frame(RESIZE, _SIZE.pack(rows, columns))


def parse_resize(payload: bytes) -> tuple[int, int]:
    rows, columns = _SIZE.unpack(payload)
    return rows, columns


class FrameReader:
    """Puts frames together from pieces of a stream."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The frames that `data` completes."""
        self._pending += data
        while len(self._pending) >= _HEADER.size:
            kind, length = _HEADER.unpack_from(self._pending)
            if len(self._pending) < _HEADER.size + length:
                return
            payload = bytes(self._pending[_HEADER.size : _HEADER.size + length])
            del self._pending[: _HEADER.size + length]
            yield kind, payload


def listen(directory: str) -> socket.socket:
    """The monitor's socket. Bound by a descriptor of the directory, because socket paths have 107 bytes at most."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            os.unlink(SOCKET, dir_fd=handle)
        except FileNotFoundError:
            pass
        server.bind(f"/proc/self/fd/{handle}/{SOCKET}")
        server.listen(16)
    finally:
        os.close(handle)
    return server


def connect(directory: str) -> socket.socket:
    """A connection to the monitor of the container in `directory`; OSError when there is none."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        client.connect(f"/proc/self/fd/{handle}/{SOCKET}")
    except BaseException:
        client.close()
        raise
    finally:
        os.close(handle)
    return client
