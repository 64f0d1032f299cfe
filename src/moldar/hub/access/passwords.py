"""Passwords and the guard against guessing them.

argon2id takes a good part of a second by intention. So a password that was right is remembered for some minutes,
as a keyed hash in this process's memory only, and failures are counted per account and address before any hashing.
"""

import hashlib
import hmac
import secrets
import threading

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from moldar.hub.clock import Clock
from moldar.hub.refusals import TooManyAttempts

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


class Throttle:
    """Counts failures in a sliding window; each key has its own allowance."""

    WINDOW = 15 * 60
    PER_ACCOUNT_AND_ADDRESS = 8
    PER_ADDRESS = 60
    PER_ACCOUNT = 120

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: dict[tuple[str, str], list[int]] = {}
        self._lock = threading.Lock()

    def check(self, account: str, address: str) -> None:
        """Raises TooManyAttempts when the account or the address failed too often of late."""
        now = self._clock()
        with self._lock:
            for key, allowed in self._keys(account, address):
                recent = [moment for moment in self._failures.get(key, ()) if moment > now - self.WINDOW]
                if len(recent) >= allowed:
                    raise TooManyAttempts(recent[-allowed] + self.WINDOW - now)

    def failed(self, account: str, address: str) -> None:
        now = self._clock()
        with self._lock:
            for key, allowed in self._keys(account, address):
                recent = [moment for moment in self._failures.get(key, ()) if moment > now - self.WINDOW]
                self._failures[key] = [*recent[-allowed:], now]
            if len(self._failures) > 20_000:
                self._failures = {k: v for k, v in self._failures.items() if v[-1] > now - self.WINDOW}

    def succeeded(self, account: str, address: str) -> None:
        with self._lock:
            self._failures.pop((account, address), None)

    def _keys(self, account: str, address: str) -> tuple[tuple[tuple[str, str], int], ...]:
        return (
            ((account, address), self.PER_ACCOUNT_AND_ADDRESS),
            (("", address), self.PER_ADDRESS),
            ((account, ""), self.PER_ACCOUNT),
        )
