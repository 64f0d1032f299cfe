"""Whereto a webhook may point: which URLs, and which addresses behind their names.

People choose the URLs and our machine sends to them, so they must not reach what only our machine can: addresses that
are not public are refused, unless the administrator allows their network. A name is looked up once for each delivery,
and the connection is made to an address that was looked at, not to the name again.
"""

import ipaddress
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from moldar.hub.addresses import Kind, Network, embedded, kind_of

URL_LIMIT = 2000


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
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if any(found.version == network.version and found in network for network in networks):
        return True
    inner = embedded(found)
    return kind_of(address) is Kind.PUBLIC or (inner is not None and allowed(str(inner), networks))


def _valid_host(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    if ":" in host:
        try:
            return "%" not in host and ipaddress.IPv6Address(host) is not None
        except ValueError:
            return False
    return bool(host) and len(host) <= 253 and all(c.isalnum() or c in "-._" for c in host)
