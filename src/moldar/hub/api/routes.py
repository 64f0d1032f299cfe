"""The registry's HTTP API (distribution-spec 1.1, with what its main branch adds): from routes to services.

Every request takes the same way: route, name, principal, decision, then the endpoint's own function in `blobs`,
`manifests` or here; for copies of other registries' content `through` comes first. Every refusal takes the way back
through `_refuse`.
"""

import json
import logging
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from moldar.hub.access.decisions import DELETE, PULL, PUSH, Principal, Verdict, decide, refusal
from moldar.hub.access.rates import RateLimit, Rates, rate_key
from moldar.hub.api.blobs import BlobRoutes
from moldar.hub.api.calls import Call, Lookups, page_of
from moldar.hub.api.manifests import ManifestRoutes
from moldar.hub.api.through import PullThrough
from moldar.hub.authentication import Authenticator, WrongCredentials
from moldar.hub.exchange import PRINCIPAL, ROUTE, ClientGone, Exchange, Receive, Scope, Send
from moldar.hub.refusals import Refusal, Unavailable, body_error, refusal_for
from moldar.hub.registry.repositories import audience_of
from moldar.hub.services import Hub
from moldar.hub.settings import SERVICE
from moldar.remote.wire import (
    CATALOG_SCOPE,
    RouteKind,
    bearer_challenge,
    catalog_path,
    format_errors,
    format_next_link,
    parse_path,
    repository_scope,
    valid_repository,
)

Endpoint = Callable[[Call], Awaitable[None]]
TOKEN_PATH = "/auth/token"
_PATTERNS = {
    RouteKind.BASE: "/v2/",
    RouteKind.CATALOG: "/v2/_catalog",
    RouteKind.TAGS: "/v2/{name}/tags/list",
    RouteKind.MANIFEST: "/v2/{name}/manifests/{reference}",
    RouteKind.BLOB: "/v2/{name}/blobs/{digest}",
    RouteKind.UPLOADS: "/v2/{name}/blobs/uploads/",
    RouteKind.UPLOAD: "/v2/{name}/blobs/uploads/{id}",
    RouteKind.REFERRERS: "/v2/{name}/referrers/{digest}",
}
"""How logs and metrics name the routes."""
_LOG = logging.getLogger("moldar.hub")


class _Wanted(NamedTuple):
    """What a token would have to allow; the catalog when empty. Written out only for a challenge."""

    action: str = ""
    repository: str = ""

    def __str__(self) -> str:
        if not self.action:
            return str(CATALOG_SCOPE)
        actions = {PULL: (PULL,), PUSH: (PULL, PUSH), DELETE: (PULL, PUSH, DELETE)}[self.action]
        return str(repository_scope(self.repository, *actions))


