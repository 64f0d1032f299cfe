"""The registry's HTTP API (distribution-spec 1.1, with what its main branch adds): from routes to services.

Every request takes the same way: route, name, principal, decision, then the endpoint's own function in `api_blobs`,
`api_manifests` or here. Every refusal takes the way back through `_refuse`.
"""

import json
import logging
import traceback
from collections.abc import Awaitable, Callable

from moldar.hub.access.decisions import DELETE, PULL, PUSH, Principal, Verdict, decide, refusal
from moldar.hub.api.blobs import BlobRoutes
from moldar.hub.api.calls import Call, Lookups, page_of
from moldar.hub.api.manifests import ManifestRoutes
from moldar.hub.authentication import Authenticator, WrongCredentials
from moldar.hub.exchange import ClientGone, Exchange, Receive, Scope, Send
from moldar.hub.refusals import Refusal, Unavailable, body_error, refusal_for
from moldar.hub.registry.repositories import Audience
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
_LOG = logging.getLogger("moldar.hub")


class RegistryApi:
    """An ASGI application for `/v2/`."""

    def __init__(self, hub: Hub, authenticator: Authenticator) -> None:
        self._hub = hub
        self._authenticator = authenticator
        self._lookups = Lookups(hub)
        blobs = BlobRoutes(hub, self._lookups)
        manifests = ManifestRoutes(hub, self._lookups)
        self._endpoints: dict[tuple[RouteKind, str], tuple[str, Endpoint]] = {
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
        self._allowed = {
            kind: ", ".join(sorted(method for (other, method) in self._endpoints if other is kind))
            for kind in RouteKind
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        scopes: list[str] = []
        try:
            await self._answer(exchange, scopes)
        except ClientGone:
            await self._refuse(exchange, Refusal("BLOB_UPLOAD_INVALID", "the request ended early"), scopes)
        except Exception as error:
            known = refusal_for(error)
            if isinstance(error, Unavailable):
                _LOG.warning("%s %s: %s", exchange.method, exchange.path, error)
            elif known is None or known.status >= 500:
                _LOG.error("%s %s: %s", exchange.method, exchange.path, "".join(traceback.format_exception(error)))
            await self._refuse(exchange, known or Refusal("UNKNOWN", "internal error"), scopes, error)

    async def _answer(self, exchange: Exchange, scopes: list[str]) -> None:
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
        action, endpoint = found
        scopes.append(_scope_for(action, route.repository))
        principal = await self._authenticator.of(exchange)
        place, _ = self._lookups.place(route.repository)
        verdict = decide(principal, action, place, self._hub.policy)
        if verdict is not Verdict.ALLOWED:
            raise _Forbidden(refusal(verdict, principal), verdict)
        await endpoint(Call(exchange, route.repository, route.reference, principal))

    async def _answer_globally(self, exchange: Exchange, kind: RouteKind, scopes: list[str]) -> None:
        if exchange.method not in ("GET", "HEAD"):
            raise Refusal("UNSUPPORTED", headers={"Allow": "GET"})
        if kind is RouteKind.CATALOG:
            scopes.append(str(CATALOG_SCOPE))
        principal = await self._authenticator.of(exchange)
        if kind is RouteKind.CATALOG:
            await self._catalog(exchange, principal)
            return
        if principal.is_anonymous and not principal.scheme and not self._hub.policy.allow_anonymous_push:
            # Clients learn here how to authenticate, even if what they come for is public.
            raise Refusal("UNAUTHORIZED")
        await exchange.respond(200, {"Content-Type": "application/json"}, b"{}")

    async def _catalog(self, exchange: Exchange, principal: Principal) -> None:
        limit, last = page_of(exchange)
        restricted = principal.grants is not None
        audience = Audience("" if restricted else principal.name, principal.is_admin and not restricted)
        names = self._hub.repositories.names(audience, last=last, limit=limit + 1) if limit else []
        headers = {"Content-Type": "application/json"}
        if len(names) > limit:
            names = names[:limit]
            headers["Link"] = format_next_link(catalog_path(limit=limit, last=names[-1]))
        await exchange.respond(200, headers, json.dumps({"repositories": names}).encode())

    async def _refuse(
        self, exchange: Exchange, answer: Refusal, scopes: list[str], error: Exception | None = None
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


class _Forbidden(Refusal):
    """The refusal of a decision, so that the challenge can say that another token would help."""

    def __init__(self, answer: Refusal, verdict: Verdict) -> None:
        super().__init__(answer.code, answer.message, status=answer.status)
        self.verdict = verdict


def _scope_for(action: str, repository: str) -> str:
    actions = {PULL: (PULL,), PUSH: (PULL, PUSH), DELETE: (PULL, PUSH, DELETE)}[action]
    return str(repository_scope(repository, *actions))


def _challenge(realm: str, scopes: list[str], error: str) -> str:
    challenge = bearer_challenge(realm, SERVICE, error=error)
    return challenge + "".join(f',scope="{scope}"' for scope in scopes)
