"""The OpenAPI 3.1 document of the REST interface, made from the operations themselves."""

import re
from collections.abc import Iterable
from typing import Any

from moldar.hub.rest.calls import JSON, Operation
from moldar.hub.rest.schemas import REPOSITORY, SCHEMAS, reference

PROBLEM = "application/problem+json"
_PARAMETERS: dict[str, dict[str, Any]] = {
    "name": {
        "description": "The repository's name; its slashes may be written as they are, or as %2F.",
        "schema": {"type": "string", "pattern": REPOSITORY, "maxLength": 255},
    },
    "tag": {"schema": {"type": "string", "pattern": r"^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$"}},
    "id": {"schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999}},
    "delivery": {"schema": {"type": "string", "format": "uuid"}},
}
_WHY = {
    400: "The request is malformed",
    401: "Credentials are missing or wrong",
    403: "The credentials do not allow this",
    404: "There is no such thing, or one may not see it",
    413: "The body is too large",
    415: "The body has another media type",
    429: "Too many failed attempts to sign in",
    507: "The hub has no space left",
}
_ALWAYS = (400, 401, 403, 404, 429)
_WRITING = (413, 415, 507)


def document(operations: Iterable[Operation], version: str) -> dict[str, Any]:
    """The description. `version`: of Moldar."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Moldar Hub",
            "version": version,
            "description": "Basic authentication with a password or personal access token, or the token as bearer.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _described(operation: Operation) -> dict[str, Any]:
    credentials: list[dict[str, list[str]]] = [{"basic": []}, {"bearer": []}]
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "security": credentials if operation.needs_account else [{}, *credentials],
        "responses": _responses(operation),
    }
    parameters = [
        {"name": name, "in": "path", "required": True, **_PARAMETERS[name]}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in operation.query.items()]
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": {JSON: {"schema": operation.body}}}
    if operation.takes_text:
        content: dict[str, Any] = {"text/markdown": {}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _responses(operation: Operation) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, schema in operation.answers.items():
        response: dict[str, Any] = {"description": "Done" if schema is None else "As asked"}
        if schema is not None:
            response["content"] = {"text/plain" if operation.gives_text else JSON: {"schema": schema}}
        if "page" in operation.query:
            link = {"description": "The next page (RFC 8288), when there is one", "schema": {"type": "string"}}
            response["headers"] = {"Link": link}
        responses[str(status)] = response
    writing = _WRITING if operation.method in ("POST", "PUT", "PATCH") else ()
    for status in sorted({*_ALWAYS, *writing, *operation.refusals}):
        responses[str(status)] = {
            "description": _WHY[status],
            "content": {PROBLEM: {"schema": reference("Problem")}},
        }
    return responses
