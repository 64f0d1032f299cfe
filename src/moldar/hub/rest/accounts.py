"""Oneself, one's access tokens, and what administrators do, over the REST interface."""

from typing import Any

from moldar.hub.access.accounts import AccessToken, Account
from moldar.hub.access.decisions import may_collect_garbage, may_make_tokens, may_revoke_token
from moldar.hub.refusals import Refusal
from moldar.hub.rest import schemas
from moldar.hub.rest.calls import PREFIX, Answer, Call, Operation, moment, not_found, number
from moldar.hub.rest.schemas import reference
from moldar.hub.services import Hub

_DAY = 24 * 3600


class AccountOperations:
    """Handlers, and the descriptions of them."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                *("GET", f"{PREFIX}/me", "getMe", "Who asks, and what the credential is limited to"),
                *(self.me, {200: reference("Me")}, "account"),
            ),
            Operation(
                *("GET", f"{PREFIX}/tokens", "listTokens", "One's personal access tokens, newest first"),
                *(self.tokens, {200: reference("Tokens")}, "account"),
            ),
            Operation(
                *("POST", f"{PREFIX}/tokens", "makeToken", "Make a token; only with the account's password"),
                *(self.make_token, {201: reference("NewToken")}, "account"),
                body=schemas.NEW_TOKEN,
            ),
            Operation(
                *("DELETE", f"{PREFIX}/tokens/{{id}}", "revokeToken", "Revoke a token (a token may revoke itself)"),
                *(self.revoke_token, {204: None}, "account"),
            ),
            Operation(
                *("POST", f"{PREFIX}/administration/collect-garbage", "collectGarbage", "Free what nothing needs"),
                *(self.collect, {200: reference("Garbage")}, "administration"),
                body=schemas.COLLECT,
            ),
        )

    async def me(self, call: Call) -> Answer:
        principal, account = call.principal, self._account(call)
        grants = None
        if principal.grants is not None:
            grants = [{"repositories": g.pattern, "actions": list(g.actions)} for g in principal.grants if g.actions]
        return Answer(
            200,
            {
                "name": account.name,
                "is_admin": account.is_admin,
                "created": moment(account.created),
                "token": principal.token_id or None,
                "grants": grants,
            },
        )

    async def tokens(self, call: Call) -> Answer:
        found = self._hub.accounts.list_tokens(call.principal.account_id)
        if not may_make_tokens(call.principal):
            found = [token for token in found if token.id == call.principal.token_id]
        return Answer(200, {"items": [_token(token) for token in found]})

    async def make_token(self, call: Call) -> Answer:
        if not may_make_tokens(call.principal):
            raise Refusal("DENIED", "access tokens are made with the account's password")
        wish, days = call.body, call.body.get("days")
        token, secret = await self._hub.in_thread(
            self._hub.accounts.create_token,
            self._account(call),
            wish["name"],
            actions=tuple(wish["actions"]),
            repositories=tuple(wish.get("repositories", ())),
            lifetime=days * _DAY if days else None,
            by=call.by,
        )
        return Answer(201, {**_token(token), "secret": secret})

    async def revoke_token(self, call: Call) -> Answer:
        token = number(call.names["id"])
        if not may_revoke_token(call.principal, token):
            raise Refusal("DENIED", "access tokens are revoked with the account's password, or by themselves")
        if not await self._hub.in_thread(
            self._hub.accounts.revoke_token, call.principal.account_id, token, by=call.by
        ):
            raise not_found("token")
        return Answer(204)

    async def collect(self, call: Call) -> Answer:
        if not may_collect_garbage(call.principal):
            raise Refusal("DENIED")
        settings, dry_run = self._hub.settings, call.body.get("dry_run", False)
        if dry_run:
            work = self._hub.in_thread(self._hub.collector.preview, settings.gc_grace, settings.upload_lifetime)
        else:
            work = self._hub.in_thread(self._hub.collect_garbage)
        found = (await work)._asdict()
        return Answer(200, {**found, "dry_run": dry_run})

    def _account(self, call: Call) -> Account:
        account = self._hub.accounts.find(call.principal.name)
        if account is None:
            raise Refusal("UNAUTHORIZED")
        return account


def _token(token: AccessToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "hint": token.hint,
        "actions": list(token.actions),
        "repositories": list(token.repositories),
        "created": moment(token.created),
        "expires": moment(token.expires),
        "last_used": moment(token.last_used),
    }
