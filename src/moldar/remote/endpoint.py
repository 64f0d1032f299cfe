"""One place that speaks the registry API: builds URLs, sends authorised requests, turns refusals into errors."""

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from moldar.errors import MoldarError
from moldar.remote.config import DOCKER_HUB, DOCKER_HUB_HOST, Endpoint
from moldar.remote.credentials import Finder
from moldar.remote.failures import refusal
from moldar.remote.handshake import Authority
from moldar.remote.session import Answer, Session
from moldar.remote.wire import Scope


class Peer:
    """An endpoint with our identity there; safe for threads."""

    def __init__(self, session: Session, endpoint: Endpoint, find: Finder) -> None:
        self.session = session
        self.endpoint = endpoint
        self.account = DOCKER_HUB if endpoint.host == DOCKER_HUB_HOST else endpoint.host
        self._authority = Authority(session, endpoint.host, self.account, find)

    @property
    def base(self) -> str:
        """Scheme and host; asks the host which scheme it speaks when plain http is allowed there."""
        scheme = self.endpoint.scheme or self.session.scheme(self.endpoint.host)
        return f"{scheme}://{self.endpoint.host}"

    def url(self, path: str) -> str:
        return self.base + path

    def locate(self, answer: Answer) -> str:
        """The absolute URL of an answer's Location (distribution-spec allows relative ones).

        Behind a proxy that ends TLS, registries name themselves with http: the scheme that works is kept.
        """
        location = answer.header("Location")
        own_by_http = f"http://{self.endpoint.host}/"
        if location.startswith(own_by_http):
            location = "/" + location.removeprefix(own_by_http)
        return self.session.joined(answer.url, location)

    def request(
        self,
        method: str,
        url: str,
        scopes: Iterable[Scope],
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """Send a request, after the handshake if the registry asks for it; any status but 401 comes back as is.

        A 401 comes back too when we have nothing better to show. `url`: absolute, or a path of this endpoint.
        """
        scopes = tuple(scopes)
        url = self.url(url) if url.startswith("/") else url
        shown = self.authorization(url, scopes)
        answer = self.session.send(method, url, _with(headers, shown), body)
        if answer.status != 401:
            return answer
        better = self.renewed(answer, scopes, shown)
        if better is None:
            return answer
        answer.close()
        return self.session.send(method, url, _with(headers, better), body)

    def authorization(self, url: str, scopes: Iterable[Scope]) -> str | None:
        """The Authorization header for a request to `url`, known so far; none for another host."""
        return self._authority.header(scopes) if urlsplit(url).netloc == self.endpoint.host else None

    def renewed(self, answer: Answer, scopes: Iterable[Scope], shown: str | None) -> str | None:
        """The header to try after a 401, None when there is no better than `shown`; errors close the answer."""
        if answer.host != self.endpoint.host:
            return None
        try:
            return self._authority.renew(answer, scopes, shown)
        except BaseException:
            answer.close()
            raise

    def refusal(self, answer: Answer, what: str) -> MoldarError:
        """The error for an answer that ends the attempt `what`; reads the answer's body."""
        return refusal(self.account, answer.status, answer.read(), what)


def _with(headers: Mapping[str, str] | None, authorization: str | None) -> dict[str, str]:
    sent = dict(headers or {})
    if authorization:
        sent["Authorization"] = authorization
    return sent
