"""One delivery over HTTP: signed, within a time limit, to an address that may be reached, following no redirect.

A request of its own instead of a client library's, because the address must be looked at between the look-up of the
name and the connection, and because nothing of the answer but its status is wanted.
"""

import asyncio
import functools
import hashlib
import hmac
import re
import ssl
import time
from collections.abc import Sequence
from typing import NamedTuple

from moldar import __version__
from moldar.hub.addresses import Network, look_up
from moldar.hub.webhooks.targets import Target, allowed, parse_target

SIGNATURE_HEADER = "X-Moldar-Signature-256"
EVENT_HEADER = "X-Moldar-Event"
DELIVERY_HEADER = "X-Moldar-Delivery"
_HEAD_LIMIT = 32 * 1024
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9]\d\d)[ \r]")
_INTERIM_ANSWERS = 5


class Letter(NamedTuple):
    """What is to be sent. `secret`: the hook's, for the signature; `key`: the delivery's UUID."""

    url: str
    secret: str
    event: str
    key: str
    body: bytes


class Outcome(NamedTuple):
    """How it went. `status`: of the answer, 0 when there was none; `error`: why not well, empty when it did."""

    status: int
    error: str
    milliseconds: int


class _Undeliverable(Exception):
    """The reason, in words for the log of deliveries."""


def signature(secret: str, body: bytes) -> str:
    """The value of the signature's header."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


async def send(letter: Letter, networks: Sequence[Network], timeout: float) -> Outcome:
    """Delivers within `timeout` seconds or says why not; never raises for what the other side does."""
    started = time.monotonic()
    status, error = 0, ""
    try:
        async with asyncio.timeout(timeout):
            status = await _post(letter, networks)
    except TimeoutError:
        error = f"no answer within {timeout:g} seconds"
    except _Undeliverable as problem:
        error = str(problem)
    except ssl.SSLCertVerificationError as problem:
        error = f"certificate not trusted: {problem.verify_message}"
    except ssl.SSLError:
        error = "TLS failed"
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as problem:
        error = _reason(problem)
    if status and not 200 <= status < 300:
        error = "redirects are not followed" if 300 <= status < 400 else "the receiver refused"
    return Outcome(status, error[:200], int((time.monotonic() - started) * 1000))


async def _post(letter: Letter, networks: Sequence[Network]) -> int:
    target = parse_target(letter.url)
    if target is None:
        raise _Undeliverable("not a valid URL")
    reader, writer = await _connected(target, networks)
    try:
        writer.write(_head(target, letter) + letter.body)
        await writer.drain()
        for _ in range(_INTERIM_ANSWERS):
            match = _STATUS_LINE.match(await reader.readuntil(b"\r\n\r\n"))
            if match is None:
                break
            if int(match[1]) >= 200:
                return int(match[1])
        raise _Undeliverable("the answer was not HTTP")
    finally:
        writer.transport.abort()  # the status is all that we want; nothing waits for the other side


async def _connected(
    target: Target, networks: Sequence[Network]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        found = await look_up(target.host, target.port)
    except OSError as error:
        raise _Undeliverable("no such host") from error
    good = [address for address in found if allowed(address, networks)]
    if not good:
        raise _Undeliverable("the host's address is not public, and not allowed here")
    failure: OSError | None = None
    for address in good:
        try:
            return await asyncio.open_connection(
                address,
                target.port,
                limit=_HEAD_LIMIT,
                ssl=_tls() if target.is_tls else None,
                server_hostname=target.host if target.is_tls else None,
            )
        except ssl.SSLError:
            raise
        except OSError as error:
            failure = error
    assert failure is not None
    raise failure


def _head(target: Target, letter: Letter) -> bytes:
    headers = {
        "Host": target.host_header,
        "User-Agent": f"moldar-hub/{__version__}",
        "Content-Type": "application/json",
        "Content-Length": str(len(letter.body)),
        EVENT_HEADER: letter.event,
        DELIVERY_HEADER: letter.key,
        SIGNATURE_HEADER: signature(letter.secret, letter.body),
        "Connection": "close",
    }
    lines = [f"POST {target.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("ascii")


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _reason(error: Exception) -> str:
    if isinstance(error, asyncio.IncompleteReadError):
        return "the connection was closed without an answer"
    if isinstance(error, asyncio.LimitOverrunError):
        return "the answer's headers are too long"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return getattr(error, "strerror", "") or "the connection failed"
