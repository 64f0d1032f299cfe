"""A way out for a container without pasta: a pair of virtual network cards and masquerading, by `ip` and a firewall.

Each container gets a /30 of 10.213.0.0/16, chosen at random among those that no interface has.
"""

import os
import shutil
import socket
from contextlib import suppress
from typing import NamedTuple

from moldar.errors import HostTrouble
from moldar.sandbox.spawning import Command, output_of

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TABLE = "moldar"
_FORWARDING = "/proc/sys/net/ipv4/ip_forward"


class NoWayOut(HostTrouble):
    """The host lacks what is needed to connect a container."""


class VethPair(NamedTuple):
    """A connected container. `name` is the host's card; `address` and `gateway` are the container's."""

    name: str
    address: str
    gateway: str
    undo: tuple[tuple[str, ...], ...]

    @classmethod
    def make(cls, namespace: str) -> "VethPair":
        """Connect the name space at the path `namespace`; NoWayOut."""
        number = _free_number()
        gateway, address = _address(number * 4 + 1), _address(number * 4 + 2)
        name = f"mld{number:x}"
        pair = cls(name, address, gateway, ())
        try:
            _run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", namespace)
            _run("ip", "addr", "add", f"{gateway}/30", "dev", name)
            _run("ip", "link", "set", name, "up")
            inside = ("nsenter", f"--net={namespace}", "ip")
            _run(*inside, "addr", "add", f"{address}/30", "dev", "eth0")
            _run(*inside, "link", "set", "eth0", "up")
            _run(*inside, "route", "add", "default", "via", gateway)
            return pair._replace(undo=_masquerade(name, address))
        except BaseException:
            pair.remove()
            raise

    def remove(self) -> None:
        """Take the pair and its rules away; what is gone already is fine."""
        for command in self.undo:
            with suppress(NoWayOut):
                _run(*command)
        if os.path.exists(f"/sys/class/net/{self.name}"):
            with suppress(NoWayOut):
                _run("ip", "link", "delete", self.name)


def _masquerade(name: str, address: str) -> tuple[tuple[str, ...], ...]:
    """Lets packets of `address` out under the host's address; gives the commands that undo it."""
    try:
        with open(_FORWARDING, "w") as file:
            file.write("1")
    except OSError as error:
        raise NoWayOut(f"cannot turn on forwarding: {error.strerror}") from error
    if shutil.which("nft", path=_PATH):
        table = f"{_TABLE}_{name}"
        _run("nft", "add", "table", "ip", table)
        chain = "{ type nat hook postrouting priority 100 ; }"
        _run("nft", f"add chain ip {table} out {chain}")
        _run("nft", f"add rule ip {table} out ip saddr {address} oifname != {name} masquerade")
        return (("nft", "delete", "table", "ip", table),)
    if shutil.which("iptables", path=_PATH):
        rule = ("POSTROUTING", "-s", address, "!", "-o", name, "-j", "MASQUERADE")
        _run("iptables", "-t", "nat", "-A", *rule)
        return (("iptables", "-t", "nat", "-D", *rule),)
    raise NoWayOut("neither nft nor iptables is installed")


def _free_number() -> int:
    """A number whose /30 no interface of the host has yet."""
    used = {name for _, name in socket.if_nameindex()}
    for _ in range(100):
        number = int.from_bytes(os.urandom(2)) >> 2
        if f"mld{number:x}" not in used:
            return number
    raise NoWayOut("no free network")


def _address(offset: int) -> str:
    return f"10.213.{offset >> 8}.{offset & 255}"


def _run(program: str, *args: str) -> None:
    path = shutil.which(program, path=_PATH)
    if not path:
        raise NoWayOut(f"{program} is not installed")
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        code, output = output_of(Command(path, args, (null,), {"PATH": _PATH}))
    finally:
        os.close(null)
    if code:
        raise NoWayOut(f"{program} {args[0]}: {output.decode(errors='replace').strip() or f'exit code {code}'}")
