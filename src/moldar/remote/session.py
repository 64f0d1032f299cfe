"""HTTP as registries need it: retries, redirects, plain-http rules, and transport errors in words.

Knows nothing of images or tokens. An Authorization header goes only to the host that it was made for: a redirect
to another host loses it. The time between attempts comes from a RetryPolicy, and from Retry-After.
"""

import random
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    IncompleteRead,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from moldar import __version__
from moldar.remote.config import RegistryConfig, is_loopback
from moldar.remote.connections import CONNECT_SECONDS, READ_SECONDS, Pools
from moldar.remote.failures import TlsTrouble, UnexpectedAnswer, Unreachable, printable
from moldar.remote.wire import base_path

CHUNK = 1024 * 1024
USER_AGENT = f"moldar/{__version__}"
_PASSING_STATUSES = frozenset((408, 429, 500, 502, 503, 504))
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_MOST_REDIRECTS = 8
_LONGEST_ERROR_BODY = 64 * 1024


class RetryPolicy(NamedTuple):
    """How often to try, and how long to wait between: seconds that double from `first` up to `longest`.

    A server that asks for more patience than `longest` seconds is believed, and the attempt ends.
    """

    attempts: int = 5
    first: float = 0.25
    longest: float = 30.0
    sleep: Callable[[float], None] = time.sleep

    def wait(self, attempt: int, asked: float | None = None) -> None:
        """Pause after failed attempt number `attempt` (from 0); `asked`: seconds of a Retry-After."""
        jitter = 0.75 + random.random() / 2  # noqa: S311 - spreads clients, guards nothing
        self.sleep(min(self.first * 2**attempt, self.longest) * jitter if asked is None else asked)


class Answer:
    """A response whose body has not been read yet; a context manager that frees the connection."""

    def __init__(self, response: urllib3.BaseHTTPResponse, url: str) -> None:
        self._response = response
        self.url = url
        self.status = response.status
        self.headers = response.headers

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    def header(self, name: str) -> str:
        return self.headers.get(name, "")

    @property
    def length(self) -> int | None:
        """The Content-Length in bytes; None when unsaid."""
        text = self.header("Content-Length")
        return int(text) if text.isdecimal() else None

    def read(self, limit: int = _LONGEST_ERROR_BODY) -> bytes:
        """The body, whole if it has at most `limit` bytes, else its first `limit` + 1."""
        parts: list[bytes] = []
        total = 0
        for chunk in self.chunks():
            parts.append(chunk)
            total += len(chunk)
            if total > limit:
                break
        return b"".join(parts)[: limit + 1]

    def chunks(self) -> Iterator[bytes]:
        """The body as it arrives; Unreachable when the connection breaks."""
        try:
            yield from self._response.stream(CHUNK, decode_content=False)
        except IncompleteRead as error:
            raise Unreachable(self.host, "the connection ended early", passing=True) from error
        except (HTTPError, OSError) as error:
            raise _in_words(self.host, error) from error

    def close(self) -> None:
        """Free the connection; what is left of a long body is not read but dropped with it."""
        left = self._response.length_remaining
        if left is not None and left <= _LONGEST_ERROR_BODY:
            try:
                self._response.drain_conn()
            except (HTTPError, OSError):
                self._response.close()
        else:
            self._response.close()
        self._response.release_conn()

    def __enter__(self) -> "Answer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Session:
    """Sends requests; shared by all that one command does, safe for threads."""

    def __init__(self, config: RegistryConfig, retry: RetryPolicy | None = None) -> None:
        self.config = config
        self.retry = retry or RetryPolicy()
        self._pools = Pools(config)
        self._schemes: dict[str, str] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        self._pools.close()

    def scheme(self, host: str) -> str:
        """Which of http and https `host` speaks; asked of the host once, and only where http is allowed."""
        if not self.config.insecure(host):
            return "https"
        with self._lock:
            if host not in self._schemes:
                self._schemes[host] = self._probe(host)
            return self._schemes[host]

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        repeatable: bool = True,
    ) -> Answer:
        """Send a request whose body is in memory, following redirects of GET and HEAD.

        Tries again after passing troubles unless `repeatable` is False. Raises Unreachable (TlsTrouble).
        """
        attempts = self.retry.attempts if repeatable else 1
        for attempt in range(attempts):
            last = attempt == attempts - 1
            try:
                answer = self._follow(method, url, dict(headers or {}), body)
            except Unreachable as error:
                if last or not error.passing:
                    raise
                self.retry.wait(attempt)
                continue
            asked = retry_after(answer)
            if last or answer.status not in _PASSING_STATUSES or (asked or 0) > self.retry.longest:
                return answer
            answer.close()
            self.retry.wait(attempt, asked)
        raise AssertionError("the last attempt returns or raises")

    def send_stream(self, method: str, url: str, headers: Mapping[str, str], body: Iterable[bytes]) -> Answer:
        """Send a body of chunks once. `headers` must hold its Content-Length. Raises Unreachable."""
        return self._once(method, url, dict(headers), body)

    def check_url(self, url: str) -> None:
        """Refuse what a server must not make us speak to: other protocols, and plain http where not allowed."""
        try:
            parts = urlsplit(url)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise UnexpectedAnswer(f"a registry sent us to {printable(url)}, which is no http address", status=0)
        if parts.scheme == "http" and not self.config.insecure(parts.netloc):
            raise TlsTrouble(
                parts.netloc, "it is asked for by plain http, which is not allowed", hint=_plain_hint(parts.netloc)
            )

    def joined(self, base: str, location: str) -> str:
        """The absolute URL of a `location` that a server gave; raises what `check_url` raises."""
        try:
            url = urljoin(base, location)
        except ValueError:
            url = location
        self.check_url(url)
        return url

    def _follow(self, method: str, url: str, headers: dict[str, str], body: bytes | None) -> Answer:
        for _ in range(_MOST_REDIRECTS):
            answer = self._once(method, url, headers, body)
            location = answer.header("Location")
            if answer.status not in _REDIRECTS or method not in ("GET", "HEAD") or not location:
                return answer
            answer.close()
            target = self.joined(url, location)
            if urlsplit(target)[:2] != urlsplit(url)[:2]:
                headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
            url = target
        raise UnexpectedAnswer(f"{urlsplit(url).netloc}: more than {_MOST_REDIRECTS} redirects", status=0)

    def _once(self, method: str, url: str, headers: dict[str, str], body: bytes | Iterable[bytes] | None) -> Answer:
        parts = urlsplit(url)
        pool = self._pools.pool(parts.scheme, parts.netloc)
        headers = {"User-Agent": USER_AGENT, **headers}
        if body is None and method in ("POST", "PUT", "PATCH"):
            headers.setdefault("Content-Length", "0")
        try:
            response = pool.urlopen(
                method, url, body=body, headers=headers, preload_content=False, redirect=False, retries=False
            )
        except (HTTPError, OSError) as error:
            raise _in_words(parts.netloc, error) from error
        return Answer(response, url)

    def _probe(self, host: str) -> str:
        """Loopback hosts mostly speak http, others https; go by the answer. The first error tells the most,
        but that somebody speaks TLS whom we do not trust."""
        telling: Unreachable | None = None
        for scheme in ("http", "https") if is_loopback(host) else ("https", "http"):
            try:
                with self._once("GET", f"{scheme}://{host}{base_path()}", {}, None) as answer:
                    if answer.status != 400:  # how servers of https answer plain http
                        return scheme
            except Unreachable as error:
                if telling is None or (isinstance(error, TlsTrouble) and not error.plain):
                    telling = error
        if telling:
            raise telling
        return "https"


