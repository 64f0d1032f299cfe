"""Becoming a container's process: from a process of ours with all rights to the image's program with few.

The order matters. What needs rights comes before they are given up; the filter is loaded last, because it may lie
about the calls that changing users takes; and the program is looked for as the user who will run it.
"""

import errno
import fcntl
import os
import resource
import stat
import termios

from moldar.sandbox.isolation import calls
from moldar.sandbox.isolation.failures import Doing, Failure
from moldar.sandbox.isolation.plans import ProcessPlan

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_LAST_CAPABILITY = "/proc/sys/kernel/cap_last_cap"
_CHANGED_BY_PYTHON = (13, 25)
"""SIGPIPE and SIGXFSZ, which an interpreter ignores and would pass on."""


class Steps:
    """What its maker has to do while a process becomes another."""

    def changed(self) -> None:
        """It has changed its credentials."""

    def ready(self) -> None:
        """All is done but the execution."""


def last_capability() -> int:
    """The highest capability that the kernel knows; to be asked while the host's /proc is there."""
    with open(_LAST_CAPABILITY) as file:
        return int(file.read())


def may_set_groups() -> bool:
    """Whether this user name space lets groups be set (user_namespaces(7)); asked while the host's /proc is there."""
    try:
        with open("/proc/self/setgroups") as file:
            return file.read().strip() == "allow"
    except FileNotFoundError:
        return True


class Process:
    """A process-to-be. `slave` is its terminal, -1 for none. Made before the host's files are left."""

    def __init__(self, plan: ProcessPlan) -> None:
        self._plan = plan
        self._last_capability = last_capability()
        self._sets_groups = may_set_groups()

    def become(self, slave: int, steps: Steps) -> None:
        """Execute the program; it returns only by a Failure."""
        plan = self._plan
        os.umask(plan.umask)
        os.setsid()
        if slave >= 0:
            _take_terminal(slave)
        _own_streams(plan.uid, terminal=slave >= 0)
        _go_to(plan.cwd)
        with Doing("set the resource limits"):
            for number, soft, hard in plan.limits:
                resource.setrlimit(number, (soft, hard))
        self._change_user()
        steps.changed()
        calls.hide_from_peers()
        self._confine()
        program = _find(plan)
        steps.ready()
        _execute(program, plan)

    def _change_user(self) -> None:
        plan = self._plan
        with Doing("give up capabilities"):
            calls.clear_ambient()
            for number in range(self._last_capability + 1):
                if not plan.bounding >> number & 1:
                    calls.drop_bounding(number)
        calls.keep_capabilities()
        try:
            if self._sets_groups:
                os.setgroups(plan.groups)
            os.setresgid(plan.gid, plan.gid, plan.gid)
            os.setresuid(plan.uid, plan.uid, plan.uid)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise Failure(f"cannot become user {plan.uid}: {error.strerror}", _NOT_EXECUTABLE) from error
            ids = f"user {plan.uid}, group {plan.gid}" + "".join(f", group {group}" for group in plan.groups)
            reason = f"cannot become {ids}: not all of these IDs exist in this user name space"
            raise Failure(reason, _NOT_EXECUTABLE) from error

    def _confine(self) -> None:
        """The filter needs CAP_SYS_ADMIN, the sets that stay are set after it."""
        plan = self._plan
        with Doing("filter system calls"):
            if plan.no_new_privileges:
                calls.forbid_new_privileges()
            if plan.filter:
                calls.raise_capabilities()
                calls.load_filter(plan.filter)
        with Doing("set capabilities"):
            calls.set_capabilities(plan.effective, plan.permitted, 0)


def _take_terminal(slave: int) -> None:
    with Doing("take the terminal"):
        for number in range(3):
            os.dup2(slave, number)
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        os.close(slave)


def _own_streams(uid: int, *, terminal: bool) -> None:
    """The user can open its pipes and its terminal again by /dev/stdout. Files and terminals of the host stay."""
    for number in range(3):
        status = os.fstat(number)
        if status.st_uid != uid and (terminal or stat.S_ISFIFO(status.st_mode)):
            try:
                os.fchown(number, uid, -1)
            except OSError:
                pass


def _go_to(path: str) -> None:
    """Into the working directory, which must be one of the container: a descriptor of ours may be none."""
    try:
        os.chdir(path)
        os.getcwd()
    except OSError as error:
        raise Failure(f"cannot use the working directory {path}: {error.strerror}", _NOT_EXECUTABLE) from error


def _find(plan: ProcessPlan) -> str:
    """The program by the process's own PATH; Failure as a shell would say it."""
    name = plan.args[0] if plan.args else ""
    if not name:
        raise Failure("no command was given", _NOT_FOUND)
    if "/" in name:
        if not os.path.exists(name):
            raise Failure(f'exec: "{name}": no such file or directory', _NOT_FOUND)
        if not _is_executable(name):
            raise Failure(f'exec: "{name}": permission denied', _NOT_EXECUTABLE)
        return name
    path = _PATH
    for variable in plan.env:
        if variable.startswith("PATH="):
            path = variable[5:]
    found = [
        candidate for folder in path.split(":") if os.path.exists(candidate := os.path.join(folder or ".", name))
    ]
    for candidate in found:
        if _is_executable(candidate):
            return candidate
    if found:
        raise Failure(f'exec: "{name}": permission denied', _NOT_EXECUTABLE)
    raise Failure(f'exec: "{name}": executable file not found in $PATH', _NOT_FOUND)


def _is_executable(path: str) -> bool:
    return stat.S_ISREG(os.stat(path).st_mode) and os.access(path, os.X_OK)


def _execute(program: str, plan: ProcessPlan) -> None:
    environment = {}
    for variable in plan.env:
        name, equals, value = variable.partition("=")
        if name and equals:
            environment[name] = value
    calls.close_from(3, at_execution=True)
    calls.usual_signals(_CHANGED_BY_PYTHON)
    try:
        os.execve(program, plan.args, environment)
    except OSError as error:
        calls.ignore_signals(_CHANGED_BY_PYTHON)
        code = _NOT_FOUND if error.errno in (errno.ENOENT, errno.ENOTDIR) else _NOT_EXECUTABLE
        raise Failure(f'exec: "{plan.args[0]}": {(error.strerror or "").lower()}', code) from error
    except ValueError as error:
        calls.ignore_signals(_CHANGED_BY_PYTHON)
        raise Failure(f"the command or its environment cannot be passed on: {error}", _NOT_EXECUTABLE) from error
