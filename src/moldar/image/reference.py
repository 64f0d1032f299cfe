"""Image references: `[registry[:port]/]path[:tag][@digest]`, with Docker's defaults.

`my-server` means `docker.io/library/my-server:latest`; the first component is a registry when it holds a dot or
a colon, is `localhost`, or has an upper-case letter. Grammar: distribution-spec 1.1, "Pulling manifests", and
the reference grammar that Docker's command line follows.
"""

import re
from typing import NamedTuple

from moldar.errors import UserMistake
from moldar.image.model import Digest, parse_digest

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = rf"{_COMPONENT}(?:/{_COMPONENT})*\Z"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z"
_DOMAIN_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY = rf"(?:{_DOMAIN_LABEL}(?:\.{_DOMAIN_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?\Z"


class Reference(NamedTuple):
    """A fully qualified name. `tag` is empty only when a digest was given without one."""

    registry: str
    repository: str
    tag: str
    digest: Digest | None = None

    @property
    def name(self) -> str:
        """Registry and repository: `docker.io/library/busybox`."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar_name(self) -> str:
        """The name as Docker shows it: `busybox`, `alice/app`, `127.0.0.1:5050/alice/app`."""
        if self.registry != DEFAULT_REGISTRY:
            return self.name
        return self.repository.removeprefix("library/")

    @property
    def familiar(self) -> str:
        """The whole reference as Docker shows it."""
        return self.familiar_name + self._suffix

    def __str__(self) -> str:
        return self.name + self._suffix

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse_reference(text: str, default_tag: str = DEFAULT_TAG) -> Reference:
    """The reference written in `text`; UserMistake, naming the part at fault, when it is malformed."""
    rest, at, digest_text = text.partition("@")
    digest = parse_digest(digest_text) if at else None
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        name, tag = rest, ""
    elif not re.match(_TAG, tag):
        raise _invalid(text, f"invalid tag {tag!r}")
    registry, path = _split_registry(name)
    if registry != DEFAULT_REGISTRY and not re.match(_REGISTRY, registry):
        raise _invalid(text, f"invalid registry {registry!r}")
    if not path:
        raise _invalid(text, "the repository name is empty")
    if path != path.lower():
        raise _invalid(text, "the repository name must be lower case")
    if not re.match(_PATH, path) or len(path) > 255:
        raise _invalid(text, f"invalid repository name {path!r}")
    return Reference(registry, path, tag or ("" if digest else default_tag), digest)


def _split_registry(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        registry, path = first, rest
    else:
        registry, path = DEFAULT_REGISTRY, name
    if registry in ("index.docker.io", "registry-1.docker.io"):
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and path and "/" not in path:
        path = f"library/{path}"
    return registry, path


def _invalid(text: str, why: str) -> UserMistake:
    return UserMistake(f"invalid reference {text!r}: {why}", hint="expected [registry/]repository[:tag][@digest]")
