"""What travels between a registry and its clients, as pure values: both sides of the wire share this module.

Owns routes, media types, error codes, authentication challenges, scopes, and the Range, Content-Range and Link
headers. Sources: distribution-spec 1.1; Docker's token authentication specification; RFC 7235 (challenges),
RFC 9110 section 14 (ranges), RFC 8288 (links). Nothing here opens a socket or a file.
"""

import base64
import binascii
import enum
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from moldar.errors import UserMistake
from moldar.image.model import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

API_VERSION_HEADER = "Docker-Distribution-API-Version"
API_VERSION = "registry/2.0"
DIGEST_HEADER = "Docker-Content-Digest"
UPLOAD_ID_HEADER = "Docker-Upload-UUID"
SUBJECT_HEADER = "OCI-Subject"
FILTERS_HEADER = "OCI-Filters-Applied"
CHUNK_MINIMUM_HEADER = "OCI-Chunk-Min-Length"

MANIFEST_ACCEPT = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST))
"""The Accept header of a client that reads every manifest we know."""
MANIFEST_LIMIT = 4 * 1024 * 1024
"""Largest manifest in bytes that a registry must take (distribution-spec, "Pushing Manifests")."""

_REPOSITORY_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_REPOSITORY_COMPONENT}(?:/{_REPOSITORY_COMPONENT})*\Z")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\Z")


def valid_repository(name: str) -> bool:
    """Whether `name` is a repository name (distribution-spec, "Pulling manifests")."""
    return len(name) <= 255 and _REPOSITORY.match(name) is not None


def valid_tag(tag: str) -> bool:
    """Whether `tag` is a tag (distribution-spec, "Pulling manifests")."""
    return _TAG.match(tag) is not None


# --- Routes ---------------------------------------------------------------------------------------------------


class RouteKind(enum.Enum):
    """What a path of the API is about."""

    BASE = "base"
    CATALOG = "catalog"
    TAGS = "tags"
    MANIFEST = "manifest"
    BLOB = "blob"
    UPLOADS = "uploads"
    UPLOAD = "upload"
    REFERRERS = "referrers"


class Route(NamedTuple):
    """A parsed path. `reference`: the tag, digest or upload ID at its end. Neither part is validated."""

    kind: RouteKind
    repository: str = ""
    reference: str = ""


_ROUTES = (  # the first that matches wins; repository names may hold "blobs", "tags" and so on as components
    (re.compile(r"/v2/?\Z"), RouteKind.BASE),
    (re.compile(r"/v2/_catalog\Z"), RouteKind.CATALOG),
    (re.compile(r"/v2/(?P<repository>.+)/tags/list\Z"), RouteKind.TAGS),
    (re.compile(r"/v2/(?P<repository>.+)/manifests/(?P<reference>[^/]+)\Z"), RouteKind.MANIFEST),
    (re.compile(r"/v2/(?P<repository>.+)/referrers/(?P<reference>[^/]+)\Z"), RouteKind.REFERRERS),
    (re.compile(r"/v2/(?P<repository>.+)/blobs/uploads/?\Z"), RouteKind.UPLOADS),
    (re.compile(r"/v2/(?P<repository>.+)/blobs/uploads/(?P<reference>[^/]+)\Z"), RouteKind.UPLOAD),
    (re.compile(r"/v2/(?P<repository>.+)/blobs/(?P<reference>[^/]+)\Z"), RouteKind.BLOB),
)


def parse_path(path: str) -> Route | None:
    """The route of a percent-decoded `path` without its query; None when the API has no such path."""
    for pattern, kind in _ROUTES:
        match = pattern.match(path)
        if match:
            parts = match.groupdict()
            return Route(kind, parts.get("repository", ""), parts.get("reference", ""))
    return None


def base_path() -> str:
    return "/v2/"


def catalog_path(*, limit: int | None = None, last: str = "") -> str:
    return "/v2/_catalog" + _page_query(limit, last)


def tags_path(repository: str, *, limit: int | None = None, last: str = "") -> str:
    return f"/v2/{repository}/tags/list" + _page_query(limit, last)


def manifest_path(repository: str, reference: str) -> str:
    """`reference`: a tag or a digest."""
    return f"/v2/{repository}/manifests/{quote(reference, safe=':')}"


