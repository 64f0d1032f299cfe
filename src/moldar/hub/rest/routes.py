"""The REST interface as an ASGI application: from a path to an operation, from a request to a checked call.

A repository's name has slashes. They may be written as %2F, as clients made from the description do; written as they
are, the longest operation that fits wins, so `…/alice/app/tags` are the tags of alice/app.
"""

import json
import logging
import traceback
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from moldar import __version__
from moldar.errors import NotFound, UserMistake
from moldar.hub.access.audit import Actor
from moldar.hub.authentication import Authenticator
from moldar.hub.exchange import PRINCIPAL, ROUTE, ClientGone, Exchange, Receive, Scope, Send
from moldar.hub.refusals import Refusal, refusal_for
from moldar.hub.rest.accounts import AccountOperations
from moldar.hub.rest.calls import JSON, PREFIX, Answer, Call, Operation
from moldar.hub.rest.checking import problem_with
from moldar.hub.rest.openapi import PROBLEM, document
from moldar.hub.rest.repositories import RepositoryOperations
from moldar.hub.rest.webhooks import WebhookOperations
from moldar.hub.services import Hub
from moldar.hub.settings import SERVICE
from moldar.remote.wire import basic_challenge

BODY_LIMIT = 64 * 1024
DESCRIPTION_PATH = f"{PREFIX}/openapi.json"
_SAFE = ("GET", "HEAD")
_HEADERS = {"Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'", "Vary": "Authorization"}
_LOG = logging.getLogger("moldar.hub")


class RestApi:
    """An ASGI application for `/api/v1/`."""

    def __init__(self, hub: Hub, authenticator: Authenticator) -> None:
        self._hub = hub
        self._authenticator = authenticator
        rooms = (RepositoryOperations(hub), AccountOperations(hub), WebhookOperations(hub))
        operations = [operation for room in rooms for operation in room.operations()]
        self._paths: dict[tuple[str, ...], dict[str, Operation]] = {}
        for operation in operations:
            self._paths.setdefault(_segments(operation.path), {})[operation.method] = operation
        self._templates = sorted(self._paths, key=len, reverse=True)
        self._description = json.dumps(document(operations, __version__)).encode()

    def routes(self) -> frozenset[tuple[str, str]]:
        """Method and path of every operation."""
        return frozenset((found.method, found.path) for methods in self._paths.values() for found in methods.values())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        try:
            if exchange.path == DESCRIPTION_PATH and exchange.method in _SAFE:
                scope[ROUTE] = DESCRIPTION_PATH
                await exchange.respond(200, {"Content-Type": JSON, **_HEADERS}, self._description)
                return
            answer = await self._answer(exchange)
        except ClientGone:
            return
        except Exception as error:
            known = _refusal(error)
            if known is None:
                _LOG.error("%s %s: %s", exchange.method, exchange.path, "".join(traceback.format_exception(error)))
            await _refuse(exchange, known or Refusal("UNKNOWN", "internal error", status=500))
        else:
            await _send(exchange, answer)

    async def _answer(self, exchange: Exchange) -> Answer:
        methods, names = self._find(exchange)
        operation = methods.get("GET" if exchange.method == "HEAD" else exchange.method)
        if operation is None:
            allow = ", ".join(sorted({*methods, *(("HEAD",) if "GET" in methods else ())}))
            raise Refusal("UNSUPPORTED", "no such method here", status=405, headers={"Allow": allow})
        exchange.scope[ROUTE] = operation.path
        if exchange.method not in _SAFE:
            _require_our_own(exchange)
        principal = await self._authenticator.of(exchange)
        exchange.scope[PRINCIPAL] = principal.name
        if operation.needs_account and principal.is_anonymous:
            raise Refusal("UNAUTHORIZED")
        query = _query(exchange, operation)
        body = await _body(exchange, operation) if operation.body is not None else None
        by = Actor(principal.name, exchange.address(self._hub.settings.external_url))
        return await operation.handler(Call(exchange, principal, names, query, body, by))

    def _find(self, exchange: Exchange) -> tuple[dict[str, Operation], dict[str, str]]:
        raw = exchange.scope.get("raw_path") or quote(exchange.path).encode()
        segments = _segments(raw.decode("latin-1").partition("?")[0])
        for template in self._templates:
            names = match(template, segments)
            if names is not None:
                return self._paths[template], names
        raise Refusal("NOT_FOUND", "no such path", status=404)


