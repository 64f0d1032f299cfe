"""Containers as data to show: what `ps`, `inspect` and `port` print, with nothing printed here."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from moldar.containers.definition import Definition
from moldar.containers.logs import moment
from moldar.containers.status import Status
from moldar.errors import UserMistake
from moldar.sandbox.ports import PortMapping

_STEPS = (
    (60, 60, "minute"),
    (48, 3600, "hour"),
    (14, 86400, "day"),
    (12, 7 * 86400, "week"),
    (24, 30 * 86400, "month"),
)


class ContainerView(NamedTuple):
    """A container as it is now."""

    name: str
    definition: Definition
    status: Status

    @property
    def id(self) -> str:
        return self.definition.id

    @property
    def command(self) -> str:
        """The command as `ps` quotes it, whole."""
        return '"' + " ".join(self.definition.args) + '"'


def status_text(view: ContainerView, now: float | None = None) -> str:
    """`Up 2 minutes`, `Exited (0) 3 seconds ago`, `Created`, as Docker writes it."""
    now = time.time() if now is None else now
    status = view.status
    if status.status == "running":
        return f"Up {duration(now - status.started)}{' (Paused)' if status.paused else ''}"
    if status.status == "restarting":
        return f"Restarting ({status.exit_code}) {duration(now - status.finished)} ago"
    if status.status == "exited":
        ago = f" {duration(now - status.finished)} ago" if status.finished else ""
        return f"Exited ({status.exit_code}){ago}"
    return "Created"


def duration(seconds: float) -> str:
    """A span of time in Docker's words."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    if whole < 120:
        return "About a minute"
    if 3600 <= whole < 7200:
        return "About an hour"
    for most, unit, name in _STEPS:
        if whole < most * unit:
            return f"{whole // unit} {name}s"
    return f"{whole // (365 * 86400)} years"


def ports_text(view: ContainerView) -> str:
    """`127.0.0.1:5000->5000/tcp, 6000/tcp`: published ports, then those only exposed; nothing unless it runs."""
    if not view.status.running:
        return ""
    published = [f"{_host(port)}->{port.container_port}/{port.protocol}" for port in view.status.ports]
    taken = {f"{port.container_port}/{port.protocol}" for port in view.status.ports}
    exposed = [text for text in map(_with_protocol, view.definition.exposed) if text not in taken]
    return ", ".join([*published, *exposed])


def port_lines(view: ContainerView) -> tuple[tuple[str, str], ...]:
    """For `port`: pairs of container port (5000/tcp) and host address (127.0.0.1:5000)."""
    return tuple((f"{port.container_port}/{port.protocol}", _host(port)) for port in view.status.ports)


def matches(view: ContainerView, filters: Iterable[tuple[str, str]]) -> bool:
    """Whether the container passes; values of one filter are alternatives. UserMistake for unknown ones."""
    wanted: dict[str, list[str]] = {}
    for name, value in filters:
        wanted.setdefault(name, []).append(value)
    return all(any(_passes(view, name, value) for value in values) for name, values in wanted.items())


def prunable(view: ContainerView, filters: Iterable[tuple[str, str]]) -> bool:
    """Whether all these filters let a prune take the container. UserMistake for unknown ones."""
    for name, value in filters:
        if name == "until":
            passes = moment(str(view.definition.created)) < moment(value)
        elif name in ("label", "label!"):
            passes = _passes(view, "label", value) == (name == "label")
        else:
            raise UserMistake(f"invalid filter '{name}'", hint="use until, label or label!")
        if not passes:
            return False
    return True


def inspection(view: ContainerView, log_path: str) -> dict[str, Any]:
    """The document of `inspect`, with Docker's names."""
    definition, status = view.definition, view.status
    return {
        "Id": definition.id,
        "Created": timestamp(definition.created),
        "Path": definition.args[0],
        "Args": list(definition.args[1:]),
        "State": _state(status),
        "Image": definition.image,
        "LogPath": log_path,
        "Name": f"/{view.name}",
        "RestartCount": status.restarts,
        "Driver": definition.driver,
        "Platform": "linux",
        "HostConfig": _host_config(definition),
        "Mounts": [_mount(mount._asdict()) for mount in definition.mounts],
        "Config": _config(definition),
        "NetworkSettings": {
            "IPAddress": status.address,
            "Gateway": status.gateway,
            "Ports": _bindings(status.ports, definition.exposed),
            "Networks": {definition.network: _network(status)},
        },
    }


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC; Docker's zero time for never."""
    if not seconds:
        return "0001-01-01T00:00:00Z"
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _passes(view: ContainerView, name: str, value: str) -> bool:
    definition, status = view.definition, view.status
    if name == "id":
        return definition.id.startswith(value)
    if name == "name":
        return value.removeprefix("/") in view.name
    if name == "status":
        return status.state == value
    if name == "exited":
        return status.status == "exited" and str(status.exit_code) == value
    if name == "label":
        key, equals, wanted = value.partition("=")
        return dict(definition.labels).get(key) == wanted if equals else key in dict(definition.labels)
    if name == "ancestor":
        image = definition.image.partition(":")[2]
        return value in (definition.image_name, definition.image_name.partition(":")[0]) or image.startswith(
            value.removeprefix("sha256:")
        )
    if name == "network":
        return definition.network == value
    if name == "volume":
        return any(value in (mount.name, mount.target) for mount in definition.mounts)
    if name in ("before", "since"):  # `Containers.list` has put the other container's time in the place of its name
        return definition.created < float(value) if name == "before" else definition.created > float(value)
    if name in ("publish", "expose"):
        return any(
            value.partition("/")[0] in (str(port.container_port), str(port.host_port)) for port in status.ports
        )
    raise UserMistake(
        f"invalid filter {name!r}",
        hint="use id, name, status, exited, label, ancestor, before, since, network, volume, publish or expose",
    )


