"""What the outer process does while the inner one runs: pass signals and a terminal's bytes on, and see its end."""

import os
import select
import struct

from moldar.sandbox.isolation import calls
from moldar.sandbox.isolation.terminals import Relay

_HANGUP, _INTERRUPT, _QUIT, _USER_1, _USER_2, _TERMINATE, _WINDOW = 1, 2, 3, 10, 12, 15, 28
_PASSED = (_HANGUP, _INTERRUPT, _QUIT, _USER_1, _USER_2, _TERMINATE)
_SIGNAL_INFO = struct.Struct("I124x")


class Watch:
    """Waits for a process. To be made before it is forked, so that no signal is lost."""

    def __init__(self, relay: Relay | None, *, passes_signals: bool) -> None:
        """Signals that are not passed on end us, and the inner process goes on."""
        self._relay = relay
        self._passes = passes_signals
        self._signals = calls.block_signals((*_PASSED, _WINDOW))

    def wait(self, pid: int) -> int:
        """The exit code of our child `pid`, 128 + n for signal n."""
        process = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(process, select.POLLIN)
        poll.register(self._signals, select.POLLIN)
        if self._relay:
            self._relay.begin(poll)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == process:
                    return self._end(pid)
                if descriptor == self._signals:
                    self._take_signal(pid)
                elif self._relay:
                    self._relay.serve(poll, descriptor)

    def _end(self, pid: int) -> int:
        if self._relay:
            self._relay.finish()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return 128 - code if code < 0 else code

    def _take_signal(self, pid: int) -> None:
        (number,) = _SIGNAL_INFO.unpack(os.read(self._signals, _SIGNAL_INFO.size))
        if number == _WINDOW:
            if self._relay:
                self._relay.resize()
        elif self._passes:
            os.kill(pid, number)
        else:
            if self._relay:
                self._relay.restore()
            os._exit(128 + number)
