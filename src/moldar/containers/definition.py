"""What a container is, fixed when it is created: kept as JSON in the store's record and read by its monitor."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from moldar.errors import CorruptData
from moldar.sandbox.ports import PortMapping


class ContainerMount(NamedTuple):
    """Something mounted in a container. `kind`: bind, volume or tmpfs; `source` a host path, `name` a volume's."""

    kind: str
    source: str
    target: str
    readonly: bool = False
    name: str = ""
    anonymous: bool = False
    size: int = 0
    mode: int = 0o1777


class Definition(NamedTuple):
    """Everything that starting the container needs. `args` is the whole argv; times in seconds, sizes in bytes.

    `entrypoint` is the first part of `args`, as far as that is not the command.
    """

    id: str
    image: str
    image_name: str
    created: float
    driver: str
    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    user: str
    groups: tuple[str, ...]
    tty: bool
    interactive: bool
    auto_remove: bool
    hostname: str
    network: str
    ports: tuple[PortMapping, ...]
    exposed: tuple[str, ...]
    mounts: tuple[ContainerMount, ...]
    devices: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    hosts: tuple[tuple[str, str], ...]
    dns: tuple[str, ...]
    init: bool
    restart: str
    restart_most: int
    read_only: bool
    privileged: bool
    cap_add: tuple[str, ...]
    cap_drop: tuple[str, ...]
    memory: int
    memory_swap: int
    cpus: float
    pids: int
    shm_size: int
    ulimits: tuple[tuple[str, int, int], ...]
    sysctls: tuple[tuple[str, str], ...]
    stop_signal: str
    stop_timeout: int
    healthcheck: tuple[str, ...]
    cgroup_parent: str = ""
    entrypoint: tuple[str, ...] = ()


_NESTED = {"ports": PortMapping, "mounts": ContainerMount}


def encode_definition(definition: Definition) -> str:
    """`definition` as JSON text."""
    return json.dumps(
        definition._asdict() | {name: [item._asdict() for item in getattr(definition, name)] for name in _NESTED}
    )


def decode_definition(text: str) -> Definition:
    """The definition in `text`; CorruptData when it is none."""
    try:
        document: Mapping[str, Any] = json.loads(text)
        members: dict[str, Any] = {}
        for name in Definition._fields:
            if name not in document and name in Definition._field_defaults:
                continue  # a record of an older version
            value = document[name]
            if name in _NESTED:
                value = tuple(_NESTED[name](**item) for item in value)
            members[name] = _tuples(value)
        return Definition(**members)
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptData(f"malformed container record: {error}") from error


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
