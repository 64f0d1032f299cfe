"""What a fresh interpreter does on behalf of `builtin`: a container, or one more process in it.

Two processes take part. The outer one stays outside, tells its caller how things went, and ends as the container's
process does. The inner one is the container's process: the first of a new PID name space, it builds its surroundings
and becomes the image's program by execve(2).

Descriptors: 3 the interpreter's own program, 4 the plan, 5 the report.
"""

import os
import select
import sys

from moldar.sandbox.isolation import calls
from moldar.sandbox.isolation.failures import Doing, Failure
from moldar.sandbox.isolation.joining import Joined
from moldar.sandbox.isolation.lifetimes import start_time
from moldar.sandbox.isolation.plans import Plan, RootPlan, unpack
from moldar.sandbox.isolation.processes import Process, Steps
from moldar.sandbox.isolation.surroundings import build
from moldar.sandbox.isolation.terminals import Console, Relay
from moldar.sandbox.isolation.watching import Watch
from moldar.sandbox.mounts import unshare

_PROGRAM, _PLAN, _REPORT = 3, 4, 5
_FAILED = 1
_READY = b"r"


def main() -> None:
    """Do what the plan says, and end."""
    try:
        os.close(_PROGRAM)
        calls.close_from(_REPORT + 1)
        calls.close_from(_PLAN, at_execution=True)
        with open(_PLAN, "rb") as file:
            plan = unpack(file.read())
        code = {"run": _run, "create": _create, "execute": _execute}[plan.verb](plan)
    except BaseException as error:
        code = _fail(error)
    os._exit(code)


class _Lifeline:
    """A pipe by which the inner process learns that the outer one has written it down, and whether it still lives."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe2(os.O_CLOEXEC)

    def go(self) -> None:
        """The outer one is ready."""
        os.write(self._writing, _READY)

    def wait(self) -> None:
        """The inner one waits for it, and ends when it is gone."""
        os.close(self._writing)
        if not os.read(self._reading, 1):
            os._exit(_FAILED)

    def check(self) -> None:
        """The inner one ends when the outer one is gone."""
        poll = select.poll()
        poll.register(self._reading, 0)
        if poll.poll(0):
            os._exit(_FAILED)


class _EndingWithUs(Steps):
    """Of a process that must not outlive the outer one."""

    def __init__(self, line: _Lifeline) -> None:
        self._line = line

    def changed(self) -> None:
        """The kernel forgets about our end when credentials change."""
        calls.die_with_parent()
        self._line.check()


class _Waiting(Steps):
    """Of a process that is to be started later. `ready` tells the outer one that it waits."""

    def __init__(self, fifo: int, told: int) -> None:
        self._fifo = fifo
        self._told = told

    def ready(self) -> None:
        """Until a byte comes."""
        os.write(self._told, _READY)
        os.close(self._told)
        os.read(self._fifo, 1)


def _run(plan: Plan) -> int:
    """Runs a container to its end, and has it end with this process, as this one ends with its caller."""
    calls.die_with_parent()
    if os.getppid() != plan.parent:
        return _FAILED
    relay = Relay() if plan.process.terminal else None
    watch = Watch(relay, passes_signals=True)
    with Doing("make name spaces"):
        unshare(calls.CLONE_NEWPID)
    line = _Lifeline()
    pid = os.fork()
    if not pid:
        try:
            calls.die_with_parent()
            _contain(plan, line, relay, _EndingWithUs(line))
        except BaseException as error:
            _fail(error)
        os._exit(_FAILED)
    _record(plan, pid)
    line.go()
    return watch.wait(pid)


def _create(plan: Plan) -> int:
    """Makes a container and leaves its process to whoever reaps our orphans."""
    fifo = os.open(plan.fifo, os.O_RDWR | os.O_CLOEXEC)
    console = Console(plan.console) if plan.console else None
    with Doing("make name spaces"):
        unshare(calls.CLONE_NEWPID)
    line = _Lifeline()
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if not pid:
        try:
            os.close(reading)
            _contain(plan, line, console, _Waiting(fifo, writing))
        except BaseException as error:
            _fail(error)
        os._exit(_FAILED)
    os.close(writing)
    _record(plan, pid)
    line.go()
    if os.read(reading, 1):
        return 0
    os.waitpid(pid, 0)
    return _FAILED


def _contain(plan: Plan, line: _Lifeline, console: Console | Relay | None, steps: Steps) -> None:
    """Becomes the container's process, in the inner process."""
    assert isinstance(plan.root, RootPlan)
    line.wait()
    process = Process(plan.process)
    _enter_cgroups(plan.cgroups)
    slave = build(plan.root, plan.process.cwd, console)
    _import_nothing()
    process.become(slave, steps)


def _execute(plan: Plan) -> int:
    """Runs one more process in a container. Detached: until it executes its program, else to its end."""
    console = Console(plan.console) if plan.console else None
    relay = Relay() if plan.process.terminal and not console else None
    watch = Watch(relay, passes_signals=False)
    process = Process(plan.process)
    container = Joined(plan.pid, plan.started)
    calls.hide_from_peers()
    container.enter_processes()
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if not pid:
        try:
            os.close(reading)
            _enter_cgroups(plan.cgroups)
            slave = container.enter(console or relay)
            _import_nothing()
            process.become(slave, Steps())
        except BaseException as error:
            _fail(error)
        os._exit(_FAILED)
    os.close(writing)
    if plan.detach:
        os.read(reading, 1)  # its end: the program runs, or cannot
        return 0
    return watch.wait(pid)


def _enter_cgroups(directories: list[str]) -> None:
    """By `tasks` on version 1: moving one thread waits for nobody, moving a process for a grace period of RCU."""
    for directory in directories:
        name = "tasks" if os.path.exists(f"{directory}/tasks") else "cgroup.procs"
        with open(f"{directory}/{name}", "wb", buffering=0) as file:
            file.write(b"0")


def _import_nothing() -> None:
    """From here on a module would be looked for among the image's files."""
    sys.meta_path.clear()
    sys.path.clear()


def _record(plan: Plan, pid: int) -> None:
    staged = f"{plan.record}.new"
    with open(staged, "wb", buffering=0) as file:
        file.write(b"%d %d" % (pid, start_time(pid)))
    os.rename(staged, plan.record)


def _fail(error: BaseException) -> int:
    """Tell the caller, if it still listens."""
    code, message = 0, str(error) or type(error).__name__
    if isinstance(error, Failure):
        code, message = error.code, error.message
    elif isinstance(error, OSError):
        what = f" ({error.filename!r})" if error.filename else ""
        message = f"{error.strerror}{what}"
    try:
        os.write(_REPORT, f"{code} {message}".encode("utf-8", "replace"))
    except OSError:
        pass
    return _FAILED
