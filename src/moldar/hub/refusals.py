"""What the services of the hub answer when they say no, and the one table from there to HTTP.

A refusal carries a code of the distribution specification; `remote.wire.ERROR_CODES` gives the status that goes
with the code. Nothing here knows a request.
"""

import errno
from collections.abc import Mapping
from typing import Any

from moldar.errors import CorruptData, HostTrouble, MoldarError, UserMistake
from moldar.remote.wire import ERROR_CODES, wire_error

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
RETRY_SECONDS = 5


class Refusal(MoldarError):
    """The registry says no. `code`: of the specification; `status`: when it is not the code's usual one."""

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        detail: Any = None,
        status: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message or ERROR_CODES[code].message)
        self.code = code
        self.detail = detail
        self.status = status or ERROR_CODES[code].status
        self.headers = dict(headers or {})


class TooManyAttempts(Refusal):
    """Too many failed sign-ins, or too much else; `wait` seconds remain until the next one is looked at."""

    def __init__(self, wait: int, message: str = "too many failed attempts; wait a while") -> None:
        super().__init__("TOOMANYREQUESTS", message, headers={"Retry-After": str(max(wait, 1))})
        self.wait = max(wait, 1)


class Unavailable(HostTrouble):
    """What the hub stands on (a database, a storage) does not answer now. Everything was left as it was."""


def refusal_for(error: Exception) -> Refusal | None:
    """The refusal that tells a client of `error`; None for what is our own mistake."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return Refusal("UNKNOWN", "the registry has no space left", status=507)
    if isinstance(error, Unavailable):
        return Refusal("UNKNOWN", error.message, status=503, headers={"Retry-After": str(RETRY_SECONDS)})
    if isinstance(error, HostTrouble):
        return Refusal("UNKNOWN", error.message, status=507 if "space" in error.message else 500)
    if isinstance(error, CorruptData):
        return Refusal("MANIFEST_INVALID", error.message)
    if isinstance(error, UserMistake):
        return Refusal("UNSUPPORTED", error.message, status=400)
    return None


def body_error(refusal: Refusal) -> Any:
    """The refusal as the wire's error value."""
    return wire_error(refusal.code, refusal.message, refusal.detail)
