"""The guard against guessing passwords: failed sign-ins of the last minutes, counted by account and by address.

The count is in the database, so that several hubs allow no more than one. Only a failure writes; a success is
remembered by the hub that saw it, and there forgives what failed before it. An IPv6 network of 64 bits counts as one
address, for whoever has one address of it has all.

Failures from everywhere close an account to strangers only: from an address at which the account has a session,
guesses made elsewhere shut out nobody. Access tokens are never shut out (see `authentication`): nobody guesses one.
"""

import hashlib
import hmac
import threading
from typing import Any

from sqlalchemy import Row, insert, or_, select

from moldar.hub.access.audit import record_failed_sign_in
from moldar.hub.access.rates import address_key
from moldar.hub.clock import Clock
from moldar.hub.data.database import Database
from moldar.hub.data.pruning import prune
from moldar.hub.data.schema import ACCOUNTS, SESSIONS, SIGN_IN_FAILURES
from moldar.hub.refusals import TooManyAttempts

_REMEMBERED = 20_000


class Throttle:
    """Counts failures in a sliding window; each key has its own allowance. Threads may share it.

    `secret`: stands between the names that were tried and whoever reads the database, because people type passwords
    into the wrong field; the same in all hubs.
    """

    WINDOW = 15 * 60
    PER_ACCOUNT_AND_ADDRESS = 8
    PER_ADDRESS = 60
    PER_ACCOUNT = 120

    def __init__(self, database: Database, clock: Clock, secret: bytes) -> None:
        self._database = database
        self._clock = clock
        self._secret = secret
        self._right: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def check(self, account: str, address: str) -> None:
        """Raises TooManyAttempts when the account or the address failed too often of late."""
        now = self._clock()
        key, place = self._key(account), _place(address)
        found = self._failures(key, place, now - self.WINDOW)
        forgiven = self._right.get((key, place), 0)
        here = [row.at for row in found if (row.account, row.address) == (key, place) and row.at > forgiven]
        of_address = [row.at for row in found if row.address == place]
        of_account = [row.at for row in found if row.account == key]
        for moments, limit in ((here, self.PER_ACCOUNT_AND_ADDRESS), (of_address, self.PER_ADDRESS)):
            _refuse_over(moments, limit, now)
        if len(of_account) >= self.PER_ACCOUNT and not self._is_at_home(account, place, now):
            _refuse_over(of_account, self.PER_ACCOUNT, now)

    def failed(self, account: str, address: str) -> None:
        """Counts a failed sign-in and writes its line of the audit log."""
        self._count(account, address, is_sign_in=True)

    def count(self, what: str, address: str) -> None:
        """Counts something else that shall not happen too often, under a name that no account has."""
        self._count(what, address, is_sign_in=False)

    def succeeded(self, account: str, address: str) -> None:
        now = self._clock()
        with self._lock:
            self._right[self._key(account), _place(address)] = now
            if len(self._right) > _REMEMBERED:
                self._right = {key: moment for key, moment in self._right.items() if moment > now - self.WINDOW}

    def prune(self) -> int:
        """Forgets failures that count no more; gives how many."""
        return prune(self._database, SIGN_IN_FAILURES, self._clock() - self.WINDOW)

    def _failures(self, key: str, place: str, border: int) -> list[Row[Any]]:
        rows = SIGN_IN_FAILURES.c
        query = select(rows.account, rows.address, rows.at).where(
            rows.at > border, or_(rows.account == key, rows.address == place)
        )
        with self._database.reading() as connection:
            return list(connection.execute(query.order_by(rows.at)))

    def _count(self, account: str, address: str, *, is_sign_in: bool) -> None:
        now = self._clock()
        row = {"at": now, "account": self._key(account), "address": _place(address)}
        with self._database.writing(durable=False, alone=False) as connection:
            connection.execute(insert(SIGN_IN_FAILURES).values(row))
            if is_sign_in:
                record_failed_sign_in(connection, now, account, address)

    def _is_at_home(self, account: str, place: str, now: int) -> bool:
        """Whether the account has a session that began at the address."""
        query = select(SESSIONS.c.created).join(ACCOUNTS, SESSIONS.c.account_id == ACCOUNTS.c.id)
        query = query.where(ACCOUNTS.c.name == account, SESSIONS.c.address == place, SESSIONS.c.expires > now)
        with self._database.reading() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def _key(self, account: str) -> str:
        return hmac.new(self._secret, account.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]


def _place(address: str) -> str:
    return address_key(address)[:64]


def _refuse_over(moments: list[int], limit: int, now: int) -> None:
    if len(moments) >= limit:
        raise TooManyAttempts(moments[-limit] + Throttle.WINDOW - now)
