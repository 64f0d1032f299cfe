"""Requests to one upstream: connections, redirects, and the token handshake (Docker's token protocol).

Knows nothing of what is kept here.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple

import httpx

from moldar.hub.addresses import Kind
from moldar.hub.proxy.connecting import Clients, sender_of
from moldar.hub.proxy.destinations import ForbiddenDestination, is_within
from moldar.hub.proxy.troubles import UpstreamTrouble, refused, unreachable
from moldar.hub.upstreams import Upstream
from moldar.remote.wire import Challenge, format_basic, parse_challenges, repository_scope

_REDIRECTS = 5
_TOKEN_SECONDS = 60
_TOKEN_LIMIT = 256 * 1024


class _Answer(NamedTuple):
    """`is_own`: the upstream gave it, nobody that it sent us to. `sender`: where the upstream answered from."""

    response: httpx.Response
    is_own: bool
    sender: Kind


class UpstreamClient:
    """Sends requests to one upstream. Belongs to one event loop.

    `timeout`: seconds of silence that it may keep; `via`: values of HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
    """

    def __init__(self, upstream: Upstream, timeout: float, via: Sequence[str] = ("", "", "")) -> None:
        self.upstream = upstream
        self._origin = httpx.URL(upstream.url)
        self._clients = Clients(timeout, via)
        self._authorizations: dict[str, tuple[str, float]] = {}
        self._asking = asyncio.Lock()

    async def close(self) -> None:
        await self._clients.close()

    @contextlib.asynccontextmanager
    async def ask(
        self, method: str, path: str, repository: str, headers: Mapping[str, str], *, missing: str
    ) -> AsyncIterator[httpx.Response]:
        """The answer to a request about the upstream's `repository`, success or 304, its body not yet read.

        Raises UpstreamTrouble; its code is `missing` when there is no such thing. What goes wrong while the body
        is read is UpstreamTrouble as well.
        """
        try:
            response = await self._authorized(method, path, repository, headers)
            try:
                if not (response.is_success or response.status_code == 304):
                    raise refused(self.upstream, response, missing)
                yield response
            finally:
                await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unreachable(self.upstream, error) from error
        except ForbiddenDestination as error:
            message = f"{self.upstream.name} sends this hub to {error}: that is not followed"
            raise UpstreamTrouble("UNAVAILABLE", message, status=502) from error

    async def _authorized(
        self, method: str, path: str, repository: str, headers: Mapping[str, str]
    ) -> httpx.Response:
        """Asks with what we have, and once more after a challenge."""
        authorization = self._known(repository)
        answer = await self._follow(method, path, authorization, headers)
        if answer.response.status_code != 401 or not answer.is_own:  # our credentials are nobody else's to ask for
            return answer.response
        await answer.response.aclose()
        fresh = await self._authorize(answer, repository, authorization)
        return (await self._follow(method, path, fresh, headers)).response if fresh else answer.response

    async def _follow(self, method: str, path: str, authorization: str, headers: Mapping[str, str]) -> _Answer:
        """Sends the request where redirects lead; credentials go to the upstream itself only."""
        url, is_own, sender = httpx.URL(self.upstream.url + path), True, Kind.PUBLIC
        for hop in range(_REDIRECTS):
            shown = dict(headers)
            if authorization and is_own:
                shown["Authorization"] = authorization
            http = self._clients.own if is_own else self._clients.away(sender)
            response = await http.send(http.build_request(method, url, headers=shown), stream=True)
            sender = sender_of(response) if hop == 0 else sender
            if not response.has_redirect_location:
                return _Answer(response, is_own, sender)
            await response.aclose()
            url = url.join(response.headers["location"])
            is_own = is_within(url, self._origin)
        raise httpx.TooManyRedirects("too many redirects")

    def _known(self, repository: str) -> str:
        value, expires = self._authorizations.get(repository, ("", 0.0))
        return value if expires > time.monotonic() else ""

    async def _authorize(self, answer: _Answer, repository: str, tried: str) -> str:
        """The Authorization header that answers one of the challenges of a 401, or nothing."""
        challenges = parse_challenges(answer.response.headers.get("www-authenticate", ""))
        async with self._asking:
            known = self._known(repository)
            if known and known != tried:  # somebody else has just asked
                return known
            self._authorizations.pop(repository, None)
            for challenge in challenges:
                if challenge.scheme == "bearer":
                    return await self._token(challenge, repository, answer.sender)
            if self.upstream.username and any(challenge.scheme == "basic" for challenge in challenges):
                return self._keep(repository, self._basic(), 3600)
        return ""

    async def _token(self, challenge: Challenge, repository: str, sender: Kind) -> str:
        realm = httpx.URL(challenge.realm)
        http = self._clients.own if is_within(realm, self._origin) else self._clients.away(sender)
        query = {"service": challenge.service, "scope": str(repository_scope(repository, "pull"))}
        url = realm.copy_merge_params({key: value for key, value in query.items() if value})
        headers = {"Authorization": self._basic()} if self.upstream.username else {}
        async with http.stream("GET", url, headers=headers) as response:
            if not response.is_success:
                raise refused(self.upstream, response, "NAME_UNKNOWN")
            raw = await read_limited(response, _TOKEN_LIMIT)
        token, seconds = _parse_token(raw)
        if not token:
            raise httpx.DecodingError("the token server's answer holds no token")
        return self._keep(repository, f"Bearer {token}", seconds)

    def _keep(self, repository: str, value: str, seconds: float) -> str:
        if len(self._authorizations) >= 1000:
            self._authorizations.clear()
        self._authorizations[repository] = value, time.monotonic() + seconds * 0.8
        return value

    def _basic(self) -> str:
        return format_basic(self.upstream.username, self.upstream.password)


async def read_limited(response: httpx.Response, limit: int) -> bytes:
    """The whole body. Raises httpx.DecodingError when it has over `limit` bytes."""
    raw = b""
    async for data in response.aiter_raw():
        raw += data
        if len(raw) > limit:
            raise httpx.DecodingError(f"an answer of over {limit} bytes")
    return raw


def _parse_token(raw: bytes) -> tuple[str, float]:
    """Token and lifetime in seconds of a token server's answer."""
    try:
        document: dict[str, Any] = json.loads(raw)
        token = document.get("token") or document.get("access_token") or ""
        seconds = document.get("expires_in", _TOKEN_SECONDS)
    except (ValueError, AttributeError):
        return "", 0
    usable = isinstance(token, str) and token.isascii() and token.isprintable()
    return (token if usable else ""), float(seconds) if isinstance(seconds, int | float) else _TOKEN_SECONDS
