"""Bundles: a sandbox as the OCI runtime specification wants it, a directory with config.json (runtime-spec 1.0)."""

import json
import os
import re
import resource
import stat
from collections.abc import Iterable
from typing import Any, NamedTuple

from moldar.errors import UserMistake
from moldar.sandbox.confinement import MASKED_PATHS, READONLY_PATHS, capabilities, seccomp_profile
from moldar.sandbox.etcfiles import hosts_file, resolv_conf
from moldar.sandbox.one_id import with_one_id
from moldar.sandbox.spec import BindMount, Device, Limit, Mount, ProcessSpec, Resources, SandboxSpec, TmpfsMount

_ESCAPED = re.compile(r"\\([0-7]{3})")
_CPU_PERIOD = 100_000
_UNLIMITED = 2**64 - 1
_UMASK = 0o022
"""As Docker's; runc would otherwise pass on that of whoever types the command."""
_LIMITS = frozenset({
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
})  # fmt: skip


class Features(NamedTuple):
    """What the host lets a runtime do. `cgroups`: whether cgroups can be made; `cgroup_mount`: and shown inside.

    `in_namespace`: whether we are root in a user namespace only; `one_id`: and have no other ids than that.
    """

    cgroups: bool = True
    cgroup_mount: bool = False
    in_namespace: bool = False
    one_id: bool = False


def write_bundle(directory: str, spec: SandboxSpec, identity: str, features: Features) -> None:
    """Make the bundle in `directory` (made if it is not there): config.json, and files for /etc where missing.

    Existing /etc files are kept, since a container may have written to them. UserMistake for unknown limits and
    missing devices.
    """
    os.makedirs(directory, mode=0o711, exist_ok=True)
    own_network = spec.network != "host"
    texts = {
        "hosts": hosts_file(spec.hosts, spec.address, spec.hostname),
        "resolv.conf": resolv_conf(spec.dns, own_network=own_network),
        "hostname": spec.hostname + "\n",
    }
    for name in spec.etc:
        path = f"{directory}/{name}"
        if not os.path.exists(path):
            with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(texts[name])
            os.chmod(path, 0o644)
    with open(f"{directory}/config.json", "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(json.dumps(configuration(directory, spec, identity, features), ensure_ascii=False))


def fit(directory: str, spec: SandboxSpec, features: Features) -> SandboxSpec:
    """`spec` with what the host can do, before its bundle is written to `directory`. Raises NeedsIds."""
    return with_one_id(spec, directory) if features.one_id else spec


def mount_targets(spec: SandboxSpec) -> tuple[str, ...]:
    """Every path of the root that the sandbox mounts something on."""
    return ("/proc", "/dev", "/sys", *(f"/etc/{name}" for name in spec.etc), *(mount.target for mount in spec.mounts))


def configuration(directory: str, spec: SandboxSpec, identity: str, features: Features) -> dict[str, Any]:
    """The config.json of `spec` (runtime-spec, config.md) as a document."""
    namespaces: list[dict[str, str]] = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]
    if spec.network != "host":
        joined = {"path": spec.network} if spec.network != "none" else {}
        namespaces.append({"type": "network", **joined})
    if features.cgroup_mount:
        namespaces.append({"type": "cgroup"})
    linux: dict[str, Any] = {"namespaces": namespaces}
    if features.cgroups:
        parent = os.path.normpath(f"/{spec.cgroup_parent or 'moldar'}").lstrip("/")
        linux["cgroupsPath"] = os.path.join("/", parent, identity)
        linux["resources"] = _resources(spec)
    if devices := [_device(device) for device in _devices(spec, features)]:
        linux["devices"] = devices
    if spec.sysctls:
        linux["sysctl"] = dict(spec.sysctls)
    if not spec.privileged:
        linux["maskedPaths"] = list(MASKED_PATHS)
        linux["readonlyPaths"] = list(READONLY_PATHS)
        linux["seccomp"] = seccomp_profile(_capabilities(spec), emulate_ids=features.one_id)
    document: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "process": _with_limits(process_document(spec.process, _capabilities(spec)), spec.limits),
        "root": {"path": spec.root, "readonly": spec.readonly},
        "mounts": [
            *_system_mounts(spec, features),
            *_etc_mounts(directory, spec),
            *_own_mounts(spec),
            *_device_mounts(spec, features),
        ],
        "linux": linux,
    }
    if spec.hostname:
        document["hostname"] = spec.hostname
    return document


