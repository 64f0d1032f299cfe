"""What can go wrong with a registry, in words for a person, and how its answers become such errors.

Leaves of the room that several of its modules raise. Text from a server is never trusted: control characters are
taken out before it reaches a terminal.
"""

from moldar.errors import CorruptData, MoldarError, NotFound, RegistryRefused
from moldar.remote.wire import ERROR_CODES, parse_errors

_LONGEST_TEXT = 500
_UNSAID = {  # an answer to HEAD has no body
    error.status: f"{code.lower()}: {error.message}"
    for code, error in ERROR_CODES.items()
    if code in ("UNAUTHORIZED", "DENIED", "TOOMANYREQUESTS", "UNAVAILABLE")
}


class Unreachable(RegistryRefused):
    """No answer could be had from `host`. `passing`: trying again may help (a reset, a time-out)."""

    def __init__(self, host: str, why: str, *, hint: str = "", passing: bool = False) -> None:
        super().__init__(f"cannot reach {host}: {why}", hint=hint)
        self.host = host
        self.passing = passing


class TlsTrouble(Unreachable):
    """No trusted encrypted connection to `host`. `plain`: the host seems to speak plain http."""

    def __init__(self, host: str, why: str, *, hint: str, plain: bool = False) -> None:
        super().__init__(host, why, hint=hint)
        self.plain = plain


class AccessDenied(RegistryRefused):
    """The registry wants other credentials or refuses these (HTTP 401, 403)."""


class TooManyRequests(RegistryRefused):
    """The registry limits our rate and did so until the last attempt (HTTP 429)."""


class UnexpectedAnswer(RegistryRefused):
    """A registry answered outside of the specification, or with an error that has no better leaf."""

    def __init__(self, message: str, *, status: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class MissingAtRegistry(NotFound):
    """The registry has no such repository, manifest or blob (HTTP 404)."""


class LyingRegistry(CorruptData):
    """A registry served or acknowledged content under a digest that is not the content's."""


class TruncatedBlob(CorruptData):
    """A blob ended early each time that we tried."""


def refusal(host: str, status: int, body: bytes, what: str) -> MoldarError:
    """The error for an answer of `host` to the attempt `what` ("pulling alice/app")."""
    text = said(body) or _UNSAID.get(status) or f"HTTP status {status}"
    message = f"{what}: {text}"
    if status == 401:
        return AccessDenied(message, hint=f"log in with: moldar login {host}")
    if status == 403:
        return AccessDenied(message, hint=f"is this the right account? log in with: moldar login {host}")
    if status == 404:
        return MissingAtRegistry(message)
    if status == 429:
        return TooManyRequests(message, hint=f"wait a while; some registries allow more after: moldar login {host}")
    return UnexpectedAnswer(f"{host}: {message}", status=status)


def said(body: bytes) -> str:
    """The registry's own words in an error body, made printable; empty when it says nothing."""
    return printable("; ".join(str(error) for error in parse_errors(body)))


def printable(text: str) -> str:
    """`text` without control characters, shortened to what a terminal can bear."""
    clean = "".join(character if character.isprintable() else " " for character in text)
    return clean if len(clean) <= _LONGEST_TEXT else clean[:_LONGEST_TEXT] + "…"
