"""Starting the process that becomes a container: a fresh interpreter, as a builder's threads forbid a plain fork.

The interpreter's own program is given to it as a mount of its own that is read-only, or as a sealed copy. Whatever an
image makes the kernel execute before its own program is there (a command of /proc/self/exe, or a script with that as
its interpreter) is then nothing through which the host's Python could be overwritten (as in CVE-2019-5736).
"""

import fcntl
import os
import sys
from typing import NamedTuple

import moldar
from moldar.errors import HostTrouble
from moldar.sandbox.isolation.calls import ATTR_RDONLY, open_tree, set_attributes
from moldar.sandbox.isolation.plans import Plan, pack
from moldar.sandbox.runtime import Streams
from moldar.sandbox.spawning import Command, spawn

_CODE = (
    "import sys; package = type(sys)('moldar'); package.__path__ = [sys.argv[1]]; sys.modules['moldar'] = package; "
    "from moldar.sandbox.isolation.entry import main; main()"
)
"""An empty package stands in for `moldar`, the public names of which need more time than a container does."""
_PROGRAM = 3
_COPY_CHUNK = 1 << 24


class Started(NamedTuple):
    """An interpreter that was started. `report` is a pipe on which it tells what went wrong; ours to close."""

    pid: int
    report: int


def start_interpreter(plan: Plan, streams: Streams, *, own_group: bool = True) -> Started:
    """Start one that does what `plan` says (read by `entry`). HostTrouble."""
    program = _unwritable(os.path.realpath(sys.executable))
    described = os.memfd_create("moldar-plan", os.MFD_CLOEXEC)
    report, given = os.pipe2(os.O_CLOEXEC)
    try:
        os.write(described, pack(plan))
        os.lseek(described, 0, os.SEEK_SET)
        package = os.path.dirname(os.path.abspath(moldar.__file__))
        command = Command(
            f"/proc/self/fd/{_PROGRAM}",
            ("-I", "-S", "-c", _CODE, package),
            (*streams, program, described, given),
            {"LD_LIBRARY_PATH": f"{sys.base_exec_prefix}/lib"},  # for a libpython that is found beside its program
            own_group=own_group,
            name=sys.executable,
        )
        return Started(spawn(command), report)
    except BaseException:
        os.close(report)
        raise
    finally:
        for descriptor in (program, described, given):
            os.close(descriptor)


def reported(started: Started) -> tuple[int, str] | None:
    """What an interpreter that has ended told: an exit code (0 for trouble that has none) and a message."""
    os.set_blocking(started.report, False)
    try:
        text = os.read(started.report, 65536)
    except BlockingIOError:  # nothing, and its descendants go on
        return None
    finally:
        os.close(started.report)
    code, _, message = text.decode(errors="replace").partition(" ")
    return (int(code), message) if text else None


def _unwritable(program: str) -> int:
    """A descriptor of `program` through which nobody can write to it."""
    try:
        tree = open_tree(program)
    except OSError:
        return _sealed_copy(program)
    try:
        set_attributes(tree, ATTR_RDONLY)
    except OSError:  # before Linux 5.12
        os.close(tree)
        return _sealed_copy(program)
    return tree


def _sealed_copy(program: str) -> int:
    copy = os.memfd_create("moldar-python", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(program, "rb") as file:
            while os.sendfile(copy, file.fileno(), None, _COPY_CHUNK):
                pass
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(copy, fcntl.F_ADD_SEALS, seals)
    except OSError as error:
        os.close(copy)
        raise HostTrouble(f"cannot copy {program}: {error.strerror}") from error
    return copy
