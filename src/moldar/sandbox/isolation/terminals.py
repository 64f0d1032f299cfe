"""Terminals of containers: made inside, handed out over a socket, or relayed to the caller's own.

`_socket`, `termios` and `select` are imported directly: their Python wrappers take longer to import than all else.
"""

import _socket
import fcntl
import os
import select
import stat
import struct
import termios
import tty

from moldar.sandbox.isolation.failures import Doing, Failure
from moldar.sandbox.mounts import open_in_root

_SET_LOCK, _GET_PEER = 0x40045431, 0x5441
_PTMX = os.makedev(5, 2)
_CHUNK = 65536
_MOST_WAITING = 1 << 16
_MOST_LAST_WORDS = 64
_WINDOW_BYTES = 8
_DESCRIPTOR = struct.Struct("i")


class Terminal:
    """Both ends of a new terminal."""

    def __init__(self, root: int) -> None:
        """Of the container whose root directory is `root`; Failure when it has none to give."""
        with Doing("open a terminal"):
            flags = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK
            self.master = open_in_root(root, "/dev/pts/ptmx", flags)
            status = os.fstat(self.master)
            if not stat.S_ISCHR(status.st_mode) or status.st_rdev != _PTMX:
                raise Failure("/dev/pts of the container holds no terminals")
            os.set_blocking(self.master, True)
            fcntl.ioctl(self.master, _SET_LOCK, b"\0\0\0\0")
            self.slave = fcntl.ioctl(self.master, _GET_PEER, os.O_RDWR | os.O_NOCTTY)
            os.set_inheritable(self.slave, False)


class Console:
    """A socket that waits for a terminal (runc's docs/terminals.md). Connected before the host's files are left."""

    def __init__(self, path: str) -> None:
        with Doing("connect to the console socket"):
            self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
            self._socket.connect(path)

    def send(self, master: int) -> None:
        """Hand the terminal out."""
        _send(self._socket, master)


class Relay:
    """Moves bytes between a terminal of the inner process and our standard streams."""

    def __init__(self) -> None:
        self._ours, self._theirs = _socket.socketpair()
        self._master = -1
        self._outgoing = b""
        self._reads_input = True
        self._before = termios.tcgetattr(0) if os.isatty(0) else None

    def send(self, master: int) -> None:
        """Hand the terminal out; called by the inner process."""
        _send(self._theirs, master)

    def begin(self, poll: select.poll) -> None:
        """The inner process is there: wait for its terminal in `poll`, our own in raw mode."""
        self._theirs.close()
        poll.register(self._ours.fileno(), select.POLLIN)
        if self._before:
            tty.setraw(0, termios.TCSANOW)

    def serve(self, poll: select.poll, descriptor: int) -> None:
        """Something happened at one of the descriptors that we registered."""
        if descriptor == self._ours.fileno():
            poll.unregister(descriptor)
            self._receive()
            self.resize()
        elif descriptor == 0:
            self._take_input()
        else:
            poll.unregister(descriptor)  # it may be closed now; if not, it is watched again
            self._exchange()
        self._watch(poll)

    def resize(self) -> None:
        """Give the terminal the size of ours."""
        if self._before and self._master >= 0:
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(_WINDOW_BYTES))
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def finish(self) -> None:
        """The inner process has ended: its last words, and our terminal as it was."""
        if self._master >= 0:
            self._outgoing = b""
            for _ in range(_MOST_LAST_WORDS):  # others may go on writing for ever
                if self._master < 0 or not select.select([self._master], [], [], 0)[0]:
                    break
                self._exchange()
        self.restore()

    def restore(self) -> None:
        """Our terminal as it was."""
        if self._before:
            termios.tcsetattr(0, termios.TCSADRAIN, self._before)

    def _receive(self) -> None:
        data = self._ours.recvmsg(1, _socket.CMSG_SPACE(_DESCRIPTOR.size))[1]
        if data:
            self._master = _DESCRIPTOR.unpack(data[0][2])[0]
            os.set_inheritable(self._master, False)
            os.set_blocking(self._master, False)

    def _watch(self, poll: select.poll) -> None:
        """Input is taken only as fast as it is passed on."""
        for descriptor, events in (
            (0, select.POLLIN if self._reads_input and len(self._outgoing) < _MOST_WAITING else 0),
            (self._master, select.POLLIN | (select.POLLOUT if self._outgoing else 0)),
        ):
            if events and self._master >= 0:
                poll.register(descriptor, events)
            elif descriptor >= 0:
                _unregister(poll, descriptor)

    def _take_input(self) -> None:
        try:
            data = os.read(0, _CHUNK)
        except OSError:
            data = b""
        self._reads_input = bool(data)
        self._outgoing += data

    def _exchange(self) -> None:
        try:
            if self._outgoing:
                self._outgoing = self._outgoing[os.write(self._master, self._outgoing) :]
        except OSError:
            pass
        try:
            data = os.read(self._master, _CHUNK)
        except BlockingIOError:
            return
        except OSError:  # nobody has the other end open any more
            data = b""
        if not data:
            os.close(self._master)
            self._master = -1
        while data:
            data = data[os.write(1, data) :]


def _send(socket: _socket.socket, master: int) -> None:
    rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, _DESCRIPTOR.pack(master))
    with Doing("hand the terminal out"):
        socket.sendmsg([b"/dev/ptmx"], [rights])
        socket.close()


def _unregister(poll: select.poll, descriptor: int) -> None:
    try:
        poll.unregister(descriptor)
    except KeyError:
        pass
