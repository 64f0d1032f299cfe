"""The JSON of the REST interface, as JSON Schema (draft 2020-12): requests are checked by it, answers tested."""

from typing import Any

from moldar.hub.access.decisions import ACTIONS
from moldar.hub.registry.events import DELIVERED, EVENTS, FAILED, PING, WAITING
from moldar.hub.registry.repositories import DESCRIPTION_LIMIT
from moldar.hub.rest.checking import Schema
from moldar.hub.webhooks.hooks import SECRET_LIMIT
from moldar.hub.webhooks.targets import URL_LIMIT

NO_CONTROLS = r"^[^\u0000-\u001f\u007f]*$"
_NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
REPOSITORY = rf"^{_NAME}(/{_NAME})*$"
PATTERN = rf"^(\*|{_NAME}(/{_NAME})*(/\*)?)$"
PLACE = rf"^{_NAME}(/\*|(/{_NAME})*)$"

BOOLEAN: Schema = {"type": "boolean"}
INTEGER: Schema = {"type": "integer", "minimum": 0}
TEXT: Schema = {"type": "string"}
TIME: Schema = {"type": "string", "format": "date-time"}
TIME_OR_NULL: Schema = {"type": ["string", "null"], "format": "date-time"}
ACTION_LIST: Schema = {
    "type": "array",
    "items": {"type": "string", "enum": list(ACTIONS)},
    "minItems": 1,
    "maxItems": len(ACTIONS),
    "uniqueItems": True,
}
EVENT_LIST: Schema = {
    "type": "array",
    "items": {"type": "string", "enum": list(EVENTS)},
    "minItems": 1,
    "maxItems": len(EVENTS),
    "uniqueItems": True,
}
PATTERN_LIST: Schema = {
    "type": "array",
    "items": {"type": "string", "pattern": PATTERN, "maxLength": 255},
    "maxItems": 20,
}


def record(**properties: Schema) -> dict[str, Any]:
    """An object with exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def change(*required: str, **properties: Schema) -> dict[str, Any]:
    """A request's object: `required` ones must be there, others may."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def pages_of(name: str) -> dict[str, Any]:
    """A page of a list of `name`."""
    return record(items={"type": "array", "items": reference(name)}, page=INTEGER, per_page=INTEGER, has_more=BOOLEAN)


def reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_HOST = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,250}[A-Za-z0-9])?"
_PORT = r"(:(6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}))?"
_URL: Schema = {
    "type": "string",
    "pattern": rf"^https?://{_HOST}{_PORT}([/?][!$-;=?-Z\[\]_a-z~]*)?$",
    "maxLength": URL_LIMIT,
}
_SECRET: Schema = {"type": "string", "minLength": 1, "maxLength": SECRET_LIMIT, "pattern": r"^[ -~]+$"}
_GRANT = record(repositories={"type": "string"}, actions=ACTION_LIST)
_TOKEN: dict[str, Schema] = {
    "id": INTEGER,
    "name": TEXT,
    "hint": TEXT,
    "actions": ACTION_LIST,
    "repositories": PATTERN_LIST,
    "created": TIME,
    "expires": TIME_OR_NULL,
    "last_used": TIME_OR_NULL,
}
_WEBHOOK: dict[str, Schema] = {
    "id": INTEGER,
    "place": TEXT,
    "url": TEXT,
    "events": EVENT_LIST,
    "is_active": BOOLEAN,
    "created": TIME,
}

SCHEMAS: dict[str, Schema] = {
    "Problem": record(type=TEXT, title=TEXT, status=INTEGER, detail=TEXT, code=TEXT),
    "Me": record(
        name=TEXT,
        is_admin=BOOLEAN,
        created=TIME,
        token={"type": ["integer", "null"]},
        grants={"type": ["array", "null"], "items": _GRANT},
    ),
    "Repository": record(
        name=TEXT,
        is_public=BOOLEAN,
        description=TEXT,
        created=TIME,
        pushed=TIME_OR_NULL,
        tags=INTEGER,
        stars=INTEGER,
        pulls=INTEGER,
    ),
    "Repositories": pages_of("Repository"),
    "Tag": record(name=TEXT, digest=TEXT, media_type=TEXT, size=INTEGER, updated=TIME),
    "Tags": pages_of("Tag"),
    "Star": record(is_starred=BOOLEAN, stars=INTEGER),
    "Token": record(**_TOKEN),
    "NewToken": record(**_TOKEN, secret=TEXT),
    "Tokens": record(items={"type": "array", "items": reference("Token")}),
    "Webhook": record(**_WEBHOOK),
    "NewWebhook": record(**_WEBHOOK, secret=TEXT),
    "Webhooks": pages_of("Webhook"),
    "Delivery": record(
        id=TEXT,
        event={"type": "string", "enum": [*EVENTS, PING]},
        state={"type": "string", "enum": [WAITING, DELIVERED, FAILED]},
        created=TIME,
        due=TIME_OR_NULL,
        attempts=INTEGER,
        status=INTEGER,
        error=TEXT,
        milliseconds=INTEGER,
    ),
    "Deliveries": record(items={"type": "array", "items": reference("Delivery")}),
    "Sent": record(delivery=TEXT),
    "Garbage": record(
        uploads=INTEGER,
        holds=INTEGER,
        blobs=INTEGER,
        size=INTEGER,
        strays=INTEGER,
        tags=INTEGER,
        manifests=INTEGER,
        seconds={"type": "number"},
        dry_run=BOOLEAN,
    ),
}

CHANGE_REPOSITORY: Schema = {
    **change(
        is_public=BOOLEAN,
        description={"type": "string", "maxLength": DESCRIPTION_LIMIT, "pattern": NO_CONTROLS},
    ),
    "minProperties": 1,
}
NEW_TOKEN = change(
    "name",
    "actions",
    name={"type": "string", "minLength": 1, "maxLength": 100, "pattern": r"^[!-~]([ -~]*[!-~])?$"},
    actions=ACTION_LIST,
    repositories=PATTERN_LIST,
    days={"type": ["integer", "null"], "minimum": 1, "maximum": 3650},
)
NEW_WEBHOOK = change(
    "place",
    "url",
    place={"type": "string", "pattern": PLACE, "maxLength": 255},
    url=_URL,
    events=EVENT_LIST,
    secret=_SECRET,
)
CHANGE_WEBHOOK: Schema = {
    **change(url=_URL, events=EVENT_LIST, secret=_SECRET, is_active=BOOLEAN),
    "minProperties": 1,
}
COLLECT = change(dry_run=BOOLEAN)