def process_document(process: ProcessSpec, allowed: Iterable[str]) -> dict[str, Any]:
    """The `process` object (runtime-spec, config.md, "Process"). Only root gets capabilities that work at once."""
    held = list(allowed)
    sets = {"bounding": held, "permitted": held, "effective": held} if not process.user.uid else {"bounding": held}
    user: dict[str, Any] = {"uid": process.user.uid, "gid": process.user.gid, "umask": _UMASK}
    if process.user.groups:
        user["additionalGids"] = list(process.user.groups)
    return {
        "terminal": process.terminal,
        "user": user,
        "args": list(process.args),
        "env": list(process.env),
        "cwd": process.cwd or "/",
        "capabilities": sets,
        "noNewPrivileges": False,
    }


def clamped_limits(limits: Iterable[Limit]) -> list[dict[str, Any]]:
    """`limits` as rlimits, none above what this process may have itself; UserMistake for names that do not exist."""
    result = []
    for limit in limits:
        if limit.name not in _LIMITS:
            raise UserMistake(f"unknown limit {limit.name!r}", hint=f"limits are {', '.join(sorted(_LIMITS))}")
        number = getattr(resource, f"RLIMIT_{limit.name.upper()}", None)
        most = _number(resource.getrlimit(number)[1]) if number is not None else _UNLIMITED
        hard = min(_number(limit.hard), most)
        name = f"RLIMIT_{limit.name.upper()}"
        result.append({"type": name, "soft": min(_number(limit.soft), hard), "hard": hard})
    return result


def _with_limits(process: dict[str, Any], limits: tuple[Limit, ...]) -> dict[str, Any]:
    return {**process, "rlimits": clamped_limits(limits)} if limits else process


def _number(value: int) -> int:
    return _UNLIMITED if value < 0 else value


def _capabilities(spec: SandboxSpec) -> tuple[str, ...]:
    return capabilities(privileged=spec.privileged, added=spec.capabilities_added, dropped=spec.capabilities_dropped)