def retry_after(answer: Answer) -> float | None:
    """The seconds of a Retry-After header; None when absent or given as a date."""
    text = answer.header("Retry-After").strip()
    return float(text) if text.isdecimal() else None


def _in_words(host: str, error: Exception) -> Unreachable:
    """The error of the HTTP library as ours, by its type and never by its text."""
    if isinstance(error, NameResolutionError):
        return Unreachable(host, "no such host", hint="check the name, and that this machine can resolve names")
    if isinstance(error, ReadTimeoutError):
        return Unreachable(host, f"no answer for {READ_SECONDS} s", passing=True)
    if isinstance(error, SSLError):
        return _tls_in_words(host, error)
    if isinstance(error, LocationParseError):
        return Unreachable(host, "not a valid address")
    cause = _os_error(error)
    if isinstance(cause, ConnectionRefusedError):
        return Unreachable(host, "connection refused", hint="is the registry running, and on this port?")
    if isinstance(error, NewConnectionError):
        return Unreachable(host, cause.strerror if cause and cause.strerror else "connecting failed")
    if isinstance(error, ConnectTimeoutError):
        return Unreachable(host, f"no connection within {CONNECT_SECONDS} s", passing=True)
    passing = isinstance(error, ProtocolError) or cause is not None
    why = "the connection broke" if passing else type(error).__name__
    return Unreachable(host, why, passing=passing)


def _os_error(error: BaseException) -> OSError | None:
    """The system's error beneath the library's."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and not isinstance(seen, ssl.SSLError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _tls_in_words(host: str, error: SSLError) -> TlsTrouble:
    cause = error.__cause__ or (error.args[0] if error.args else None)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return TlsTrouble(
            host,
            f"its certificate is not trusted ({printable(cause.verify_message)})",
            hint=f'trust its authority: set ca = "/path/of/ca.crt" under [registry."{host}"] in moldar.toml',
        )
    plain = isinstance(cause, ssl.SSLError) and cause.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST")
    if plain:
        return TlsTrouble(host, "it does not speak TLS (plain http, perhaps)", hint=_plain_hint(host), plain=True)
    why = cause.reason if isinstance(cause, ssl.SSLError) and cause.reason else "handshake failed"
    return TlsTrouble(host, f"TLS failed ({why})", hint=_plain_hint(host))


def _plain_hint(host: str) -> str:
    return (
        "plain http is spoken only to loopback addresses and where configured: "
        f'insecure = true under [registry."{host}"] in moldar.toml'
    )
