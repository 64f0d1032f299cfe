"""Published ports: the grammar of -p and the choice of host ports."""

import errno
import socket
from collections.abc import Iterable
from typing import NamedTuple

from moldar.errors import HostTrouble, UserMistake


class PortMapping(NamedTuple):
    """A port of the host that leads into the container. `host_ip` empty: all addresses; `host_port` 0: a free one."""

    container_port: int
    protocol: str = "tcp"
    host_ip: str = ""
    host_port: int = 0


class PortTaken(HostTrouble):
    """A host port that somebody else listens on; 125 as Docker's exit code."""

    exit_code = 125

    def __init__(self, mapping: PortMapping) -> None:
        where = f"{mapping.host_ip or '0.0.0.0'}:{mapping.host_port}"
        super().__init__(
            f"cannot publish port {mapping.container_port}/{mapping.protocol}: "
            f"{where} is already in use on this host ({mapping.protocol})",
            hint="publish another host port, or stop what listens there",
        )
        self.mapping = mapping


class CannotBind(HostTrouble):
    """A host address that cannot be listened on."""

    exit_code = 125

    def __init__(self, mapping: PortMapping, error: OSError) -> None:
        port = mapping.host_port
        others = f"take a port from 1024 on, or as root: sysctl -w net.ipv4.ip_unprivileged_port_start={port}"
        super().__init__(
            f"cannot listen on {mapping.host_ip or '0.0.0.0'}:{port}: {error.strerror or error}",
            hint=others if error.errno == errno.EACCES else "",
        )


def parse_publish(text: str) -> tuple[PortMapping, ...]:
    """What `-p [ip:][hostport]:containerport[/protocol]` asks for; ranges on either side. UserMistake."""
    rest, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in ("tcp", "udp"):
        raise UserMistake(f"invalid protocol in {text!r}: expected tcp or udp")
    host_ip = ""
    if rest.startswith("["):
        host_ip, bracket, rest = rest[1:].partition("]:")
        if not bracket:
            raise UserMistake(f"invalid port {text!r}: expected [ipv6]:hostport:containerport")
    parts = rest.split(":")
    if len(parts) > (2 if host_ip else 3):
        raise UserMistake(f"invalid port {text!r}: expected [ip:][hostport]:containerport[/protocol]")
    if len(parts) == 3:
        host_ip = parts.pop(0)
    if host_ip:
        _check_address(host_ip, text)
    inside = _range(parts[-1], text)
    outside = _range(parts[0], text) if len(parts) == 2 and parts[0] else None
    return _pair(inside, outside, protocol, host_ip, text)


def exposed_ports(texts: Iterable[str]) -> tuple[PortMapping, ...]:
    """The ports of an image's EXPOSE, as mappings to free host ports."""
    return tuple(mapping for text in texts for mapping in parse_publish(text))


def choose_host_ports(mappings: Iterable[PortMapping]) -> tuple[PortMapping, ...]:
    """The mappings with a free host port where none is given, all tried; PortTaken, CannotBind."""
    chosen = []
    probes: list[socket.socket] = []
    try:
        for mapping in mappings:
            probe = _bind(mapping)
            probes.append(probe)  # kept open, so that the same port is not chosen twice
            chosen.append(mapping._replace(host_port=probe.getsockname()[1]))
    finally:
        for probe in probes:
            probe.close()
    return tuple(chosen)


def bind_host_port(mapping: PortMapping) -> socket.socket:
    """A socket bound to the host side of `mapping`; PortTaken, CannotBind."""
    return _bind(mapping)


def _pair(inside: range, outside: range | None, protocol: str, host_ip: str, text: str) -> tuple[PortMapping, ...]:
    if outside is None:
        return tuple(PortMapping(port, protocol, host_ip, 0) for port in inside)
    if len(inside) != len(outside):
        raise UserMistake(f"invalid port {text!r}: the ranges have different lengths")
    return tuple(PortMapping(port, protocol, host_ip, host) for port, host in zip(inside, outside, strict=True))


def _range(text: str, whole: str) -> range:
    first, dash, last = text.partition("-")
    numbers = [first, last] if dash else [first, first]
    if not all(number.isascii() and number.isdigit() and len(number) < 6 for number in numbers):
        raise UserMistake(f"invalid port {whole!r}: {text!r} is not a port number")
    low, high = int(numbers[0]), int(numbers[1])
    if low > high or high > 65535:
        raise UserMistake(f"invalid port {whole!r}: {text!r} is not in 1-65535")
    return range(low, high + 1)


def _check_address(address: str, text: str) -> None:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, address)
            return
        except OSError:
            continue
    raise UserMistake(f"invalid port {text!r}: {address!r} is not an IP address")


def _bind(mapping: PortMapping) -> socket.socket:
    kind = socket.SOCK_STREAM if mapping.protocol == "tcp" else socket.SOCK_DGRAM
    family = socket.AF_INET6 if ":" in mapping.host_ip else socket.AF_INET
    probe = socket.socket(family, kind)
    if mapping.protocol == "tcp":
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # past connections do not count
    try:
        probe.bind((mapping.host_ip or "0.0.0.0", mapping.host_port))
        if mapping.protocol == "tcp":
            probe.listen(128)
    except OSError as error:
        probe.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(mapping) from None
        raise CannotBind(mapping, error) from None
    return probe