def _system_mounts(spec: SandboxSpec, features: Features) -> list[dict[str, Any]]:
    """/proc, /dev and /sys; what the caller mounts at the same place itself is left out."""
    writable = "rw" if spec.privileged else "ro"
    shm = [f"size={spec.shm_size}"] if spec.shm_size else []
    terminals = ["ptmxmode=0666", "mode=0620", *([] if features.one_id else ["gid=5"])]
    found = [
        _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", *terminals),
        _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", *shm),
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        _sysfs(spec, features, writable),
    ]
    if features.cgroup_mount:
        found.append(_mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", writable))
    taken = {os.path.normpath(mount.target) for mount in spec.mounts}
    return [mount for mount in found if mount["destination"] not in taken]


def _sysfs(spec: SandboxSpec, features: Features, writable: str) -> dict[str, Any]:
    """A new one shows the network name space, so that only who owns that may mount it."""
    if features.in_namespace and spec.network == "host":
        return _mount("/sys", "bind", "/sys", "rbind", "rprivate", "nosuid", "noexec", "nodev", writable)
    return _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", writable)


def _etc_mounts(directory: str, spec: SandboxSpec) -> list[dict[str, Any]]:
    options = ["rbind", "rprivate", *(["ro"] if spec.etc_readonly else [])]
    return [_mount(f"/etc/{name}", "bind", f"{directory}/{name}", *options) for name in spec.etc]


def _own_mounts(spec: SandboxSpec) -> list[dict[str, Any]]:
    """The option `rro` would spare naming what is below, but runtimes that do not know it take no notice of it."""
    mounts = sorted(spec.mounts, key=_depth)
    if any(isinstance(mount, BindMount) and mount.readonly for mount in mounts):
        points = _mount_points()
        mounts = [each for mount in mounts for each in (mount, *_mounted_below(mount, points))]
    return [_own_mount(mount, spec.privileged) for mount in mounts]


def _mounted_below(mount: Mount, points: list[str]) -> list[Mount]:
    """What is mounted below a read-only directory, to be read-only too."""
    if not isinstance(mount, BindMount) or not mount.readonly:
        return []
    source = os.path.realpath(mount.source)
    inside = [point[len(source) :] for point in points if point.startswith(source.rstrip("/") + "/")]
    return [mount._replace(source=source + path, target=mount.target.rstrip("/") + path) for path in inside]


def _mount_points() -> list[str]:
    """Where something is mounted, outer mounts before inner ones (proc(5), mountinfo)."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        escaped = [line.split(" ", 5)[4] for line in file]
    return [_ESCAPED.sub(lambda found: chr(int(found[1], 8)), point) for point in escaped]


def _depth(mount: Mount) -> int:
    path = os.path.normpath(mount.target)
    return 0 if path == "/" else path.count("/")


def _own_mount(mount: Mount, privileged: bool) -> dict[str, Any]:
    if isinstance(mount, BindMount):
        access = "ro" if mount.readonly else "rw"
        return _mount(
            mount.target, "bind", mount.source, "rbind", "rprivate", access, *(() if privileged else ("nodev",))
        )
    assert isinstance(mount, TmpfsMount)
    options = ["nosuid", "nodev", f"mode={mount.mode:o}", f"uid={mount.uid}", f"gid={mount.gid}"]
    return _mount(mount.target, "tmpfs", "tmpfs", *options, *([f"size={mount.size}"] if mount.size else []))


def _mount(target: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": source, "options": list(options)}


def _resources(spec: SandboxSpec) -> dict[str, Any]:
    """Device rules always, since a device node of the image must not open the host's disk; limits where asked for."""
    rules: list[dict[str, Any]] = [{"allow": spec.privileged, "access": "rwm"}]
    if not spec.privileged:
        for device in spec.devices:
            document = _device(device)
            numbers = {"type": document["type"], "major": document["major"], "minor": document["minor"]}
            rules.append({"allow": True, "access": "rwm", **numbers})
    return {"devices": rules, **_limited(spec.resources)}


def _limited(resources: Resources) -> dict[str, Any]:
    document: dict[str, Any] = {}
    memory = {"limit": resources.memory, "swap": resources.memory_swap}
    if any(memory.values()):
        document["memory"] = {name: value for name, value in memory.items() if value}
    if resources.cpus:
        document["cpu"] = {"period": _CPU_PERIOD, "quota": int(resources.cpus * _CPU_PERIOD)}
    if resources.pids:
        document["pids"] = {"limit": resources.pids}
    return document


def _devices(spec: SandboxSpec, features: Features) -> tuple[Device, ...]:
    """The nodes to make in /dev; a privileged sandbox gets all of the host's top ones."""
    own = () if features.in_namespace else spec.devices
    if not spec.privileged:
        return own
    usual = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console"}  # made by every runtime
    found = []
    with os.scandir("/dev") as entries:
        for entry in entries:
            mode = entry.stat(follow_symlinks=False).st_mode
            if entry.name not in usual and (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)):
                found.append(Device(entry.path, entry.path))
    return (*found, *own)


def _device_mounts(spec: SandboxSpec, features: Features) -> list[dict[str, Any]]:
    """In a user namespace no node can be made, but the host's be shown, at any place."""
    if not features.in_namespace:
        return []
    for device in spec.devices:
        _device(device)  # which says what is wrong with it
    return [
        _mount(device.target, "bind", device.source, "bind", "rprivate", "nosuid", "noexec")
        for device in spec.devices
    ]


def _device(device: Device) -> dict[str, Any]:
    try:
        status = os.stat(device.source)
    except OSError as error:
        raise UserMistake(f"no device {device.source!r} on this host: {error.strerror}") from error
    if not (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
        raise UserMistake(f"{device.source!r} is not a device")
    return {
        "path": device.target,
        "type": "c" if stat.S_ISCHR(status.st_mode) else "b",
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }
