"""From a bundle's configuration (runtime-spec 1.0) to a plan in the terms of system calls."""

import os
import resource
import stat
from collections.abc import Iterable, Mapping
from typing import Any

from moldar.sandbox.confinement import ALL_CAPABILITIES
from moldar.sandbox.isolation import calls
from moldar.sandbox.isolation.plans import DevicePlan, MountPlan, ProcessPlan, RootPlan
from moldar.sandbox.mounts import CLONE_NEWNET, CLONE_NEWNS, MS_NOATIME, MS_NODEV, MS_NOSUID, MS_RDONLY
from moldar.sandbox.runtime import RuntimeTrouble

_NAMESPACES = {
    "pid": calls.CLONE_NEWPID,
    "ipc": calls.CLONE_NEWIPC,
    "uts": calls.CLONE_NEWUTS,
    "mount": CLONE_NEWNS,
    "network": CLONE_NEWNET,
    "cgroup": calls.CLONE_NEWCGROUP,
}
_NOEXEC, _SYNCHRONOUS, _DIRSYNC, _NODIRATIME, _RELATIME, _STRICTATIME = 8, 16, 128, 2048, 1 << 21, 1 << 24
_OPTIONS = {
    "ro": (MS_RDONLY, calls.ATTR_RDONLY),
    "rro": (MS_RDONLY, calls.ATTR_RDONLY),
    "nosuid": (MS_NOSUID, calls.ATTR_NOSUID),
    "nodev": (MS_NODEV, calls.ATTR_NODEV),
    "noexec": (_NOEXEC, calls.ATTR_NOEXEC),
    "noatime": (MS_NOATIME, calls.ATTR_NOATIME),
    "strictatime": (_STRICTATIME, calls.ATTR_STRICTATIME),
    "nodiratime": (_NODIRATIME, calls.ATTR_NODIRATIME),
    "relatime": (_RELATIME, 0),
    "sync": (_SYNCHRONOUS, 0),
    "dirsync": (_DIRSYNC, 0),
}
"""What an option is as MS_… for a new mount and as ATTR_… for a bind, where it concerns all mounts that are shown."""
_IMPLIED = frozenset({"rw", "suid", "dev", "exec", "async", "bind", "rbind", "private", "rprivate", "defaults"})
"""Options that are so anyway, or that are looked at elsewhere."""
_CGROUP_TYPES = {"cgroup": "cgroup2"}
_DEFAULT_DEVICES = {"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9}
_MEMORY_MAJOR, _TTY = 1, os.makedev(5, 0)
_UMASK = 0o022


def process_plan(process: Mapping[str, Any], program: bytes, *, unruled: bool) -> ProcessPlan:
    """The plan for a `process` object and a system call filter (empty for none).

    `unruled`: it may not make device nodes, as no control group decides who may use them.
    """
    user, sets = process["user"], process.get("capabilities", {})
    return ProcessPlan(
        args=process["args"],
        env=process["env"],
        cwd=process["cwd"],
        terminal=process.get("terminal", False),
        umask=user.get("umask", _UMASK),
        uid=user["uid"],
        gid=user["gid"],
        groups=user.get("additionalGids", []),
        limits=[
            (getattr(resource, limit["type"]), _limit(limit["soft"]), _limit(limit["hard"]))
            for limit in process.get("rlimits", ())
            if hasattr(resource, limit["type"])
        ],
        bounding=_mask(sets.get("bounding", ()), unruled),
        permitted=_mask(sets.get("permitted", ()), unruled),
        effective=_mask(sets.get("effective", ()), unruled),
        no_new_privileges=process.get("noNewPrivileges", False),
        filter=program,
    )


def root_plan(config: Mapping[str, Any], *, unruled: bool) -> RootPlan:
    """The plan for a container's surroundings. RuntimeTrouble for what is not known."""
    linux = config["linux"]
    unshared, joined = _namespaces(linux["namespaces"])
    mounts = [_mount(mount) for mount in config["mounts"]]
    makes_devices = not any(mount.target == "/dev" and mount.kind == "bind" for mount in mounts)
    return RootPlan(
        path=config["root"]["path"],
        readonly=config["root"].get("readonly", False),
        nodev=unruled,
        unshared=unshared,
        joined=joined,
        mounts=mounts,
        devices=[*_default_devices(), *map(_device, linux.get("devices", ()))] if makes_devices else [],
        sysctls=list(linux.get("sysctl", {}).items()),
        masked=list(linux.get("maskedPaths", ())),
        unwritable=list(linux.get("readonlyPaths", ())),
        hostname=config.get("hostname", ""),
    )


def _namespaces(documents: Iterable[Mapping[str, str]]) -> tuple[int, list[tuple[int, str]]]:
    """The flags of the new ones, and those to join."""
    unshared = 0
    joined = []
    for document in documents:
        flag = _NAMESPACES.get(document["type"])
        if flag is None:
            raise RuntimeTrouble(f"builtin: no name spaces of type {document['type']}")
        if document.get("path"):
            joined.append((flag, document["path"]))
        else:
            unshared |= flag
    return unshared, joined


def _mount(document: Mapping[str, Any]) -> MountPlan:
    options = document.get("options", ())
    bind = "bind" in options or "rbind" in options
    flags = attributes = 0
    data = []
    for option in options:
        if option in _OPTIONS:
            flag, attribute = _OPTIONS[option]
            flags |= flag
            attributes |= attribute
        elif option not in _IMPLIED:
            data.append(option)
    if bind and data:
        raise RuntimeTrouble(f"builtin: a bind mount has no option {data[0]}")
    kind = document.get("type", "")
    return MountPlan(
        target=os.path.normpath("/" + document["destination"].lstrip("/")),
        kind="bind" if bind else _CGROUP_TYPES.get(kind, kind),
        source=document.get("source", kind),
        flags=flags,
        attributes=attributes,
        data=",".join(data),
        recursive="rbind" in options,
    )


def _default_devices() -> list[DevicePlan]:
    """Those that every container has (runtime-spec, config-linux.md, "Default Devices")."""
    numbers = {name: os.makedev(_MEMORY_MAJOR, minor) for name, minor in _DEFAULT_DEVICES.items()}
    return [
        DevicePlan(path=f"/dev/{name}", mode=stat.S_IFCHR | 0o666, number=number, uid=0, gid=0)
        for name, number in {**numbers, "tty": _TTY}.items()
    ]


def _device(document: Mapping[str, Any]) -> DevicePlan:
    kind = stat.S_IFBLK if document["type"] == "b" else stat.S_IFCHR
    return DevicePlan(
        path=os.path.normpath(document["path"]),
        mode=kind | document.get("fileMode", 0o666),
        number=os.makedev(document["major"], document["minor"]),
        uid=document.get("uid", 0),
        gid=document.get("gid", 0),
    )


def _mask(names: Iterable[str], unruled: bool) -> int:
    return sum(
        1 << number
        for number, name in enumerate(ALL_CAPABILITIES)
        if name in names and not (unruled and name == "CAP_MKNOD")
    )


def _limit(value: int) -> int:
    return resource.RLIM_INFINITY if value >= 1 << 63 else value
