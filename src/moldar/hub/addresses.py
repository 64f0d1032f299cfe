"""What an IP address leads to, judged in one place for all that others make the hub ask: webhooks and upstreams.

The networks are those of IANA's special-purpose address registries (RFC 6890). An IPv6 address is public only in
global unicast space, 2000::/3; one that carries an IPv4 address is what that address is, because a translator or
tunnel may take packets there.
"""

import asyncio
import enum
import ipaddress
import socket

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Kind(enum.Enum):
    """Where an address is. Nothing that is for use lies in RESERVED, but 0.0.0.0 and :: reach this machine."""

    PUBLIC = "public"
    LOOPBACK = "loopback"
    LINK_LOCAL = "link-local"
    PRIVATE = "private"
    SHARED = "shared by a carrier's customers"
    BENCHMARK = "for benchmarks"
    RESERVED = "reserved"


_SPECIAL: tuple[tuple[Kind, tuple[Network, ...]], ...] = tuple(
    (kind, tuple(ipaddress.ip_network(network) for network in networks.split()))
    for kind, networks in (
        (Kind.LOOPBACK, "127.0.0.0/8 ::1"),
        (Kind.LINK_LOCAL, "169.254.0.0/16 fe80::/10"),
        (Kind.PRIVATE, "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7 fec0::/10"),
        (Kind.SHARED, "100.64.0.0/10"),
        (Kind.BENCHMARK, "198.18.0.0/15 2001:2::/48"),
        (Kind.RESERVED, "0.0.0.0/8 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 198.51.100.0/24 203.0.113.0/24"),
        (Kind.RESERVED, "224.0.0.0/4 240.0.0.0/4 2001::/23 2001:db8::/32 3fff::/20"),
    )
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_IPV4_AT_THE_END = tuple(
    ipaddress.IPv6Network(network)
    for network in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")  # RFC 4291, RFC 2765, RFC 6052
)


def kind_of(address: str) -> Kind:
    """The kind of an address in text, with or without a zone; what is none is RESERVED."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return Kind.RESERVED
    usual = Kind.PUBLIC if found.version == 4 or found in _GLOBAL_UNICAST else Kind.RESERVED
    kind = next((kind for kind, networks in _SPECIAL if any(found in network for network in networks)), usual)
    inner = embedded(found)
    return kind_of(str(inner)) if inner is not None and kind in (Kind.PUBLIC, Kind.RESERVED) else kind


def embedded(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that packets to an IPv6 address may end up at."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if any(address in network for network in _IPV4_AT_THE_END):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.teredo:
        return address.teredo[1]
    return address.sixtofour


async def look_up(host: str, port: int) -> list[str]:
    """The addresses to connect to for a name or for an address in whatever form, the preferred one first.

    Raises OSError when there is none.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, "not a host name") from error
    return list(dict.fromkeys(_shown(entry[4]) for entry in found))


def _shown(place: tuple[object, ...]) -> str:
    """An address in text, with its zone if it has one."""
    zone = place[3] if len(place) > 3 else 0
    return f"{place[0]}%{zone}" if zone else str(place[0])