def match(template: tuple[str, ...], segments: tuple[str, ...]) -> dict[str, str] | None:
    """What `segments` (percent-encoded) are called by `template`; None when they do not fit.

    `{name}` takes any number of segments, but one alone when that holds an encoded slash.
    """
    extra = len(segments) - len(template)
    names: dict[str, str] = {}
    position = 0
    for part in template:
        width = 1 + extra if part == "{name}" else 1
        taken = segments[position : position + width]
        position += width
        if width < 1 or not all(taken) or (width > 1 and "%2f" in taken[0].lower()):
            return None
        if part.startswith("{"):
            names[part[1:-1]] = "/".join(unquote(text, errors="replace") for text in taken)
        elif taken != (part,):
            return None
    return names if position == len(segments) else None


def _segments(path: str) -> tuple[str, ...]:
    return tuple(path.split("/")[1:])


def _require_our_own(exchange: Exchange) -> None:
    """A browser that remembers a password must not spend it for another site's page."""
    origin = exchange.header(b"origin")
    foreign = origin and urlsplit(origin).netloc != exchange.header(b"host")
    if foreign or exchange.header(b"sec-fetch-site") in ("cross-site", "same-site"):
        raise Refusal("DENIED", "requests of other sites' pages are not taken")


def _query(exchange: Exchange, operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, schema in operation.query.items():
        values = exchange.query.get(name, [])
        if not values:
            if "default" in schema:
                found[name] = schema["default"]
            continue
        value: Any = values[0]
        if schema["type"] == "integer" and value.isascii() and value.isdigit() and len(value) < 10:
            value = int(value)
        problem = f"{name} must be given once" if len(values) > 1 else problem_with(value, schema, name)
        if problem:
            raise Refusal("INVALID", problem, status=400)
        found[name] = value
    return found


async def _body(exchange: Exchange, operation: Operation) -> Any:
    if exchange.header(b"content-type").partition(";")[0].strip().lower() != JSON:
        raise Refusal("INVALID", f"the body must be {JSON}", status=415)
    too_large = Refusal("INVALID", f"a body has at most {BODY_LIMIT} bytes", status=413)
    raw = await exchange.read(BODY_LIMIT, too_large)
    try:
        value = json.loads(raw, parse_constant=_no_constant, parse_float=_number)
    except (ValueError, RecursionError) as error:
        raise Refusal("INVALID", "the body is not JSON", status=400) from error
    problem = problem_with(value, operation.body or {}, "body")
    if problem:
        raise Refusal("INVALID", problem, status=400)
    return value


def _number(text: str) -> float:
    """JSON Schema takes 3.0 for an integer, so we do."""
    value = float(text)
    return int(value) if value.is_integer() else value


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _refusal(error: Exception) -> Refusal | None:
    if isinstance(error, NotFound):
        return Refusal("NOT_FOUND", error.message, status=404)
    if isinstance(error, UserMistake):
        return Refusal("INVALID", error.message, status=400)
    return refusal_for(error)


async def _send(exchange: Exchange, answer: Answer) -> None:
    headers = {**_HEADERS, **answer.headers}
    if answer.text is not None:
        await exchange.respond(answer.status, {"Content-Type": "text/plain; charset=utf-8", **headers}, answer.text)
    elif answer.document is None:
        await exchange.respond(answer.status, headers)
    else:
        body = json.dumps(answer.document).encode()
        await exchange.respond(answer.status, {"Content-Type": JSON, **headers}, body)


async def _refuse(exchange: Exchange, refusal: Refusal) -> None:
    """RFC 9457; `code` says it for programs, by the names of the distribution specification where it has one."""
    headers = {"Content-Type": PROBLEM, **_HEADERS, **refusal.headers}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = basic_challenge(SERVICE)
    title = HTTPStatus(refusal.status).phrase
    problem = {
        "type": "about:blank",
        "title": title,
        "status": refusal.status,
        "detail": refusal.message,
        "code": refusal.code,
    }
    await exchange.respond(refusal.status, headers, json.dumps(problem).encode())
