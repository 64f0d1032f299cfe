"""Where a request to an upstream may lead: the upstream itself, and hosts that it sends us to, within limits.

Registries keep blobs and tokens at hosts of their own choice. So an upstream may send us anywhere that is as public
as itself: one on the internet cannot make us ask our own network, and none can take us from https to http.
"""

import asyncio
import ipaddress
import socket
from urllib.parse import urlsplit


class ForbiddenDestination(Exception):
    """An upstream sent us where it must not."""


async def check_destination(url: str, origin: str) -> None:
    """Whether the upstream at `origin` may send us to `url`. Raises ForbiddenDestination."""
    target, start = urlsplit(url), urlsplit(origin)
    try:
        same = (target.scheme, target.hostname, target.port) == (start.scheme, start.hostname, start.port)
    except ValueError as error:
        raise ForbiddenDestination("a malformed address") from error
    if same:
        return
    if target.scheme not in ("http", "https") or not target.hostname or target.username:
        raise ForbiddenDestination("an address that is not of the web")
    if start.scheme == "https" and target.scheme == "http":
        raise ForbiddenDestination(f"{target.hostname} without encryption")
    reached = await _kinds(target.hostname)
    if reached - {"public"} and reached - {"public"} - await _kinds(start.hostname or ""):
        raise ForbiddenDestination(f"{target.hostname}, in a network that is not public")


async def _kinds(host: str) -> set[str]:
    """What kinds of networks the host's addresses are in; none when it has no address."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return set()  # the request itself will say so
    return {_kind(str(entry[4][0]).partition("%")[0]) for entry in found}


def _kind(text: str) -> str:
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_loopback:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    return "public" if address.is_global else "private"
