"""Verbs on networks: list and look at the three that there are. Others cannot be made yet."""

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from moldar.app.containers import list_containers
from moldar.app.engine import Engine
from moldar.errors import NotFound, UserMistake
from moldar.sandbox.network import MODES

FILTERS = ("driver", "id", "label", "name", "scope", "type")


class NetworkNotFound(NotFound):
    """No network of that name or ID."""

    def __init__(self, name: str) -> None:
        super().__init__(f"network {name} not found", hint="`moldar network ls` lists the networks")
        self.name = name


class Network(NamedTuple):
    """A network. Its ID is the same on every call and differs from store to store."""

    id: str
    name: str

    @property
    def driver(self) -> str:
        """What Docker calls the driver of a network of this name."""
        return "null" if self.name == "none" else self.name


def list_networks(engine: Engine, filters: Iterable[tuple[str, str]] = ()) -> list[Network]:
    """The networks that pass, by name. Values of one filter are alternatives. UserMistake for unknown filters."""
    wanted: dict[str, list[str]] = {}
    for key, value in filters:
        if key not in FILTERS:
            raise UserMistake(f"invalid filter '{key}'", hint=f"use one of {', '.join(FILTERS)}")
        wanted.setdefault(key, []).append(value)
    found = [Network(_identity(engine, name), name) for name in sorted(MODES)]
    return [
        network
        for network in found
        if all(any(_passes(network, key, value) for value in values) for key, values in wanted.items())
    ]


def inspect(engine: Engine, text: str) -> dict[str, Any]:
    """What `docker network inspect` tells of a network by its name, ID or the beginning of that. NetworkNotFound."""
    networks = list_networks(engine)
    found = next((network for network in networks if network.name == text), None)
    found = found or next((network for network in networks if text and network.id.startswith(text)), None)
    if found is None:
        raise NetworkNotFound(text)
    members = [view for view in list_containers(engine) if view.definition.network == found.name]
    return {
        "Name": found.name,
        "Id": found.id,
        "Scope": "local",
        "Driver": found.driver,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": []},
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "Containers": {
            view.id: {"Name": view.name, "IPv4Address": view.status.address, "IPv6Address": ""} for view in members
        },
        "Options": {},
        "Labels": {},
    }


def _identity(engine: Engine, name: str) -> str:
    return hashlib.sha256(f"{engine.home.root}\0{name}".encode(errors="surrogateescape")).hexdigest()


def _passes(network: Network, key: str, value: str) -> bool:
    if key == "name":
        return value in network.name
    if key == "id":
        return network.id.startswith(value)
    if key == "type":
        return value == "builtin"
    return key != "label" and value == (network.driver if key == "driver" else "local")
