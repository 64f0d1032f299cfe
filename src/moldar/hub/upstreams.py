"""The registries that this hub keeps copies of, as data: their names here, their addresses, our credentials there.

An upstream has a namespace of its own: `docker.io/library/python` here is `library/python` at docker.io.
"""

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from moldar.errors import UserMistake
from moldar.remote.wire import valid_repository

DOCKER_HUB = "docker.io"
_DOCKER_HUB_URL = "https://registry-1.docker.io"
_DOCKER_HUB_NAMES = (DOCKER_HUB, "registry-1.docker.io", "index.docker.io", "https://index.docker.io/v1/")


@dataclass(frozen=True, slots=True)
class Upstream:
    """`name`: its namespace here; `url`: where it answers, without a slash at the end."""

    name: str
    url: str
    username: str = ""
    password: str = field(default="", repr=False)

    def local_name(self, repository: str) -> str:
        """Our name of the upstream's `repository`; docker.io's short names are of its `library`."""
        if self.name == DOCKER_HUB and "/" not in repository:
            repository = f"library/{repository}"
        return f"{self.name}/{repository}"

    def remote_name(self, local: str) -> str:
        """The upstream's name of our repository `local`."""
        return local.removeprefix(self.name + "/")


class Upstreams:
    """All upstreams of a hub. `root`: the one whose names may be used without its own before them, or None."""

    def __init__(self, upstreams: Iterable[Upstream] = (), root: str = "") -> None:
        self._by_name = {upstream.name: upstream for upstream in upstreams}
        self.root = self._by_name.get(root)

    def __bool__(self) -> bool:
        return bool(self._by_name)

    def __iter__(self) -> Any:
        return iter(self._by_name.values())

    def of(self, repository: str) -> Upstream | None:
        """The upstream in whose namespace `repository` lies."""
        return self._by_name.get(repository.partition("/")[0])

    def by_registry(self, registry: str) -> Upstream | None:
        """The upstream that clients know as `registry`: containerd's `ns` parameter."""
        for upstream in self._by_name.values():
            if registry in (upstream.name, urlsplit(upstream.url).netloc):
                return upstream
        return None


def parse_upstreams(words: Iterable[str], mirror_of: str = "", credentials: str = "") -> Upstreams:
    """From `docker.io` or `NAME=URL`, one for each. `credentials`: the text of a file as docker login writes it.

    `mirror_of`: the one at the root; it need not be among `words`. Raises UserMistake.
    """
    wanted = dict(_name_and_url(word) for word in words)
    if mirror_of and mirror_of not in wanted:
        name, url = _name_and_url(mirror_of)
        mirror_of = name
        wanted.setdefault(name, url)
    secrets = _credentials(credentials)
    return Upstreams(
        (Upstream(name, url, *_credentials_for(name, url, secrets)) for name, url in wanted.items()), mirror_of
    )


def _name_and_url(word: str) -> tuple[str, str]:
    name, equals, url = word.partition("=")
    if not valid_repository(name) or "/" in name or "." not in name:
        raise UserMistake(
            f"invalid upstream {word!r}", hint="expected a host, or NAME=URL: hub.lan=https://10.0.0.5:5000"
        )
    if not equals:
        url = _DOCKER_HUB_URL if name == DOCKER_HUB else f"https://{name}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username or parts.fragment:
        raise UserMistake(f"invalid address {url!r} of the upstream {name}", hint="expected https://HOST[:PORT]")
    return name, url.rstrip("/")


def _credentials_for(name: str, url: str, secrets: dict[str, tuple[str, str]]) -> tuple[str, str]:
    names = _DOCKER_HUB_NAMES if name == DOCKER_HUB else (name, urlsplit(url).netloc)
    return next((secrets[key] for key in names if key in secrets), ("", ""))


def _credentials(text: str) -> dict[str, tuple[str, str]]:
    if not text:
        return {}
    wrong = UserMistake(
        "the file with the upstreams' credentials cannot be read",
        hint='expected {"auths": {"docker.io": {"username": "me", "password": "…"}}}, or a file of docker login',
    )
    try:
        entries = json.loads(text)["auths"].items()
        return {name: _pair(entry) for name, entry in entries}
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise wrong from error


def _pair(entry: dict[str, str]) -> tuple[str, str]:
    if "auth" in entry:
        username, _, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        return username, password
    return entry["username"], entry["password"]
