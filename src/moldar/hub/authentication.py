"""From an Authorization header to a principal. Decides nothing about repositories; see `access` for that."""

import asyncio

from moldar.hub.access.accounts import TOKEN_PREFIX, Account
from moldar.hub.access.decisions import ANONYMOUS, Principal
from moldar.hub.access.passwords import MAXIMUM_LENGTH
from moldar.hub.access.rates import address_key
from moldar.hub.data.remembering import Remembered
from moldar.hub.exchange import Exchange
from moldar.hub.refusals import Refusal
from moldar.hub.services import Hub
from moldar.remote.wire import parse_basic, parse_bearer

_STRIPES = 64


class WrongCredentials(Refusal):
    """Credentials that prove nothing. `bearer`: whether they were a bearer token."""

    def __init__(self, message: str, *, bearer: bool = False) -> None:
        super().__init__("UNAUTHORIZED", message)
        self.bearer = bearer


class Authenticator:
    """Recognises accounts by password, personal access token, bearer token."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._remembered: Remembered[str, tuple[Principal, int]] = Remembered(hub.database.generation, 4096)
        self._locks = [asyncio.Lock() for _ in range(_STRIPES)]

    async def of(self, exchange: Exchange) -> Principal:
        """Who sent the request. Raises WrongCredentials, TooManyAttempts."""
        address = exchange.address(self._hub.settings.external_url)
        return await self.principal(exchange.header(b"authorization"), address)

    async def principal(self, authorization: str, address: str) -> Principal:
        """Who sent the header. Raises WrongCredentials, TooManyAttempts."""
        if not authorization:
            return ANONYMOUS
        generation = self._remembered.current()
        known = self._remembered.get(authorization)
        if known and known[1] > self._hub.clock():
            return known[0]
        token = parse_bearer(authorization)
        if token is not None and token.startswith(TOKEN_PREFIX):
            principal, expires = await self._by_token("", token, address)
        elif token is not None:
            principal, expires = self._bearer(token)
        else:
            pair = parse_basic(authorization)
            if pair is None:
                raise WrongCredentials("malformed Authorization header")
            principal, expires = await self.by_password_or_token(*pair, address)
        if expires:
            self._remembered.put(authorization, (principal, expires), generation)
        return principal

    async def by_password_or_token(self, name: str, secret: str, address: str) -> tuple[Principal, int]:
        """The principal and until when it may be remembered (0: not at all)."""
        if secret.startswith(TOKEN_PREFIX):
            return await self._by_token(name, secret, address)
        account = await self.by_password(name, secret, address)
        if account is None:
            raise WrongCredentials("wrong user name or password")
        return self._hub.principals.of(account, "basic"), 0  # Passwords remembers by itself, and forgets sooner

    async def by_password(self, name: str, password: str, address: str) -> Account | None:
        """The account with that password. Failures are counted; one account's attempts wait for each other."""
        name = name[:64]
        async with self._locks[hash(name) % _STRIPES]:
            self._hub.throttle.check(name, address)
            if len(password) > MAXIMUM_LENGTH:
                return None
            accounts = self._hub.accounts
            stored = accounts.find(name)
            if stored and self._hub.passwords.remembers(stored.password_hash, password):
                account = accounts.with_password(name, password)
            else:
                if self._hub.rates.logins:
                    self._hub.rates.logins.take(address_key(address))
                account = await self._hub.in_hashing_thread(accounts.with_password, name, password)
            if account is None:
                await self._failed(name, address, "password")
            else:
                self._hub.throttle.succeeded(name, address)
            return account

    async def _by_token(self, name: str, secret: str, address: str) -> tuple[Principal, int]:
        """By a personal access token; an empty `name` is any account's. Only wrong ones meet the throttle."""
        found = self._hub.accounts.with_token(secret)
        if found is None or name not in ("", found[0].name):
            self._hub.throttle.check(name[:64], address)
            await self._failed(name[:64], address, "token")
            raise WrongCredentials("wrong user name or access token")
        account, token = found
        await self._hub.in_thread(self._hub.accounts.touch_token, token)
        until = self._hub.clock() + 300
        principal = self._hub.principals.of(account, "basic", token.grants(), token.id)
        return principal, min(until, token.expires or until)

    def _bearer(self, token: str) -> tuple[Principal, int]:
        claims = self._hub.bearer.read(token)
        if claims is None:
            raise WrongCredentials("the token is invalid or has expired", bearer=True)
        if not claims.name:
            return Principal(grants=claims.grants, scheme="bearer"), claims.expires
        account = self._hub.accounts.find(claims.name)
        alive = account is not None and not account.is_disabled
        if claims.token_id and self._hub.accounts.with_token_id(claims.token_id) is None:
            alive = False
        if account is None or not alive:
            raise WrongCredentials("the token's account or access token is gone", bearer=True)
        return self._hub.principals.of(account, "bearer", claims.grants, claims.token_id), claims.expires

    async def _failed(self, name: str, address: str, credential: str) -> None:
        self._hub.metrics.login_failures[credential] += 1
        await self._hub.in_thread(self._hub.throttle.failed, name, address)