class RegistryApi:
    """An ASGI application for `/v2/`."""

    def __init__(self, hub: Hub, authenticator: Authenticator) -> None:
        self._hub = hub
        self._measure = hub.metrics.answered
        self._authenticator = authenticator
        self._lookups = Lookups(hub)
        blobs = BlobRoutes(hub, self._lookups)
        manifests = ManifestRoutes(hub, self._lookups)
        endpoints: dict[tuple[RouteKind, str], tuple[str, Endpoint]] = {
            (RouteKind.BLOB, "GET"): (PULL, blobs.get),
            (RouteKind.BLOB, "HEAD"): (PULL, blobs.get),
            (RouteKind.BLOB, "DELETE"): (DELETE, blobs.delete),
            (RouteKind.UPLOADS, "POST"): (PUSH, blobs.begin),
            (RouteKind.UPLOAD, "GET"): (PUSH, blobs.status),
            (RouteKind.UPLOAD, "PATCH"): (PUSH, blobs.append),
            (RouteKind.UPLOAD, "PUT"): (PUSH, blobs.finish),
            (RouteKind.UPLOAD, "DELETE"): (PUSH, blobs.cancel),
            (RouteKind.MANIFEST, "GET"): (PULL, manifests.get),
            (RouteKind.MANIFEST, "HEAD"): (PULL, manifests.get),
            (RouteKind.MANIFEST, "PUT"): (PUSH, manifests.put),
            (RouteKind.MANIFEST, "DELETE"): (DELETE, manifests.delete),
            (RouteKind.TAGS, "GET"): (PULL, manifests.tags),
            (RouteKind.REFERRERS, "GET"): (PULL, manifests.referrers),
        }
        self._endpoints = {key: (*found, _PATTERNS[key[0]]) for key, found in endpoints.items()}
        self._limits = _limits(hub.rates)
        self._through = PullThrough(hub, self._lookups, manifests, blobs) if hub.upstreams else None
        self._allowed = {
            kind: ", ".join(sorted(method for (other, method) in self._endpoints if other is kind))
            for kind in RouteKind
        }

    def routes(self) -> frozenset[tuple[RouteKind, str]]:
        """Every route below a repository, with its method."""
        return frozenset(self._endpoints)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        scopes: list[_Wanted] = []
        started = time.perf_counter()
        try:
            await self._answer(exchange, scopes)
        except ClientGone:
            await self._refuse(exchange, Refusal("BLOB_UPLOAD_INVALID", "the request ended early"), scopes)
        except Exception as error:
            known = refusal_for(error)
            if isinstance(error, Unavailable):
                _LOG.warning("%s %s: %s", exchange.method, exchange.path, error)
            elif known is error and known.status >= 500:
                _LOG.error("%s %s: %s", exchange.method, exchange.path, known.message)
            elif known is None or known.status >= 500:
                _LOG.error("%s %s: %s", exchange.method, exchange.path, "".join(traceback.format_exception(error)))
            await self._refuse(exchange, known or Refusal("UNKNOWN", "internal error"), scopes, error)
        finally:
            seconds = time.perf_counter() - started
            sizes = (exchange.received, exchange.sent)
            self._measure(scope.get(ROUTE, "/v2/other"), exchange.method, exchange.status, seconds, sizes)

    async def _answer(self, exchange: Exchange, scopes: list[_Wanted]) -> None:
        route = parse_path(exchange.path)
        if route is None:
            raise Refusal("NAME_UNKNOWN", "no such route")
        if route.kind is RouteKind.BASE or route.kind is RouteKind.CATALOG:
            await self._answer_globally(exchange, route.kind, scopes)
            return
        if not valid_repository(route.repository):
            raise Refusal("NAME_INVALID", detail={"name": route.repository[:300]})
        found = self._endpoints.get((route.kind, exchange.method))
        if found is None:
            raise Refusal("UNSUPPORTED", headers={"Allow": self._allowed[route.kind]})
        action, endpoint, exchange.scope[ROUTE] = found
        repository = route.repository
        if self._through:
            repository = self._through.name_of(exchange, repository, action)
            endpoint = self._through.endpoint(route.kind, repository, action) or endpoint
        scopes.append(_Wanted(action, repository))
        principal = await self._authenticator.of(exchange)
        exchange.scope[PRINCIPAL] = principal.name
        place, _ = self._lookups.place(repository)
        verdict = decide(principal, action, place, self._hub.policy)
        if verdict is not Verdict.ALLOWED:
            raise _Forbidden(refusal(verdict, principal), verdict)
        if self._limits:
            self._count(exchange, principal, route.kind)
        await endpoint(Call(exchange, repository, route.reference, principal))

    def _count(self, exchange: Exchange, principal: Principal, kind: RouteKind) -> None:
        limit = self._limits.get((kind, exchange.method))
        if limit:
            limit.take(rate_key(principal, exchange.address(self._hub.settings.external_url)))

    async def close(self) -> None:
        """Ends what goes on without a request."""
        if self._through:
            await self._through.close()

    async def _answer_globally(self, exchange: Exchange, kind: RouteKind, scopes: list[_Wanted]) -> None:
        exchange.scope[ROUTE] = _PATTERNS[kind]
        if exchange.method not in ("GET", "HEAD"):
            raise Refusal("UNSUPPORTED", headers={"Allow": "GET"})
        if kind is RouteKind.CATALOG:
            scopes.append(_Wanted())
        principal = await self._authenticator.of(exchange)
        exchange.scope[PRINCIPAL] = principal.name
        if kind is RouteKind.CATALOG:
            await self._catalog(exchange, principal)
            return
        if principal.is_anonymous and not principal.scheme and not self._hub.policy.allow_anonymous_push:
            # Clients learn here how to authenticate, even if what they come for is public.
            raise Refusal("UNAUTHORIZED")
        await exchange.respond(200, {"Content-Type": "application/json"}, b"{}")

    async def _catalog(self, exchange: Exchange, principal: Principal) -> None:
        limit, last = page_of(exchange)
        names = self._hub.repositories.names(audience_of(principal), last=last, limit=limit + 1) if limit else []
        headers = {"Content-Type": "application/json"}
        if len(names) > limit:
            names = names[:limit]
            headers["Link"] = format_next_link(catalog_path(limit=limit, last=names[-1]))
        await exchange.respond(200, headers, json.dumps({"repositories": names}).encode())

    async def _refuse(
        self, exchange: Exchange, answer: Refusal, scopes: list[_Wanted], error: Exception | None = None
    ) -> None:
        if exchange.started:
            raise ConnectionError("cannot refuse: the answer has begun")  # the server cuts the connection
        headers = {"Content-Type": "application/json", **answer.headers}
        if answer.status == 401:
            why = ""
            if isinstance(error, WrongCredentials) and error.bearer:
                why = "invalid_token"
            elif isinstance(error, _Forbidden) and exchange.has_header(b"authorization"):
                why = "insufficient_scope"
            realm = exchange.base_url(self._hub.settings.external_url) + TOKEN_PATH
            headers["WWW-Authenticate"] = _challenge(realm, scopes, why)
        await exchange.respond(answer.status, headers, format_errors([body_error(answer)]))


def _limits(rates: Rates) -> dict[tuple[RouteKind, str], RateLimit]:
    """The limits by request: a pull is a manifest's GET; a push is a manifest's PUT, or the begin of an upload."""
    wanted = {
        (RouteKind.MANIFEST, "GET"): rates.pulls,
        (RouteKind.MANIFEST, "PUT"): rates.pushes,
        (RouteKind.UPLOADS, "POST"): rates.pushes,
    }
    return {key: limit for key, limit in wanted.items() if limit}


class _Forbidden(Refusal):
    """The refusal of a decision, so that the challenge can say that another token would help."""

    def __init__(self, answer: Refusal, verdict: Verdict) -> None:
        super().__init__(answer.code, answer.message, status=answer.status)
        self.verdict = verdict


def _challenge(realm: str, scopes: list[_Wanted], error: str) -> str:
    challenge = bearer_challenge(realm, SERVICE, error=error)
    return challenge + "".join(f',scope="{scope}"' for scope in scopes)
