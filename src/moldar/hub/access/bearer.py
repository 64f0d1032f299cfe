"""Bearer tokens of Docker's token protocol: short-lived JWTs, signed with ES256.

The key is made on the first start and kept in the data directory, so that a token outlives a restart. A token says
who holds it and which actions on which repositories were asked for and granted; what the account may do is looked up
again when the token is used, so a right that was taken away is gone at once.
"""

import hashlib
import secrets
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from moldar.hub.access.decisions import Grant, Principal
from moldar.hub.clock import Clock

_LEEWAY = 5


class Claims(NamedTuple):
    """What a valid token says. `token_id`: the personal access token that it was got with, or 0."""

    name: str
    grants: tuple[Grant, ...]
    token_id: int
    expires: int


class BearerTokens:
    """Signs and reads the tokens of one hub."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, service: str, lifetime: int, clock: Clock) -> None:
        self._key = key
        self._public = key.public_key()
        self._service = service
        self._clock = clock
        self.lifetime = lifetime
        raw = self._public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self._key_id = hashlib.sha256(raw).hexdigest()[:16]

    def issue(self, principal: Principal, grants: tuple[Grant, ...]) -> tuple[str, int]:
        """A token and the second at which it was issued."""
        now = self._clock()
        claims = {
            "iss": self._service,
            "aud": self._service,
            "sub": principal.name,
            "iat": now,
            "nbf": now - _LEEWAY,
            "exp": now + self.lifetime,
            "jti": secrets.token_hex(8),
            "access": [
                {"type": "repository", "name": grant.pattern, "actions": list(grant.actions)}
                for grant in grants
                if grant.actions
            ],
        }
        if principal.token_id:
            claims["moldar_token"] = principal.token_id
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": self._key_id}), now

    def read(self, token: str) -> Claims | None:
        """What `token` says; None when it is not ours, expired or malformed."""
        try:
            claims = jwt.decode(
                token,
                self._public,
                algorithms=["ES256"],
                audience=self._service,
                issuer=self._service,
                options={
                    "require": ["exp", "sub", "aud", "iss"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
            expires = int(claims["exp"])
            if expires <= self._clock():
                return None
            return Claims(
                str(claims["sub"]), _grants(claims.get("access")), int(claims.get("moldar_token", 0)), expires
            )
        except (jwt.InvalidTokenError, ValueError, TypeError, KeyError, AttributeError):
            return None


def _grants(access: Any) -> tuple[Grant, ...]:
    return tuple(
        Grant(str(entry["name"]), tuple(map(str, entry["actions"])))
        for entry in access or ()
        if entry.get("type") == "repository"
    )