def blob_path(repository: str, digest: str) -> str:
    return f"/v2/{repository}/blobs/{digest}"


def uploads_path(repository: str, *, mount: str = "", source: str = "", digest: str = "") -> str:
    """Where an upload starts: `mount` with `source` asks for a mount, `digest` for an upload in one POST."""
    query = {"mount": mount, "from": source, "digest": digest}
    present = {key: value for key, value in query.items() if value}
    return f"/v2/{repository}/blobs/uploads/" + (f"?{urlencode(present, safe=':/')}" if present else "")


def upload_path(repository: str, upload_id: str) -> str:
    return f"/v2/{repository}/blobs/uploads/{quote(upload_id, safe='')}"


def referrers_path(
    repository: str, digest: str, artifact_type: str | None = None, *, limit: int | None = None, last: str = ""
) -> str:
    """`artifact_type`: only referrers of that type, which may be empty; None for all."""
    query: dict[str, Any] = {} if artifact_type is None else {"artifactType": artifact_type}
    if limit is not None:
        query |= {"n": limit, "last": last}
    return f"/v2/{repository}/referrers/{digest}" + (f"?{urlencode(query, safe=':')}" if query else "")


def _page_query(limit: int | None, last: str) -> str:
    query: dict[str, Any] = {}
    if limit is not None:
        query["n"] = limit
    if last:
        query["last"] = last
    return f"?{urlencode(query, safe='/')}" if query else ""


# --- Errors ---------------------------------------------------------------------------------------------------


class ErrorCode(NamedTuple):
    """The message that a code has by default, and the HTTP status that it travels with."""

    message: str
    status: int


ERROR_CODES: Mapping[str, ErrorCode] = {
    "BLOB_UNKNOWN": ErrorCode("blob unknown to registry", 404),
    "BLOB_UPLOAD_INVALID": ErrorCode("blob upload invalid", 400),
    "BLOB_UPLOAD_UNKNOWN": ErrorCode("blob upload unknown to registry", 404),
    "DIGEST_INVALID": ErrorCode("provided digest did not match uploaded content", 400),
    "MANIFEST_BLOB_UNKNOWN": ErrorCode("manifest references a manifest or blob unknown to registry", 400),
    "MANIFEST_INVALID": ErrorCode("manifest invalid", 400),
    "MANIFEST_UNKNOWN": ErrorCode("manifest unknown to registry", 404),
    "NAME_INVALID": ErrorCode("invalid repository name", 400),
    "NAME_UNKNOWN": ErrorCode("repository name not known to registry", 404),
    "PAGINATION_NUMBER_INVALID": ErrorCode("invalid number of results requested", 400),
    "RANGE_INVALID": ErrorCode("invalid content range", 416),
    "SIZE_INVALID": ErrorCode("provided length did not match content length", 400),
    "TAG_INVALID": ErrorCode("invalid tag name", 400),
    "UNAUTHORIZED": ErrorCode("authentication required", 401),
    "DENIED": ErrorCode("requested access to the resource is denied", 403),
    "UNSUPPORTED": ErrorCode("the operation is unsupported", 405),
    "TOOMANYREQUESTS": ErrorCode("too many requests", 429),
    "UNAVAILABLE": ErrorCode("service unavailable", 503),
    "UNKNOWN": ErrorCode("unknown error", 500),
}
"""Code -> default message and status (distribution-spec, "Error Codes", with what registries add to it)."""


class WireError(NamedTuple):
    """One error of an error body."""

    code: str
    message: str = ""
    detail: Any = None

    def __str__(self) -> str:
        return f"{self.code.lower().replace('_', ' ')}: {self.message}" if self.message else self.code.lower()


def wire_error(code: str, message: str = "", detail: Any = None) -> WireError:
    """An error with the code's default message when `message` is empty."""
    return WireError(code, message or ERROR_CODES[code].message, detail)


def format_errors(errors: Iterable[WireError]) -> bytes:
    """The JSON body that says `errors` (distribution-spec, "Error Codes")."""
    return json.dumps({"errors": [_error_json(error) for error in errors]}).encode()


