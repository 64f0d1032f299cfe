"""Rate limits: how often an account, or an address without one, may do something.

Token buckets in memory: each holds as much as its rate allows in its period, and fills evenly. A limit that is not
set does not exist, and costs nothing.
"""

import ipaddress
import re
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from moldar.errors import UserMistake
from moldar.hub.access.decisions import Principal
from moldar.hub.refusals import TooManyAttempts

_RATE = re.compile(r"(\d{1,7})/(\d{0,4})(s|m|h|d)\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BUCKETS = 50_000


class Rate(NamedTuple):
    """So many in so many seconds."""

    times: int
    seconds: int


class RateLimit:
    """One limit, for any number of keys. Threads may share it. `clock`: in seconds, never going back."""

    def __init__(self, rate: Rate, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._what = what
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, key: str) -> None:
        """Counts one for `key`. Raises TooManyAttempts."""
        now = self._clock()
        speed = self._rate.times / self._rate.seconds
        with self._lock:
            level, seen = self._buckets.get(key, (float(self._rate.times), now))
            level = min(level + (now - seen) * speed, float(self._rate.times))
            if level < 1:
                wait = int((1 - level) / speed) + 1
                raise TooManyAttempts(wait, f"too many {self._what}: wait {wait} seconds")
            self._buckets[key] = level - 1, now
            if len(self._buckets) > _BUCKETS:
                self._forget(now, speed)

    def _forget(self, now: float, speed: float) -> None:
        """Drops the buckets that are full again, and all when none is."""
        full = self._rate.times
        kept = {
            key: (level, seen) for key, (level, seen) in self._buckets.items() if level + (now - seen) * speed < full
        }
        self._buckets = kept if len(kept) <= _BUCKETS else {}


class Rates(NamedTuple):
    """The limits of a hub; None where there is none."""

    pulls: RateLimit | None = None
    pushes: RateLimit | None = None
    tokens: RateLimit | None = None
    logins: RateLimit | None = None


def make_rates(pulls: str, pushes: str, tokens: str, logins: str) -> Rates:
    """From texts such as `100/6h`, empty for no limit. Raises UserMistake."""
    texts = (("pulls", pulls), ("pushes", pushes), ("token requests", tokens), ("sign-ins", logins))
    return Rates(*(RateLimit(parse_rate(text), what) if text else None for what, text in texts))


def parse_rate(text: str) -> Rate:
    """The rate in `100/6h` or `5/s`. Raises UserMistake."""
    match = _RATE.match(text)
    if match is None or not int(match[1]) or match[2] == "0":
        raise UserMistake(f"invalid rate {text!r}", hint="expected COUNT/PERIOD: 10/s, 300/m, 100/6h")
    return Rate(int(match[1]), int(match[2] or 1) * _SECONDS[match[3]])


def rate_key(principal: Principal, address: str) -> str:
    """Whose bucket it is: the account's, or the address's; an IPv6 network of 64 bits counts as one address."""
    if principal.name:
        return f"@{principal.name}"
    return address_key(address)


def address_key(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
    return address
