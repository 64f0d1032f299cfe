"""Whereto a webhook may point: which URLs, and which addresses behind their names.

People choose the URLs and our machine sends to them, so they must not reach what only our machine can: addresses that
are not public are refused, unless the administrator allows their network. A name is looked up once for each delivery,
and the connection is made to an address that was looked at, not to the name again.
"""

import ipaddress
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

URL_LIMIT = 2000
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Target(NamedTuple):
    """A URL in the parts that a request needs."""

    is_tls: bool
    host: str
    port: int
    host_header: str
    path: str


def parse_target(url: str) -> Target | None:
    """The parts of an http or https URL; None when it is none, or holds a password, a fragment or odd characters."""
    if not 1 <= len(url) <= URL_LIMIT or not url.isascii() or not url.isprintable() or set(url) & set(' "<>\\^`{|}'):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or "@" in parts.netloc or "#" in url or not _valid_host(parts):
        return None
    host = parts.hostname or ""
    is_tls = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(is_tls, host, (443 if is_tls else 80) if port is None else port, parts.netloc, path)


def allowed(address: str, networks: Sequence[Network]) -> bool:
    """Whether a delivery may go to `address`: it is public, or within one of `networks`."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # with a zone: link-local
        return False
    if any(found.version == network.version and found in network for network in networks):
        return True
    inner = embedded(found)
    return is_public(found) if inner is None else allowed(str(inner), networks)


def is_public(address: Address) -> bool:
    return address.is_global and not address.is_multicast and not address.is_reserved


def embedded(address: Address) -> Address | None:
    """The IPv4 address that packets to an IPv6 address may end up at."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.teredo:
        return address.teredo[1]
    return address.ipv4_mapped or address.sixtofour


def _valid_host(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    if ":" in host:
        try:
            return "%" not in host and ipaddress.IPv6Address(host) is not None
        except ValueError:
            return False
    return bool(host) and len(host) <= 253 and all(c.isalnum() or c in "-._" for c in host)
