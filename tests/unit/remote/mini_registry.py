"""A small registry in this process that follows the specification until a test tells it to misbehave."""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from moldar.remote.wire import bearer_challenge, parse_path, parse_scope, wire_error


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.registry = MiniRegistry(address=f"127.0.0.1:{self.server_address[1]}")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are part of the tests; anything else shows as a failed request there."""


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class MiniRegistry:
    """Content and switches. Blobs are kept per repository, as mounts need it."""

    address: str = ""
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    # How to misbehave.
    users: dict[str, str] | None = None  # ask for tokens
    basic: dict[str, str] | None = None  # ask for Basic
    refresh_token: str = ""
    token_answer: bytes = b""  # instead of a token
    token_seconds: int = 300
    revoked: set[str] = field(default_factory=set)
    drops: list[int] = field(default_factory=list)  # end the next blob answers after so many bytes
    ignore_range: bool = False
    wrong_range: bool = False
    redirect_blobs: str = ""  # base URL of another server
    failures: list[tuple[str, int, str]] = field(
        default_factory=list
    )  # (start of "METHOD path", status, Retry-After)
    failure_body: bytes = b""
    failure_location: str = ""
    wrong_digest_header: str = ""
    most_put: int = 0  # 413 for larger PUTs
    break_puts: int = 0  # end so many PUT connections without an answer
    forget_chunks: int = 0  # keep only half of so many PATCHes
    absolute: bool = True  # Locations with a host
    mounts: bool = True
    page: int = 0
    link: str = ""  # instead of the right next page
    upload_location: str = ""  # instead of the right one
    overlong: bytes = b""
    scopes_granted: list[list[str]] = field(default_factory=list)

    def put(self, repository: str, content: bytes) -> str:
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        self.blobs[repository, digest] = content
        return digest

    def requests(self, method: str, part: str = "") -> list[Seen]:
        return [seen for seen in self.seen if seen.method == method and part in seen.path]


class Handler(BaseHTTPRequestHandler):
    """One request; `server.registry` holds the state."""

    protocol_version = "HTTP/1.1"

    @property
    def registry(self) -> MiniRegistry:
        return self.server.registry  # type: ignore[attr-defined,no-any-return]

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self.handle_any
        raise AttributeError(name)

    def handle_any(self) -> None:
        registry = self.registry
        registry.seen.append(Seen(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if self.command == "PUT" and registry.break_puts:
            registry.break_puts -= 1
            self.close_connection = True
            return
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) != length:
            self.close_connection = True
            return
        for failure in registry.failures:
            if f"{self.command} {self.path}".startswith(failure[0]):
                registry.failures.remove(failure)
                self.answer(
                    failure[1], registry.failure_body, headers={"Retry-After": failure[2]} if failure[2] else {}
                )
                return
        if url.path == "/token":
            self.token(url.query, body)
            return
        route = parse_path(url.path)
        if route is None:
            self.fail("UNSUPPORTED", 404)
        elif self.allowed(route.repository):
            getattr(self, f"on_{route.kind.value}")(route.repository, route.reference, query, body)

    def allowed(self, repository: str) -> bool:
        registry, shown = self.registry, self.headers.get("Authorization", "")
        actions = "pull" if self.command in ("GET", "HEAD") else "pull,push"
        if registry.basic is not None:
            good = [
                "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
                for user, password in registry.basic.items()
            ]
            if shown in good:
                return True
            self.fail("UNAUTHORIZED", 401, {"WWW-Authenticate": 'Basic realm="mini"'})
            return False
        if registry.users is None:
            return True
        token = shown.removeprefix("Bearer ")
        granted = json.loads(base64.b64decode(token)) if shown.startswith("Bearer ") else None
        needed = f"repository:{repository}:{actions}" if repository else ""
        if (
            granted is not None
            and token not in registry.revoked
            and all(_grants(granted, repository, action) for action in actions.split(",") if repository)
        ):
            return True
        scope = parse_scope(needed)
        challenge = bearer_challenge(f"http://{registry.address}/token", "mini", [scope] if scope else [])
        self.fail("UNAUTHORIZED", 401, {"WWW-Authenticate": challenge})
        return False

    def token(self, query: str, body: bytes) -> None:
        registry = self.registry
        fields = parse_qs(body.decode() or query)
        scopes = [scope for value in fields.get("scope", []) for scope in value.split()]
        shown = self.headers.get("Authorization", "")
        known = False
        if self.command == "POST":
            known = fields.get("refresh_token") == [registry.refresh_token]
        elif shown:
            user, _, password = base64.b64decode(shown.removeprefix("Basic ")).decode().partition(":")
            known = (registry.users or {}).get(user) == password
        if not known and (shown or self.command == "POST"):
            self.answer(401, b'{"details":"incorrect username or password"}')
            return
        granted = scopes if known else [scope.replace(",push", "") for scope in scopes if "private" not in scope]
        registry.scopes_granted.append(granted)
        if registry.token_answer:
            self.answer(200, registry.token_answer)
            return
        token = base64.b64encode(json.dumps([*granted, len(registry.scopes_granted)]).encode()).decode()
        self.answer(200, json.dumps({"token": token, "expires_in": registry.token_seconds}).encode())

    def on_base(self, repository: str, reference: str, query: dict[str, str], body: bytes) -> None:
        self.answer(200, b"{}")

    def on_catalog(self, repository: str, reference: str, query: dict[str, str], body: bytes) -> None:
        self.list("repositories", sorted({name for name, _ in self.registry.manifests}), "/v2/_catalog", query)

    def on_tags(self, repository: str, reference: str, query: dict[str, str], body: bytes) -> None:
        tags = sorted(tag for name, tag in self.registry.manifests if name == repository and ":" not in tag)
        self.list("tags", tags, f"/v2/{repository}/tags/list", query)

    def list(self, key: str, names: list[str], path: str, query: dict[str, str]) -> None:
        names = [name for name in names if name > query.get("last", "")]
        size = self.registry.page or len(names)
        headers = {}
        if len(names) > size:
            headers["Link"] = self.registry.link or f'<{path}?n={size}&last={names[size - 1]}>; rel="next"'
        self.answer(200, json.dumps({key: names[:size]}).encode(), headers)

    def on_manifest(self, repository: str, reference: str, query: dict[str, str], body: bytes) -> None:
        registry = self.registry
        if self.command == "PUT":
            digest = "sha256:" + hashlib.sha256(body).hexdigest()
            for name in (reference, digest):
                registry.manifests[repository, name] = (self.headers["Content-Type"], body)
            self.answer(201, headers={"Docker-Content-Digest": registry.wrong_digest_header or digest})
            return
        found = registry.manifests.get((repository, reference))
        if found is None:
            self.fail("MANIFEST_UNKNOWN", 404)
        elif self.command == "DELETE":
            del registry.manifests[repository, reference]
            self.answer(202)
        else:
            headers = {"Content-Type": found[0]}
            if registry.wrong_digest_header:
                headers["Docker-Content-Digest"] = registry.wrong_digest_header
            self.answer(200, found[1], headers)

    def on_blob(self, repository: str, reference: str, query: dict[str, str], body: bytes) -> None:
        registry = self.registry
        content = registry.blobs.get((repository, reference))
        if content is None:
            self.fail("BLOB_UNKNOWN", 404)
        elif registry.redirect_blobs:
            self.answer(307, headers={"Location": registry.redirect_blobs + self.path})
        else:
            self.serve(content + registry.overlong)

    def serve(self, content: bytes) -> None:
        registry, start = self.registry, 0
        asked = self.headers.get("Range", "")
        status, headers = 200, {"ETag": '"e1"'}
        if asked and not registry.ignore_range:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.answer(416)
                return
            status = 206
            shown = 0 if registry.wrong_range else start
            headers["Content-Range"] = f"bytes {shown}-{len(content) - 1}/{len(content)}"
        piece = content[start:]
        if self.command == "GET" and registry.drops:
            kept = registry.drops.pop(0)
            self.begin(status, {**headers, "Content-Length": str(len(piece))})
            self.wfile.write(piece[:kept])
            self.close_connection = True
            return
        self.answer(status, piece, headers)

    def on_uploads(self, repository: str, reference: str, query: dict[str, str], body: bytes) -> None:
        registry = self.registry
        mount, source = query.get("mount", ""), query.get("from", "")
        if mount and registry.mounts and (source, mount) in registry.blobs:
            registry.blobs[repository, mount] = registry.blobs[source, mount]
            self.answer(201, headers={"Location": f"/v2/{repository}/blobs/{mount}"})
            return
        upload = f"u{len(registry.uploads)}"
        registry.uploads[upload] = bytearray()
        self.answer(202, headers={"Location": self.location(repository, upload), "Range": "0-0"})

    def on_upload(self, repository: str, reference: str, query: dict[str, str], body: bytes) -> None:
        registry = self.registry
        upload = registry.uploads.get(reference)
        assert query.get("state") == "a=b", "the query of a Location must come back as it was"
        if upload is None:
            self.fail("BLOB_UPLOAD_UNKNOWN", 404)
        elif self.command == "GET":
            self.answer(204, headers={"Range": f"0-{len(upload) - 1}"})
        elif self.command == "PATCH":
            self.patch(repository, reference, upload, body)
        elif registry.most_put and len(body) > registry.most_put:
            self.answer(413)
        else:
            content = bytes(upload) + body
            if "sha256:" + hashlib.sha256(content).hexdigest() != query["digest"]:
                self.fail("DIGEST_INVALID", 400)
                return
            del registry.uploads[reference]
            registry.put(repository, content)
            self.answer(201)

    def patch(self, repository: str, reference: str, upload: bytearray, body: bytes) -> None:
        registry = self.registry
        headers = {"Location": self.location(repository, reference)}
        if int(self.headers["Content-Range"].partition("-")[0]) != len(upload):
            self.answer(416, headers={**headers, "Range": f"0-{len(upload) - 1}"})
            return
        if registry.forget_chunks:
            registry.forget_chunks -= 1
            body = body[: len(body) // 2]
        upload += body
        self.answer(202, headers={**headers, "Range": f"0-{len(upload) - 1}"})

    def location(self, repository: str, upload: str) -> str:
        if self.registry.upload_location:
            return self.registry.upload_location
        path = f"/v2/{repository}/blobs/uploads/{upload}?state=a%3Db"
        return f"http://{self.registry.address}{path}" if self.registry.absolute else path

    def fail(self, code: str, status: int, headers: dict[str, str] | None = None) -> None:
        error = wire_error(code)
        body = json.dumps({"errors": [{"code": error.code, "message": error.message}]}).encode()
        self.answer(status, body, headers)

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        headers = dict(headers or {})
        if status != 204:
            headers["Content-Length"] = str(len(body))
        self.begin(status, headers)
        if self.command != "HEAD":
            self.wfile.write(body)

    def begin(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _present(retry_after: str, location: str) -> dict[str, str]:
    headers = {"Retry-After": retry_after, "Location": location}
    return {name: value for name, value in headers.items() if value}


def _grants(granted: list[Any], repository: str, action: str) -> bool:
    scopes = [scope for scope in (parse_scope(text) for text in granted if isinstance(text, str)) if scope]
    return any(scope.name == repository and action in scope.actions for scope in scopes)
