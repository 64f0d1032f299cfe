"""Passwords, hashed and checked.

argon2id takes a good part of a second by intention. So a password that was right is remembered for some minutes,
as a keyed hash in this process's memory only.
"""

import hashlib
import hmac
import secrets
import threading

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from moldar.hub.clock import Clock

MINIMUM_LENGTH = 8
MAXIMUM_LENGTH = 1024
_REMEMBER_SECONDS = 300
_REMEMBER_LIMIT = 4096


class Passwords:
    """Hashes and checks passwords. Threads may share it; two may hash at once, the others wait."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._hasher = PasswordHasher()
        self._turns = threading.BoundedSemaphore(2)  # 64 MiB each: a flood of sign-ins must not eat the memory
        self._key = secrets.token_bytes(32)
        self._right: dict[bytes, int] = {}
        self._decoy = ""

    def hash(self, password: str) -> str:
        with self._turns:
            return self._hasher.hash(password)

    def verify(self, stored: str | None, password: str) -> bool:
        """Whether `password` made `stored`. With None it takes as long, and is False."""
        if len(password) > MAXIMUM_LENGTH:
            return False
        known = self._fingerprint(stored or "", password)
        if stored and self._right.get(known, 0) > self._clock():
            return True
        if not self._decoy:
            self._decoy = self.hash(secrets.token_hex(16))
        try:
            with self._turns:
                self._hasher.verify(stored or self._decoy, password)
        except (VerificationError, InvalidHashError):
            return False
        if not stored:
            return False
        if len(self._right) >= _REMEMBER_LIMIT:
            self._right.clear()
        self._right[known] = self._clock() + _REMEMBER_SECONDS
        return True

    def remembers(self, stored: str | None, password: str) -> bool:
        """Whether `verify` would answer at once, without hashing."""
        return bool(stored) and self._right.get(self._fingerprint(stored or "", password), 0) > self._clock()

    def _fingerprint(self, stored: str, password: str) -> bytes:
        message = stored.encode() + b"\0" + password.encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, message, hashlib.sha256)
