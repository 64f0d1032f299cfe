"""The command line: arguments, rendering, exit codes.

`main` finds the command first and imports its module then, so that no command pays for another's imports.
"""

import atexit
import gc
import os
import sys
from typing import NoReturn

COLLECT_AFTER = 200_000
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


def main() -> NoReturn:
    """Run the command in sys.argv and end with its exit code; the entry point of the `moldar` program."""
    # A cached build makes some ten thousand objects, all of which it needs: looking among them for garbage costs it
    # a seventh of its time. Commands that live longer still collect.
    gc.set_threshold(COLLECT_AFTER)
    from moldar.cli.dispatch import run

    try:
        status = run(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    except BrokenPipeError:
        _close_stdout_quietly()
        status = EXIT_BROKEN_PIPE
    _leave(status)


def _leave(status: int) -> NoReturn:
    """End the process without taking the interpreter apart, which costs a cached build a ninth of its time.

    What was registered for the end is done, and output is flushed; memory is the kernel's to give back.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _close_stdout_quietly() -> None:
    # The reader of our pipe is gone: point stdout elsewhere, or the interpreter complains when it flushes at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