def parse_errors(body: bytes) -> tuple[WireError, ...]:
    """The errors said in `body`; empty when it is no error body. Also reads token servers' plainer forms."""
    try:
        document = json.loads(body)
    except ValueError:
        return ()
    if not isinstance(document, dict):
        return ()
    listed = document.get("errors")
    if isinstance(listed, list):
        return tuple(_parse_error(entry) for entry in listed if isinstance(entry, dict))
    plain = next((document[key] for key in _PLAIN_ERROR_KEYS if isinstance(document.get(key), str)), "")
    return (WireError("UNKNOWN", plain),) if plain else ()


_PLAIN_ERROR_KEYS = ("error_description", "details", "message", "detail", "error")


def _error_json(error: WireError) -> dict[str, Any]:
    document: dict[str, Any] = {"code": error.code, "message": error.message}
    return document if error.detail is None else {**document, "detail": error.detail}


def _parse_error(document: Mapping[str, Any]) -> WireError:
    return WireError(
        str(document.get("code") or "UNKNOWN"), str(document.get("message") or ""), document.get("detail")
    )


# --- Authentication -------------------------------------------------------------------------------------------


class Challenge(NamedTuple):
    """One challenge of a WWW-Authenticate header; `scheme` and parameter names in lower case."""

    scheme: str
    parameters: Mapping[str, str]

    @property
    def realm(self) -> str:
        return self.parameters.get("realm", "")

    @property
    def service(self) -> str:
        return self.parameters.get("service", "")

    @property
    def scopes(self) -> tuple[str, ...]:
        return tuple(self.parameters.get("scope", "").split())


_PARAMETER = r'(?P<name>[\w!#$%&\'*+.^`|~-]+)\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<token>[^\s,"]+))'
_CHALLENGE_PART = re.compile(rf"\s*(?:(?:{_PARAMETER})|(?P<scheme>[\w!#$%&'*+.^`|~-]+))\s*,?")


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """The challenges of a WWW-Authenticate `header` (RFC 7235, section 4.1); what cannot be read ends it."""
    found: list[tuple[str, dict[str, str]]] = []
    position = 0
    while position < len(header):
        match = _CHALLENGE_PART.match(header, position)
        if match is None or match.end() == position:
            break
        position = match.end()
        if match["scheme"] is not None:
            found.append((match["scheme"].lower(), {}))
        elif found:
            value = match["token"] if match["quoted"] is None else re.sub(r"\\(.)", r"\1", match["quoted"])
            found[-1][1][match["name"].lower()] = value
    return tuple(Challenge(scheme, parameters) for scheme, parameters in found)


def format_challenge(challenge: Challenge) -> str:
    """The WWW-Authenticate header of one challenge."""
    parts = [f'{name}="{_escape(value)}"' for name, value in challenge.parameters.items() if value]
    return f"{challenge.scheme.capitalize()} {','.join(parts)}".rstrip()


def bearer_challenge(realm: str, service: str, scopes: Iterable["Scope"] = (), error: str = "") -> str:
    """A registry's demand for a token. `realm`: the token server's URL; `error`: why an earlier token failed."""
    scope = " ".join(str(scope) for scope in scopes)
    return format_challenge(Challenge("bearer", {"realm": realm, "service": service, "scope": scope, "error": error}))


def basic_challenge(realm: str) -> str:
    return format_challenge(Challenge("basic", {"realm": realm}))


def format_basic(username: str, password: str) -> str:
    """The Authorization header of a user (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def parse_basic(header: str) -> tuple[str, str] | None:
    """User and password of a Basic Authorization `header`; None when it is none."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        username, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (username, password) if colon else None


def parse_bearer(header: str) -> str | None:
    """The token of a Bearer Authorization `header`; None when it is none."""
    scheme, _, token = header.partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


class Scope(NamedTuple):
    """What a token allows: `repository:alice/app:pull,push` or `registry:catalog:*`."""

    type: str
    name: str
    actions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.type}:{self.name}:{','.join(self.actions)}"


def repository_scope(repository: str, *actions: str) -> Scope:
    return Scope("repository", repository, actions)


CATALOG_SCOPE = Scope("registry", "catalog", ("*",))