def _host(port: PortMapping) -> str:
    address = port.host_ip or "0.0.0.0"
    return f"[{address}]:{port.host_port}" if ":" in address else f"{address}:{port.host_port}"


def _with_protocol(text: str) -> str:
    return text if "/" in text else f"{text}/tcp"


def _state(status: Status) -> dict[str, Any]:
    return {
        "Status": status.state,
        "Running": status.running,
        "Paused": status.paused,
        "Restarting": status.status == "restarting",
        "OOMKilled": False,
        "Dead": False,
        "Pid": status.process.pid if status.running else 0,
        "ExitCode": status.exit_code,
        "Error": status.error,
        "StartedAt": timestamp(status.started),
        "FinishedAt": timestamp(status.finished),
    }


def _network(status: Status) -> dict[str, Any]:
    return {"IPAddress": status.address, "Gateway": status.gateway}


def _host_config(definition: Definition) -> dict[str, Any]:
    binds = [mount for mount in definition.mounts if mount.kind != "tmpfs" and not mount.anonymous]
    return {
        "Binds": [f"{mount.name or mount.source}:{mount.target}{':ro' if mount.readonly else ''}" for mount in binds],
        "NetworkMode": definition.network,
        "CgroupParent": definition.cgroup_parent,
        "PortBindings": _bindings(definition.ports, ()),
        "RestartPolicy": {"Name": definition.restart, "MaximumRetryCount": definition.restart_most},
        "AutoRemove": definition.auto_remove,
        "CapAdd": list(definition.cap_add),
        "CapDrop": list(definition.cap_drop),
        "Dns": list(definition.dns),
        "ExtraHosts": [f"{name}:{address}" for name, address in definition.hosts],
        "Privileged": definition.privileged,
        "ReadonlyRootfs": definition.read_only,
        "ShmSize": definition.shm_size,
        "Memory": definition.memory,
        "MemorySwap": definition.memory_swap,
        "NanoCpus": int(definition.cpus * 10**9),
        "PidsLimit": definition.pids or None,
        "Init": definition.init,
    }


def _config(definition: Definition) -> dict[str, Any]:
    document: dict[str, Any] = {
        "Hostname": definition.hostname,
        "User": definition.user,
        "Tty": definition.tty,
        "OpenStdin": definition.interactive,
        "Env": list(definition.env),
        "Cmd": list(definition.args[len(definition.entrypoint) :]),
        "Entrypoint": list(definition.entrypoint) or None,
        "Image": definition.image_name,
        "WorkingDir": definition.cwd,
        "Labels": dict(definition.labels),
        "Volumes": {mount.target: {} for mount in definition.mounts if mount.anonymous} or None,
        "ExposedPorts": {_with_protocol(port): {} for port in definition.exposed},
        "StopSignal": definition.stop_signal,
        "StopTimeout": definition.stop_timeout,
    }
    if definition.healthcheck:
        document["Healthcheck"] = {"Test": list(definition.healthcheck)}
    return document


def _mount(mount: dict[str, Any]) -> dict[str, Any]:
    return {
        "Type": mount["kind"],
        "Name": mount["name"],
        "Source": mount["source"],
        "Destination": mount["target"],
        "Driver": "local" if mount["kind"] == "volume" else "",
        "Mode": "ro" if mount["readonly"] else "",
        "RW": not mount["readonly"],
        "Propagation": "rprivate" if mount["kind"] == "bind" else "",
    }


def _bindings(ports: Iterable[PortMapping], exposed: Iterable[str]) -> dict[str, Any]:
    found: dict[str, Any] = {_with_protocol(text): None for text in exposed}
    for port in ports:
        name = f"{port.container_port}/{port.protocol}"
        binding = {"HostIp": port.host_ip or "0.0.0.0", "HostPort": str(port.host_port or "")}
        found[name] = [*(found.get(name) or []), binding]
    return found
