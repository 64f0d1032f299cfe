"""Control groups of a container: made, limited, given their device rules, and removed. Plain files, both versions.

On version 1 a container gets a group in the hierarchy of each controller that it needs. On version 2 it gets one.
Directories are named by the configuration's `cgroupsPath`, below where this process sees the root of the tree.
"""

import errno
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from moldar.errors import HostTrouble
from moldar.sandbox.isolation.device_rules import DeviceRule, attach_rules, device_rules

TREE = "/sys/fs/cgroup"
_CONTROLLERS = ("memory", "cpu", "pids")
"""The members of `linux.resources` that need a controller of the same name."""
_REMOVAL_SECONDS = 2.0


class NoCgroup(HostTrouble):
    """A control group cannot be made or limited here; 125 as for a runtime's own trouble."""

    exit_code = 125


def cgroup_directories(path: str, resources: Mapping[str, Any], tree: str) -> tuple[str, ...]:
    """The directories of the groups that a container needs, there or not. One that decides about devices is first."""
    if _is_unified(tree):
        return (tree + path,)
    return tuple(f"{tree}/{controller}{path}" for controller in ("devices", *_wanted(resources)))


def make_cgroups(path: str, resources: Mapping[str, Any], tree: str) -> None:
    """Make the groups of a container and set their limits. NoCgroup; remove what was made then."""
    rules = device_rules(resources.get("devices", ()))
    try:
        if _is_unified(tree):
            directory = _make_unified(tree, path, _wanted(resources))
            _write_all(directory, unified_limits(resources))
            attach_rules(directory, rules)
        else:
            _write_rules(_make(f"{tree}/devices", path), rules)
            for controller in _wanted(resources):
                _write_all(_make(f"{tree}/{controller}", path), legacy_limits(resources, controller))
    except OSError as error:
        what = f" for {error.filename}" if error.filename else ""
        raise NoCgroup(f"control groups cannot be used: {error.strerror}{what}") from error


def unified_limits(resources: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Files and what to write to them on version 2, where swap is counted without the memory."""
    found: list[tuple[str, str]] = []
    memory, cpu = resources.get("memory", {}), resources.get("cpu", {})
    limit, both = memory.get("limit", 0), memory.get("swap", 0)
    if limit:
        found.append(("memory.max", _number(limit)))
    if both:
        found.append(("memory.swap.max", _number(both if both < 0 else max(0, both - limit))))
    if cpu.get("quota"):
        found.append(("cpu.max", f"{cpu['quota']} {cpu['period']}"))
    if pids := resources.get("pids", {}).get("limit"):
        found.append(("pids.max", _number(pids)))
    return found


def legacy_limits(resources: Mapping[str, Any], controller: str) -> list[tuple[str, str]]:
    """Files and what to write to them in the hierarchy of a controller of version 1."""
    limits = resources.get(controller, {})
    if controller == "memory":
        named = (("memory.limit_in_bytes", "limit"), ("memory.memsw.limit_in_bytes", "swap"))
        return [(file, str(limits[name])) for file, name in named if limits.get(name)]
    if controller == "cpu":
        return [("cpu.cfs_period_us", str(limits["period"])), ("cpu.cfs_quota_us", str(limits["quota"]))]
    return [("pids.max", _number(limits["limit"]))]


def remove_cgroups(directories: Sequence[str]) -> None:
    """Remove groups whose processes have ended; the kernel may need a moment to notice that."""
    deadline = time.monotonic() + _REMOVAL_SECONDS
    for directory in directories:
        while True:
            try:
                os.rmdir(directory)
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno == errno.EBUSY and time.monotonic() < deadline:
                    time.sleep(0.005)
                    continue
            break


def _is_unified(tree: str) -> bool:
    return os.path.exists(f"{tree}/cgroup.controllers")


def _wanted(resources: Mapping[str, Any]) -> list[str]:
    return [name for name in _CONTROLLERS if resources.get(name)]


def _make_unified(tree: str, path: str, wanted: Sequence[str]) -> str:
    """A group of version 2; each group above it must hand the controllers down."""
    directory = tree
    for name in path.strip("/").split("/"):
        if wanted:
            _write(f"{directory}/cgroup.subtree_control", " ".join(f"+{controller}" for controller in wanted))
        directory = f"{directory}/{name}"
        with suppress(FileExistsError):
            os.mkdir(directory, 0o755)
    return directory


def _make(hierarchy: str, path: str) -> str:
    if not os.path.exists(f"{hierarchy}/cgroup.procs"):
        raise OSError(errno.ENOENT, "no such controller", os.path.basename(hierarchy))
    directory = hierarchy + path
    os.makedirs(directory, mode=0o755, exist_ok=True)
    return directory


def _write_rules(directory: str, rules: Sequence[DeviceRule]) -> None:
    """All is allowed that the group above allows, until something is denied."""
    denied = False
    for rule in rules:
        denied = denied or not rule.allow
        if denied:
            _write(f"{directory}/devices.{'allow' if rule.allow else 'deny'}", rule.line)


def _write_all(directory: str, limits: Sequence[tuple[str, str]]) -> None:
    for name, value in limits:
        _write(f"{directory}/{name}", value)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(descriptor)


def _number(value: int) -> str:
    return "max" if value < 0 else str(value)
