"""Where a request to an upstream may lead: the upstream itself, and hosts that it sends us to, within limits.

Registries keep blobs and tokens at hosts of their own choice. So an upstream may send us anywhere that is as public
as itself: one on the internet cannot make us ask our own network, and none can take us from https to http. What
counts is the address that the sending answer came from: what the upstream's name says when asked again is up to the
upstream.
"""

import httpx

from moldar.hub.addresses import Kind, kind_of, look_up


class ForbiddenDestination(Exception):
    """An upstream sent us where it must not."""


def is_within(url: httpx.URL, origin: httpx.URL) -> bool:
    """Whether `url` is of the upstream at `origin` itself; if not, it is one of a form that it may send us to.

    Raises ForbiddenDestination. Whereto the host leads is judged when we connect to it.
    """
    if (url.scheme, url.host, url.port) == (origin.scheme, origin.host, origin.port):
        return True
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise ForbiddenDestination("an address that is not of the web")
    if url.scheme == "http" and origin.scheme == "https":
        raise ForbiddenDestination(f"{url.host} without encryption")
    return False


async def judged(host: str, port: int, sender: Kind) -> list[str]:
    """The addresses of `host` that an upstream with an address of kind `sender` may send us to.

    Raises ForbiddenDestination when all are beyond its reach, OSError when there are none.
    """
    good = {Kind.PUBLIC, sender} - {Kind.RESERVED}
    addresses = [address for address in await look_up(host, port) if kind_of(address) in good]
    if not addresses:
        raise ForbiddenDestination(f"{host}, in a network that is not public")
    return addresses
