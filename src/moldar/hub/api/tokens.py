"""The token endpoint `/auth/token` of Docker's token protocol, in its GET and its OAuth2 (POST) form.

Anyone may ask; what is granted is what the credentials may do, which may be nothing. Only credentials that are
wrong are refused.
"""

import json
import logging
import time
import traceback
from urllib.parse import parse_qs

from moldar.hub.access.decisions import ACTIONS, ANONYMOUS, Grant, Principal, Verdict, decide, narrowed
from moldar.hub.access.rates import rate_key
from moldar.hub.api.calls import Lookups
from moldar.hub.authentication import Authenticator, WrongCredentials
from moldar.hub.exchange import ClientGone, Exchange, Receive, Scope, Send
from moldar.hub.refusals import Refusal, body_error, refusal_for
from moldar.hub.services import Hub
from moldar.hub.settings import SERVICE
from moldar.remote.wire import basic_challenge, format_errors, parse_scopes, valid_repository

_LOG = logging.getLogger("moldar.hub")
_BODY_LIMIT = 64 * 1024
_SCOPE_LIMIT = 50


class TokenEndpoint:
    """An ASGI application for `/auth/token`."""

    def __init__(self, hub: Hub, authenticator: Authenticator) -> None:
        self._hub = hub
        self._authenticator = authenticator
        self._lookups = Lookups(hub)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        try:
            await self._answer(exchange)
        except ClientGone:
            return
        except Exception as error:
            refusal = refusal_for(error)
            if refusal is None:
                _LOG.error("the token endpoint: %s", "".join(traceback.format_exception(error)))
                refusal = Refusal("UNKNOWN", "internal error")
            headers = {"Content-Type": "application/json", "Cache-Control": "no-store", **refusal.headers}
            if refusal.status == 401:
                headers["WWW-Authenticate"] = basic_challenge(SERVICE)
            await exchange.respond(refusal.status, headers, format_errors([body_error(refusal)]))

    async def _answer(self, exchange: Exchange) -> None:
        if exchange.method == "POST":
            form = await self._form(exchange)
            principal = await self._by_grant(form, exchange.address(self._hub.settings.external_url))
            wanted = form.get("scope", [])
        elif exchange.method == "GET":
            principal = await self._authenticator.of(exchange)
            wanted = exchange.query.get("scope", [])
        else:
            raise Refusal("UNSUPPORTED", headers={"Allow": "GET, POST"})
        if self._hub.rates.tokens:
            address = exchange.address(self._hub.settings.external_url)
            self._hub.rates.tokens.take(rate_key(principal, address))
        grants = self._granted(principal, " ".join(wanted))
        token, issued = self._hub.bearer.issue(principal, grants)
        document = {
            "token": token,
            "access_token": token,
            "expires_in": self._hub.bearer.lifetime,
            "issued_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(issued)),
            "scope": " ".join(f"repository:{g.pattern}:{','.join(g.actions)}" for g in grants if g.actions),
        }
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
        await exchange.respond(200, headers, json.dumps(document).encode())

    async def _form(self, exchange: Exchange) -> dict[str, list[str]]:
        raw = await exchange.read(_BODY_LIMIT, Refusal("UNSUPPORTED", "the form is too long", status=413))
        try:
            return parse_qs(raw.decode(), keep_blank_values=True, max_num_fields=100)
        except ValueError as error:
            raise Refusal("UNSUPPORTED", "malformed form", status=400) from error

    async def _by_grant(self, form: dict[str, list[str]], address: str) -> Principal:
        kind = form.get("grant_type", [""])[0]
        if kind == "password":
            name, secret = form.get("username", [""])[0], form.get("password", [""])[0]
            principal, _ = await self._authenticator.by_password_or_token(name, secret, address)
            return principal
        if kind == "refresh_token":  # a personal access token serves as one
            found = self._hub.accounts.with_token(form.get("refresh_token", [""])[0])
            if found is None:
                raise WrongCredentials("the refresh token is unknown or has expired")
            account, token = found
            return self._hub.principals.of(account, "basic", token.grants(), token.id)
        raise Refusal("UNSUPPORTED", "unsupported grant_type", status=400)

    def _granted(self, principal: Principal, wanted: str) -> tuple[Grant, ...]:
        """The part of the scopes in `wanted` that the principal may have."""
        asked: dict[str, dict[str, None]] = {}
        for scope in parse_scopes(wanted)[:_SCOPE_LIMIT]:
            if scope.type == "repository" and valid_repository(scope.name):
                actions = ACTIONS if "*" in scope.actions else scope.actions
                for name in (scope.name, self._lookups.meant(scope.name)):
                    asked.setdefault(name, {}).update(dict.fromkeys(actions))
        unlimited = principal._replace(grants=None) if principal is not ANONYMOUS else principal
        possible = tuple(
            Grant(
                name, tuple(action for action in ACTIONS if action in actions and self._may(unlimited, action, name))
            )
            for name, actions in asked.items()
        )
        return tuple(grant for grant in narrowed(principal.grants, possible) if grant.actions)

    def _may(self, principal: Principal, action: str, name: str) -> bool:
        return decide(principal, action, self._lookups.place(name)[0], self._hub.policy) is Verdict.ALLOWED
