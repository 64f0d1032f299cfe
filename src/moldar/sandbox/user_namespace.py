"""Working without root: a user namespace in which we are root, entered before anything else is done.

With subordinate ids (subuid(5)) and newuidmap(1) it has as many ids as images need, else one. There is no daemon that
holds it, and yet all processes of one store have to share it, because only who is in there may enter, signal and
remove a container of another: whoever is inside keeps a locked file in a directory of the store, the next process
joins the namespace of one of these, and with the last one it is gone.

Everybody has a mount namespace of their own, so that mounts end with their process.
"""

import fcntl
import os
import pwd
import shutil
from contextlib import suppress

from moldar.errors import HostTrouble
from moldar.sandbox.isolation.lifetimes import start_time
from moldar.sandbox.mounts import CLONE_NEWNS, CLONE_NEWUSER, set_namespace, unshare
from moldar.sandbox.spawning import Command, spawn, wait
from moldar.sandbox.workdirs import lock_new, take_abandoned

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SCRIPT = "read -r go && newuidmap $UIDS && newgidmap $GIDS"
_RESTRICTION = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
_MEMBERS = "/run/namespace"
_MEMBER = ".lock"


def enter_user_namespace(home: str) -> str:
    """Become root in the user namespace of the processes that use the store at `home` now, or in a new one.

    Gives the reason why that is impossible, empty when it is done. The process must have one thread.
    """
    run = home + _MEMBERS
    try:
        os.makedirs(run, mode=0o700, exist_ok=True)
        lock = os.open(f"{run}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        return f"{run}: {error.strerror}"
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (_join_any(run) or _join_leftover(home)):
            _make()
        register(home)
    except OSError as error:
        return f"user namespaces are not allowed here: {error.strerror}"
    finally:
        os.close(lock)
    return ""


def register(home: str) -> None:
    """Let other processes of the store at `home` join the namespace that we are in as long as we live."""
    os.makedirs(home + _MEMBERS, mode=0o700, exist_ok=True)
    path = f"{home}{_MEMBERS}/{os.getpid()}{_MEMBER}"
    with suppress(FileNotFoundError):
        os.unlink(path)  # of a process that had our number
    lock_new(path)


def leftover_pid(path: str) -> str:
    """The process that an owner's file of a runtime names (`runtimes`), empty when it has ended."""
    try:
        with open(path) as file:
            pid, _, started = file.read().partition(" ")
    except OSError:
        return ""
    return pid if pid.isdigit() and started.isdigit() and start_time(int(pid)) == int(started) != 0 else ""


def is_restricted() -> bool:
    """Whether AppArmor gives nobody any rights in user namespaces that they make (Ubuntu from 23.10 on)."""
    try:
        with open(_RESTRICTION) as file:
            return file.read().strip() == "1"
    except OSError:
        return False


def _join_any(run: str) -> bool:
    for name in os.listdir(run):
        if not name.endswith(_MEMBER):
            continue
        path = f"{run}/{name}"
        abandoned = take_abandoned(path)
        if abandoned >= 0:
            os.unlink(path)
            os.close(abandoned)
        elif _join(name.removesuffix(_MEMBER)):
            return True
    return False


def _join_leftover(home: str) -> bool:
    """Join a container whose owner was killed: only who is in its namespace can end it."""
    folders = [f"{home}/run/{name}" for name in os.listdir(f"{home}/run") if name.endswith("-owners")]
    pids = (leftover_pid(f"{folder}/{name}") for folder in folders for name in os.listdir(folder))
    return any(pid and _join(pid) for pid in pids)


def _join(pid: str) -> bool:
    try:
        namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        set_namespace(namespace, CLONE_NEWUSER)
    except OSError:
        return False
    finally:
        os.close(namespace)
    unshare(CLONE_NEWNS)
    return True


def _make() -> None:
    """A new user namespace with all the ids that we may have."""
    uid, gid = os.geteuid(), os.getegid()
    users, groups = _subordinate("/etc/subuid", uid), _subordinate("/etc/subgid", uid)
    mapper, go = -1, -1
    if users and groups and shutil.which("newuidmap", path=_PATH):
        mapper, go = _start_mapper([(uid, 1), *users], [(gid, 1), *groups])
    try:
        unshare(CLONE_NEWUSER | CLONE_NEWNS)
        if mapper > 0:
            os.write(go, b"\n")
    finally:
        if go >= 0:
            os.close(go)
        mapped = mapper > 0 and wait(mapper) == 0
    if not mapped:
        _map_ourselves(uid, gid)


def _start_mapper(users: list[tuple[int, int]], groups: list[tuple[int, int]]) -> tuple[int, int]:
    """A process outside that maps ids when a line comes through the pipe; its pid and the pipe.

    -1 for both where it cannot be started.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    environment = {"PATH": _PATH, "UIDS": _arguments(users), "GIDS": _arguments(groups)}
    try:
        return spawn(Command("/bin/sh", ("-c", _SCRIPT), (reading, null, null), environment)), writing
    except HostTrouble:
        os.close(writing)
        return -1, -1
    finally:
        os.close(reading)
        os.close(null)


def _arguments(ranges: list[tuple[int, int]]) -> str:
    """Those of newuidmap(1): our pid, then for each range the first id inside, the first outside, and how many."""
    words, inside = [os.getpid()], 0
    for outside, length in ranges:
        words += [inside, outside, length]
        inside += length
    return " ".join(map(str, words))


def _map_ourselves(uid: int, gid: int) -> None:
    """One id, which needs nobody's permission as long as groups cannot be dropped (user_namespaces(7))."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with suppress(PermissionError), open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _subordinate(path: str, uid: int) -> list[tuple[int, int]]:
    """The ranges of ids of that user in a file such as /etc/subuid: first id and length."""
    names = {str(uid)}
    with suppress(KeyError):
        names.add(pwd.getpwuid(uid).pw_name)
    try:
        with open(path) as file:
            lines = [line.strip().split(":") for line in file]
    except OSError:
        return []
    return [(int(line[1]), int(line[2])) for line in lines if len(line) == 3 and line[0] in names]
