"""One line per request on standard error, for people or as JSON. Secrets are never in it: no headers, no queries.

While requests are logged, each has an id: the X-Request-ID that a proxy gave it, or a new one. The answer bears it
too, and so do the hub's own log lines about the request.
"""

import json
import re
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple, TextIO

from moldar.hub.exchange import PRINCIPAL, ROUTE, Receive, Scope, Send, client_address
from moldar.hub.logs import REQUEST_ID, timestamp

Application = Callable[[Scope, Receive, Send], Awaitable[None]]
_ID_HEADER = b"x-request-id"
_ID = re.compile(r"[A-Za-z0-9._-]{8,64}\Z")


class _Entry(NamedTuple):
    """What a line says. `size`, `received`: bytes of the answer's and the request's body."""

    id: str
    client: str
    status: int
    size: int
    received: int
    seconds: float


def with_access_log(
    app: Application, style: str, stream: TextIO | None = None, external_url: str = ""
) -> Application:
    """`app`, writing a line for each request as `style` says: none, plain or json."""
    if style == "none":
        return app

    async def logged(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request = _request_id(headers.get(_ID_HEADER, b"").decode("latin-1"))
        status = sent = received = 0
        started = time.monotonic()

        async def counting(message: MutableMapping[str, Any]) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), (_ID_HEADER, request.encode())]}
            else:
                sent += len(message.get("body", b""))
            await send(message)

        async def receiving() -> MutableMapping[str, Any]:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        REQUEST_ID.set(request)
        try:
            await app(scope, receiving, counting)
        finally:
            client = client_address(scope, headers.get(b"x-forwarded-for", b"").decode("latin-1"), external_url)
            entry = _Entry(request, client or "-", status, sent, received, time.monotonic() - started)
            print(_line(scope, entry, style), file=stream or sys.stderr, flush=True)

    return logged


def _request_id(given: str) -> str:
    return given if _ID.match(given) else secrets.token_hex(8)


def _line(scope: Scope, entry: _Entry, style: str) -> str:
    when = timestamp(time.time())
    if style == "json":
        return json.dumps(
            {
                "time": when,
                "id": entry.id,
                "client": entry.client,
                "principal": scope.get(PRINCIPAL, ""),
                "method": scope["method"],
                "path": scope["path"],
                "route": scope.get(ROUTE, ""),
                "status": entry.status,
                "bytes": entry.size,
                "received": entry.received,
                "ms": round(entry.seconds * 1000, 2),
            }
        )
    path = scope["path"].encode("unicode_escape").decode()
    client = entry.client.encode("unicode_escape").decode()
    return f"{when} {client} {scope['method']} {path} {entry.status} {entry.size} {entry.seconds * 1000:.1f}ms"
