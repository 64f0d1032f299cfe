"""Proving who we are: Docker's token handshake, Basic, or nothing, as the registry's challenge asks.

Tokens are kept per set of scopes until shortly before they expire. Sources: Docker's token authentication
specification ("Token Authentication Specification", "OAuth2 Token Authentication"); distribution-spec 1.1.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

from moldar.remote.credentials import Credential, Finder
from moldar.remote.failures import AccessDenied, UnexpectedAnswer, refusal, said
from moldar.remote.session import Answer, Session
from moldar.remote.wire import Challenge, Scope, format_basic, parse_challenges, parse_scope

_CLIENT_ID = "moldar"
_DEFAULT_SECONDS = 60
_MARGIN_SECONDS = 10
_TOKEN_LIMIT = 1024 * 1024


class _Token(NamedTuple):
    header: str
    expires: float


class Authority:
    """The Authorization headers for one registry. `host`: where requests go; `account`: its name for credentials.

    Safe for threads: when many need the same token, one fetches it.
    """

    def __init__(
        self,
        session: Session,
        host: str,
        account: str,
        find: Finder,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._host = host
        self._account = account
        self._find = find
        self._clock = clock
        self._lock = threading.RLock()
        self._challenge: Challenge | None = None
        self._tokens: dict[tuple[str, ...], _Token] = {}
        self._credential: Credential | None = None
        self._looked_up = False

    def header(self, scopes: Iterable[Scope]) -> str | None:
        """The header to send with a first attempt; None while the registry has not asked for any."""
        with self._lock:
            challenge = self._challenge
            if challenge is None:
                return None
            return self._header(challenge, _key(scopes), refused=None)

    def renew(self, answer: Answer, scopes: Iterable[Scope], refused: str | None) -> str | None:
        """The header to send after a 401 `answer`; None when there is nothing better than the `refused` one.

        Raises AccessDenied when the token server refuses us, Unreachable when it cannot be reached.
        """
        challenge = _choose(parse_challenges(answer.header("WWW-Authenticate")))
        if challenge is None:
            return None
        wanted = _key([*scopes, *(scope for scope in map(parse_scope, challenge.scopes) if scope)])
        with self._lock:
            self._challenge = challenge
            header = self._header(challenge, wanted, refused)
            if header and challenge.scheme == "bearer":
                self._tokens[_key(scopes)] = self._tokens.get(wanted) or _Token(header, self._clock())
        return header if header != refused else None

    def _header(self, challenge: Challenge, scopes: tuple[str, ...], refused: str | None) -> str | None:
        credential = self._known()
        if challenge.scheme == "basic":
            if credential is None or not credential.username:
                return None
            return format_basic(credential.username, credential.password)
        if credential and credential.registry_token:
            return f"Bearer {credential.registry_token}"
        token = self._tokens.get(scopes)
        if token is None or token.header == refused or token.expires <= self._clock():
            token = self._tokens[scopes] = self._fetch(challenge, scopes, credential)
        return token.header

    def _known(self) -> Credential | None:
        if not self._looked_up:
            self._credential = self._find(self._account)
            self._looked_up = True
        return self._credential

    def _fetch(self, challenge: Challenge, scopes: tuple[str, ...], credential: Credential | None) -> _Token:
        self._session.check_url(challenge.realm)
        if credential and credential.identity_token:
            answer = self._ask_with_refresh_token(challenge, scopes, credential)
        else:
            answer = self._ask(challenge, scopes, credential)
        with answer:
            body = answer.read(_TOKEN_LIMIT)
            if answer.status != 200:
                raise self._refused(answer, body, credential)
        return self._parse(challenge, body)

    def _ask(self, challenge: Challenge, scopes: tuple[str, ...], credential: Credential | None) -> Answer:
        query = [("service", challenge.service)] if challenge.service else []
        query += [("scope", scope) for scope in scopes]
        headers = {}
        if credential:
            query.append(("account", credential.username))
            headers["Authorization"] = format_basic(credential.username, credential.password)
        separator = "&" if urlsplit(challenge.realm).query else "?"
        return self._session.send("GET", challenge.realm + separator + urlencode(query), headers)

    def _ask_with_refresh_token(
        self, challenge: Challenge, scopes: tuple[str, ...], credential: Credential
    ) -> Answer:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": credential.identity_token,
            "service": challenge.service,
            "client_id": _CLIENT_ID,
            "scope": " ".join(scopes),
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._session.send("POST", challenge.realm, headers, urlencode(form).encode())

    def _refused(self, answer: Answer, body: bytes, credential: Credential | None) -> Exception:
        if answer.status in (400, 401, 403) and credential:
            words = said(body) or "incorrect user name or password"
            return AccessDenied(f"{self._account}: {words}", hint=f"log in again with: moldar login {self._account}")
        return refusal(self._account, answer.status, body, f"asking {answer.host} for a token")

    def _parse(self, challenge: Challenge, body: bytes) -> _Token:
        try:
            document = json.loads(body)
            token = document.get("token") or document.get("access_token")
            seconds = float(document.get("expires_in") or _DEFAULT_SECONDS)
        except (ValueError, AttributeError, TypeError):
            token, seconds = None, 0.0
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            host = urlsplit(challenge.realm).netloc
            raise UnexpectedAnswer(f"the token server {host} gave no token", status=200)
        return _Token(f"Bearer {token}", self._clock() + max(seconds - _MARGIN_SECONDS, seconds / 2))


def _choose(challenges: tuple[Challenge, ...]) -> Challenge | None:
    """Bearer before Basic; None for schemes that we do not speak."""
    for scheme in ("bearer", "basic"):
        for challenge in challenges:
            if challenge.scheme == scheme and (scheme == "basic" or challenge.realm):
                return challenge
    return None


def _key(scopes: Iterable[Scope]) -> tuple[str, ...]:
    """Scopes as the words that the token server reads, those of one resource merged, in stable order."""
    merged: dict[tuple[str, str], set[str]] = {}
    for scope in scopes:
        merged.setdefault((scope.type, scope.name), set()).update(scope.actions)
    return tuple(str(Scope(kind, name, tuple(sorted(actions)))) for (kind, name), actions in sorted(merged.items()))
