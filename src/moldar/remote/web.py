"""Plain web servers: what Dockerfiles name by URL may be served by any host, by http or https."""

from urllib.parse import urlsplit

from moldar.remote.failures import UnexpectedAnswer, printable
from moldar.remote.session import Session


class WebSession(Session):
    """A Session that follows redirects to any web server, not only to those that registries may use."""

    def check_url(self, url: str) -> None:
        """Refuse other protocols than http and https."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise UnexpectedAnswer(f"a server sent us to {printable(url)}, which is no http address", status=0)
