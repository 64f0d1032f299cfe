"""HTTP clients for an upstream and for where it sends us; the latter connect only to addresses that were judged.

httpx looks names up by itself, and a name may say something else each time. So the look-up is ours, beneath httpx:
the name is looked up once for a connection, its addresses are judged, and the connection is made to one of those.
Host header, SNI and certificate check stay with the name, and so does the pool of connections.

Where a proxy leads out of a closed network, the names are looked up there: what we find is only a first judgement,
and an answer counts as one from the internet.
"""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any

import httpcore
import httpx

from moldar.hub.addresses import Kind, kind_of
from moldar.hub.proxy.destinations import judged

_CONNECTIONS = 64
_CONNECTIONS_KEPT = 8
_CONNECT_SECONDS = 10
_HEAD_START = 0.25
_AGENT = "moldar-hub"
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(?::\d{1,5})?\Z")
_THROUGH_PROXY = "through_proxy"
Connect = Callable[[str], Awaitable[httpcore.AsyncNetworkStream]]


class Clients:
    """The clients for one upstream. Those for where it sends us are apart by where its answer came from.

    `timeout`: seconds of silence that it may keep; `via`: values of HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
    """

    def __init__(self, timeout: float, via: Sequence[str]) -> None:
        self._timeout = timeout
        self._via = via
        self._tls = httpx.create_ssl_context(trust_env=False)
        self._away: dict[Kind, httpx.AsyncClient] = {}
        self.own = self._client(None, None)

    def away(self, sender: Kind) -> httpx.AsyncClient:
        """For requests that an answer from an address of kind `sender` makes us send."""
        if sender not in self._away:
            self._away[sender] = self._client(JudgedTransport(sender, self._tls), sender)
        return self._away[sender]

    async def close(self) -> None:
        for client in (self.own, *self._away.values()):
            await client.aclose()

    def _client(self, transport: httpx.AsyncBaseTransport | None, sender: Kind | None) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            verify=self._tls,
            timeout=httpx.Timeout(self._timeout, connect=min(self._timeout, _CONNECT_SECONDS), pool=None),
            limits=httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS_KEPT),
            headers={"User-Agent": _AGENT, "Accept-Encoding": "identity"},
            follow_redirects=False,
            transport=transport,
            mounts=_mounts(sender, *self._via),
            trust_env=False,
        )


def sender_of(response: httpx.Response) -> Kind:
    """The kind of the address that an answer came from; PUBLIC where it cannot be known."""
    if _THROUGH_PROXY in response.extensions:
        return Kind.PUBLIC
    try:
        return kind_of(str(response.extensions["network_stream"].get_extra_info("server_addr")[0]))
    except OSError:  # the connection is gone
        return Kind.PUBLIC


class JudgedTransport(httpx.AsyncBaseTransport):
    """Sends requests to hosts whose addresses `judged` lets through for `sender`.

    Raises ForbiddenDestination besides httpx's own.
    """

    def __init__(self, sender: Kind, tls: ssl.SSLContext) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=_CONNECTIONS,
            max_keepalive_connections=_CONNECTIONS_KEPT,
            keepalive_expiry=5,
            network_backend=_JudgedNetwork(sender),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        with _as_httpx_says():
            answer = await self._pool.handle_async_request(
                httpcore.Request(
                    request.method,
                    httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx_says():
            async for part in self._answer.aiter_stream():
                yield part

    async def aclose(self) -> None:
        with _as_httpx_says():
            await self._answer.aclose()


@contextlib.contextmanager
def _as_httpx_says() -> Iterator[None]:
    """What goes wrong in httpcore, as the errors of httpx that we tell apart."""
    try:
        yield
    except httpcore.TimeoutException as error:
        raise httpx.TimeoutException(str(error)) from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        raise httpx.TransportError(str(error) or type(error).__name__) from error


class _JudgedNetwork(httpcore.AsyncNetworkBackend):
    def __init__(self, sender: Kind) -> None:
        self._sender = sender
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        async def connect(address: str) -> httpcore.AsyncNetworkStream:
            return await self._network.connect_tcp(address, port, None, local_address, socket_options)

        try:
            async with asyncio.timeout(timeout):
                return await first_connected(await judged(host, port, self._sender), connect)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)


async def first_connected(addresses: Sequence[str], connect: Connect) -> httpcore.AsyncNetworkStream:
    """The first connection of those to `addresses`, each of which gets a head start before the next (RFC 8305).

    Raises what the last failure raised.
    """
    tasks: list[asyncio.Task[httpcore.AsyncNetworkStream]] = []
    trying: set[asyncio.Task[httpcore.AsyncNetworkStream]] = set()
    winner: httpcore.AsyncNetworkStream | None = None
    failure: BaseException = OSError("no address")
    left = list(addresses)
    try:
        while winner is None and (left or trying):
            if left:
                tasks.append(asyncio.ensure_future(connect(left.pop(0))))
                trying.add(tasks[-1])
            done, trying = await asyncio.wait(
                trying, timeout=_HEAD_START if left else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                error = task.exception()
                winner, failure = (task.result(), failure) if error is None else (winner, error)
        if winner is None:
            raise failure
        return winner
    finally:
        for task in tasks:
            task.cancel()
        for stream in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(stream, httpcore.AsyncNetworkStream) and stream is not winner:
                await stream.aclose()


class _ProxiedTransport(httpx.AsyncHTTPTransport):
    """Sends requests through a proxy, and first looks whether it may with `sender`, if given."""

    def __init__(self, proxy: str, sender: Kind | None) -> None:
        super().__init__(proxy=proxy)
        self._sender = sender

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._sender:
            with contextlib.suppress(OSError):  # only the proxy knows the name
                await judged(request.url.host, request.url.port or 0, self._sender)
        response = await super().handle_async_request(request)
        response.extensions[_THROUGH_PROXY] = True
        return response


def _mounts(sender: Kind | None, http: str, https: str, no_proxy: str) -> dict[str, httpx.AsyncBaseTransport | None]:
    """Which hosts are asked through which proxy, as httpx takes it."""
    named = [entry.strip().lstrip(".") for entry in no_proxy.split(",")]
    if "*" in named:
        return {}
    mounts: dict[str, httpx.AsyncBaseTransport | None] = {
        f"{scheme}://": _ProxiedTransport(proxy, sender)
        for scheme, proxy in (("http", http), ("https", https))
        if proxy
    }
    for host in ("localhost", "127.0.0.1", *filter(_HOST.match, named)):
        mounts |= {f"all://{host}": None, f"all://*.{host}": None}
    return mounts