def parse_scope(text: str) -> Scope | None:
    """The scope in `text`; None when it has no three parts. Names may hold colons (`host:5000/app`)."""
    kind, colon, rest = text.partition(":")
    name, second, actions = rest.rpartition(":")
    if not (colon and second and kind and name):
        return None
    return Scope(kind, name, tuple(action for action in actions.split(",") if action))


def parse_scopes(text: str) -> tuple[Scope, ...]:
    """The scopes of a space-separated list; malformed ones are left out."""
    return tuple(scope for scope in map(parse_scope, text.split()) if scope)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


# --- Ranges and links -----------------------------------------------------------------------------------------


class RangeNotSatisfiable(UserMistake):
    """A byte range that lies outside the content: HTTP status 416. `size`: the content's size in bytes."""

    def __init__(self, header: str, size: int) -> None:
        super().__init__(f"range {header!r} lies outside of {size} bytes")
        self.size = size


class ByteRange(NamedTuple):
    """Bytes from `start` up to `end`, not included."""

    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start


_UPLOAD_RANGE = re.compile(r"(?:bytes[= ])?\s*(\d+)-(\d+)(?:/(?:\d+|\*))?\Z")
_BYTE_RANGE = re.compile(r"bytes=\s*(\d*)\s*-\s*(\d*)\s*\Z")
_CONTENT_RANGE = re.compile(r"bytes\s+(\d+)-(\d+)/(\d+|\*)\Z")
_LINK = re.compile(r'<([^>]*)>((?:\s*;\s*[\w*-]+\s*=\s*(?:"[^"]*"|[^\s;,"]+))*)')
_LINK_REL = re.compile(r'rel\s*=\s*"?([^";]+)"?', re.IGNORECASE)


def parse_upload_range(header: str) -> ByteRange | None:
    """The range `0-99` of an upload's Range or Content-Range; None when malformed. `0-0` is one byte."""
    match = _UPLOAD_RANGE.match(header.strip())
    if match is None or int(match[2]) < int(match[1]):
        return None
    return ByteRange(int(match[1]), int(match[2]) + 1)


def format_upload_range(start: int, end: int) -> str:
    """Bytes from `start` up to `end`, not included. An empty upload is `0-0`, as registries write it."""
    return f"{start}-{max(end - 1, start)}"


def parse_byte_range(header: str, size: int) -> ByteRange | None:
    """What a GET's Range `header` asks of content of `size` bytes (RFC 9110, section 14.1.2).

    None when there is nothing to honour (malformed, another unit, several ranges): the answer is the whole
    content with status 200. Raises RangeNotSatisfiable when it starts beyond the end.
    """
    match = _BYTE_RANGE.match(header.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        start, end = max(size - int(match[2]), 0), size
    else:
        start = int(match[1])
        end = min(int(match[2]) + 1, size) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    if start >= size or start >= end:
        raise RangeNotSatisfiable(header, size)
    return ByteRange(start, end)


def format_byte_range(start: int, end: int | None = None) -> str:
    """The Range header for bytes from `start` up to `end`, not included; None is the content's end."""
    return f"bytes={start}-{'' if end is None else end - 1}"


def parse_content_range(header: str) -> tuple[ByteRange, int | None] | None:
    """The range and the whole size (None when unsaid) of a Content-Range `header`; None when malformed."""
    match = _CONTENT_RANGE.match(header.strip())
    if match is None or int(match[2]) < int(match[1]):
        return None
    return ByteRange(int(match[1]), int(match[2]) + 1), None if match[3] == "*" else int(match[3])


def format_content_range(byte_range: ByteRange, size: int) -> str:
    return f"bytes {byte_range.start}-{byte_range.end - 1}/{size}"


def format_unsatisfied_range(size: int) -> str:
    """The Content-Range of a 416 answer."""
    return f"bytes */{size}"


def parse_links(header: str) -> dict[str, str]:
    """Relation -> URL of a Link `header` (RFC 8288)."""
    links: dict[str, str] = {}
    for url, parameters in _LINK.findall(header):
        relation = _LINK_REL.search(parameters)
        if relation:
            links.update(dict.fromkeys(relation[1].lower().split(), url))
    return links


def format_next_link(url: str) -> str:
    """The Link header that names the next page."""
    return f'<{url}>; rel="next"'
