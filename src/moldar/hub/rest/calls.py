"""What the operations of the REST interface share: call, answer, paging, and how an operation is described."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from moldar.hub.access.audit import Actor
from moldar.hub.access.decisions import PULL, Principal, Verdict, decide, refusal
from moldar.hub.exchange import Exchange
from moldar.hub.refusals import Refusal
from moldar.hub.registry.repositories import Audience, Repository, audience_of
from moldar.hub.rest.checking import Schema
from moldar.hub.services import Hub
from moldar.remote.wire import valid_repository

PREFIX = "/api/v1"
JSON = "application/json"


class Call(NamedTuple):
    """A request whose parameters and body have been checked.

    `names`: what the path holds; `by`: who to name in the audit log.
    """

    exchange: Exchange
    principal: Principal
    names: Mapping[str, str]
    query: Mapping[str, Any]
    body: Any
    by: Actor


class Answer(NamedTuple):
    """`document` becomes JSON; `text` is sent as it is."""

    status: int
    document: Any = None
    text: bytes | None = None
    headers: Mapping[str, str] = {}


class Operation(NamedTuple):
    """One method of one path, as the description shows it and as requests are checked.

    `answers`: schema by status, None without a body; `refusals`: statuses of problems, besides those that any
    operation may give. `body`: the schema of a JSON body, or None; `takes_text`: the body is plain text.
    """

    method: str
    path: str
    name: str
    summary: str
    handler: Callable[[Call], Awaitable[Answer]]
    answers: Mapping[int, Schema | None]
    tag: str
    query: Mapping[str, Schema] = {}
    body: Schema | None = None
    needs_account: bool = True
    takes_text: bool = False
    gives_text: bool = False
    refusals: tuple[int, ...] = ()


PAGE_QUERY: Mapping[str, Schema] = {
    "page": {"type": "integer", "minimum": 1, "maximum": 100_000, "default": 1},
    "per_page": {"type": "integer", "minimum": 1, "maximum": 100, "default": 30},
}


def page(call: Call, found: list[Any], path: str) -> Answer:
    """A page of a list; `found` holds one more than a page when there is more. `path`: with its own query."""
    number, size = call.query["page"], call.query["per_page"]
    document = {"items": found[:size], "page": number, "per_page": size, "has_more": len(found) > size}
    headers = {}
    if len(found) > size:
        joint = "&" if "?" in path else "?"
        headers["Link"] = f'<{path}{joint}page={number + 1}&per_page={size}>; rel="next"'
    return Answer(200, document, headers=headers)


def bounds(call: Call) -> dict[str, int]:
    """Offset and limit for a page, with one entry more that tells whether another page follows."""
    return {"offset": (call.query["page"] - 1) * call.query["per_page"], "limit": call.query["per_page"] + 1}


def moment(seconds: int | None) -> str | None:
    """RFC 3339 in UTC."""
    return None if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def allowed(hub: Hub, call: Call, action: str = PULL) -> Repository:
    """The repository that the path names, in which the caller may do `action`; or the refusal of the decision."""
    name = call.names["name"]
    if not valid_repository(name):
        raise Refusal("NAME_INVALID")
    place, repository = hub.repositories.place(name)
    verdict = decide(call.principal, action, place, hub.policy)
    if verdict is not Verdict.ALLOWED:
        raise refusal(verdict, call.principal)
    if repository is None:
        raise Refusal("NAME_UNKNOWN")
    return repository


def audience(principal: Principal) -> Audience:
    """Whose repositories a list shows: with a limited token only public ones."""
    whole = principal.grants is None or any(g.pattern == "*" and PULL in g.actions for g in principal.grants)
    return audience_of(principal._replace(grants=None)) if whole else Audience()


def not_found(what: str) -> Refusal:
    return Refusal("NOT_FOUND", f"no such {what}", status=404)


def number(text: str) -> int:
    """A number from a path; one that names nothing when it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
