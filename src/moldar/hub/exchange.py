"""One request and its answer over ASGI, without a framework in between: the registry's routes are its hot path."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from moldar.hub.refusals import Refusal
from moldar.remote.wire import API_VERSION, API_VERSION_HEADER

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

ROUTE = "moldar.route"
PRINCIPAL = "moldar.principal"
"""Where a scope holds, for the logs and metrics, the pattern of the route and the name of who asks."""
_DRAIN_SECONDS = 5
_SMALL_BODY = 64 * 1024
_WATCHED_SIZE = 8 * 1024 * 1024
_DRAIN_LIMIT = 64 * 1024 * 1024
_ALWAYS = (
    (API_VERSION_HEADER.lower().encode(), API_VERSION.encode()),
    (b"x-content-type-options", b"nosniff"),
)


class ClientGone(Exception):
    """The client went away before it had sent everything."""


class Exchange:
    """A request, read on demand, and the means to answer it once."""

    __slots__ = (
        *("_body_left", "_headers", "_query", "_receive", "_send", "method", "path", "received", "scope", "sent"),
        *("started", "status"),
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.started = False
        self.status = self.received = self.sent = 0
        self._receive = receive
        self._send = send
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        self._query: dict[str, list[str]] | None = None
        self._body_left = self.header(b"content-length") not in ("", "0") or b"transfer-encoding" in self._headers

    def header(self, name: bytes) -> str:
        """A header by its lower-case name; empty when it is missing."""
        value = self._headers.get(name)
        return "" if value is None else value.decode("latin-1")

    def has_header(self, name: bytes) -> bool:
        return name in self._headers

    def has_matching_etag(self, etag: str) -> bool:
        """Whether the client holds what `etag` names (RFC 9110, If-None-Match: compared weakly)."""
        asked = self._headers.get(b"if-none-match")
        if asked is None:
            return False
        names = [name.strip().removeprefix("W/") for name in asked.decode("latin-1").split(",")]
        return etag in names or names == ["*"]

    @property
    def query(self) -> dict[str, list[str]]:
        if self._query is None:
            raw = self.scope["query_string"].decode("latin-1")
            try:
                self._query = parse_qs(raw, keep_blank_values=True, max_num_fields=200) if raw else {}
            except ValueError as error:
                raise Refusal("UNSUPPORTED", "too many query parameters", status=414) from error
        return self._query

    def parameter(self, name: str) -> str | None:
        values = self.query.get(name)
        return values[0] if values else None

    def address(self, external_url: str) -> str:
        return client_address(self.scope, self.header(b"x-forwarded-for"), external_url)

    def base_url(self, external_url: str) -> str:
        """How the client reached us: scheme and host, without a slash at the end."""
        if external_url:
            return external_url.rstrip("/")
        return f"{self.scope.get('scheme', 'http')}://{self.header(b'host') or 'localhost'}"

    @property
    def content_length(self) -> int | None:
        text = self.header(b"content-length")
        return int(text) if text.isascii() and text.isdigit() else None

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes in. Raises ClientGone when it ends early."""
        expected = self.content_length
        received = 0
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                self._body_left = False
                raise ClientGone
            data = message.get("body", b"")
            received += len(data)
            self.received += len(data)
            if not message.get("more_body", False):
                self._body_left = False
            if data:
                yield data
            if not self._body_left:
                break
        if expected is not None and received != expected:
            raise ClientGone

    async def read(self, limit: int, refusal: Refusal) -> bytes:
        """The whole body; `refusal` when it has over `limit` bytes."""
        if (self.content_length or 0) > limit:
            raise refusal
        parts: list[bytes] = []
        size = 0
        async for data in self.chunks():
            size += len(data)
            if size > limit:
                raise refusal
            parts.append(data)
        return b"".join(parts)

    async def respond(
        self,
        status: int,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        length: int | None = None,
        repeated: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Answers in one go. `length`: the Content-Length to state instead of the body's (for HEAD)."""
        raw = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in (headers or {}).items()]
        raw += [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in repeated]
        raw += _ALWAYS
        if status != 204:
            raw.append((b"content-length", b"%d" % (len(body) if length is None else length)))
        await self.respond_raw(status, raw, b"" if self.method == "HEAD" else body)

    async def respond_raw(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Answers with headers that are encoded already; the caller has seen to all of them."""
        self.started = True
        self.status = status
        self.sent = len(body)
        if self._body_left and (self.content_length or _DRAIN_LIMIT) <= _SMALL_BODY:
            await self._drain()  # it is here already; a connection with nothing left on it can serve the next request
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        if self._body_left:
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
            await self._drain()
            body = b""
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def _drain(self) -> None:
        """Reads on for a while after an early answer: closed at once, the client's kernel may throw it away."""
        size = 0
        with contextlib.suppress(ClientGone, TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                async for data in self.chunks():
                    size += len(data)
                    if size > _DRAIN_LIMIT:
                        break

    async def stream(self, status: int, headers: Mapping[str, str], size: int, chunks: Iterable[bytes]) -> None:
        """Answers with `size` bytes from `chunks`."""
        raw = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        raw += [*_ALWAYS, (b"content-length", b"%d" % size)]
        self.started = True
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": raw})
        gone = asyncio.ensure_future(self._until_gone()) if size > _WATCHED_SIZE else None
        sent = 0
        try:
            for data in chunks:
                sent += len(data)
                self.sent = sent
                await self._send({"type": "http.response.body", "body": data, "more_body": sent < size})
                if gone is not None:
                    await asyncio.sleep(0)
                    if gone.done():  # the server takes what nobody reads any more; do not read it from the disk
                        return
        finally:
            if gone is not None:
                gone.cancel()
        if not sent:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def relay(self, status: int, headers: Mapping[str, str], size: int, chunks: AsyncIterator[bytes]) -> None:
        """As `stream`, from `chunks` that are still coming in; begins with the first of them."""
        raw = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        raw += [*_ALWAYS, (b"content-length", b"%d" % size)]
        gone: asyncio.Future[None] | None = None
        sent = 0
        try:
            async for data in chunks:
                if gone is None:
                    self.started = True
                    await self._send({"type": "http.response.start", "status": status, "headers": raw})
                    gone = asyncio.ensure_future(self._until_gone())
                sent += len(data)
                await self._send({"type": "http.response.body", "body": data, "more_body": sent < size})
                if gone.done():
                    return
        finally:
            if gone is not None:
                gone.cancel()
        if not sent:
            self.started = True
            await self._send({"type": "http.response.start", "status": status, "headers": raw})
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] == "http.request":
            await asyncio.sleep(0)


def client_address(scope: Scope, forwarded_for: str, external_url: str) -> str:
    """Who asks. With an external URL a proxy stands before us: it put the address that it saw last."""
    if external_url and forwarded_for:
        return forwarded_for.rpartition(",")[2].strip()[:64]
    client = scope.get("client")
    return str(client[0]) if client else ""


def encoded_headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers for `respond_raw`, with those that every answer has."""
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()] + list(_ALWAYS)
