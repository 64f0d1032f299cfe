"""One line per request on standard error, for people or as JSON. Secrets are never in it: no headers, no queries."""

import json
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TextIO

from moldar.hub.exchange import Receive, Scope, Send

Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def with_access_log(app: Application, style: str, stream: TextIO | None = None) -> Application:
    """`app`, writing a line for each request as `style` says: none, plain or json."""
    if style == "none":
        return app

    async def logged(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        seen = {"status": 0, "bytes": 0}
        started = time.monotonic()

        async def counting(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
            else:
                seen["bytes"] += len(message.get("body", b""))
            await send(message)

        try:
            await app(scope, receive, counting)
        finally:
            line = _line(scope, seen["status"], seen["bytes"], time.monotonic() - started, style)
            print(line, file=stream or sys.stderr, flush=True)

    return logged


def _line(scope: Scope, status: int, size: int, seconds: float, style: str) -> str:
    client = scope.get("client") or ("-", 0)
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if style == "json":
        return json.dumps(
            {
                "time": when,
                "client": client[0],
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "bytes": size,
                "ms": round(seconds * 1000, 2),
            }
        )
    path = scope["path"].encode("unicode_escape").decode()
    return f"{when} {client[0]} {scope['method']} {path} {status} {size} {seconds * 1000:.1f}ms"
