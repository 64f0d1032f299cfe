"""`/api/v1/repositories/<repository>/readme`: a README out (GET) and in (PUT), with a password or access token.

Reading needs the right to pull, writing the right to push; sessions of the pages do not count here.
"""

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from moldar.hub.access.audit import Actor
from moldar.hub.access.decisions import PULL, PUSH, Verdict, decide, refusal
from moldar.hub.authentication import Authenticator
from moldar.hub.exchange import client_address
from moldar.hub.refusals import Refusal, body_error, refusal_for
from moldar.hub.registry.readmes import README_LIMIT
from moldar.hub.registry.repositories import Repository
from moldar.hub.services import Hub
from moldar.hub.settings import SERVICE
from moldar.remote.wire import basic_challenge, format_errors, valid_repository


class ReadmeApi:
    """Handler of the route."""

    def __init__(self, hub: Hub, authenticator: Authenticator) -> None:
        self._hub = hub
        self._authenticator = authenticator

    async def handle(self, request: Request) -> Response:
        try:
            repository, by = await self._allowed(request, PUSH if request.method == "PUT" else PULL)
            if request.method == "PUT":
                await self._hub.in_thread(self._hub.readmes.put, repository.id, await _body(request), by=by)
                return Response(status_code=204)
            content = self._hub.readmes.get(repository.id)
            if not content:
                raise Refusal("NAME_UNKNOWN", "the repository has no README")
            headers = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'"}
            return PlainTextResponse(content.encode("utf-8", "replace"), headers=headers)
        except Exception as error:
            known = refusal_for(error)
            if known is None:
                raise
            headers = dict(known.headers)
            if known.status == 401:
                headers["WWW-Authenticate"] = basic_challenge(SERVICE)
            body = format_errors([body_error(known)])
            return Response(body, known.status, headers, media_type="application/json")

    async def _allowed(self, request: Request, action: str) -> tuple[Repository, Actor]:
        name = request.path_params["name"]
        if not valid_repository(name):
            raise Refusal("NAME_INVALID")
        header = request.headers.get("x-forwarded-for", "")
        address = client_address(request.scope, header, self._hub.settings.external_url)
        principal = await self._authenticator.principal(request.headers.get("authorization", ""), address)
        place, repository = self._hub.repositories.place(name)
        verdict = decide(principal, action, place, self._hub.policy)
        if verdict is not Verdict.ALLOWED:
            raise refusal(verdict, principal)
        if repository is None:
            raise Refusal("NAME_UNKNOWN")
        return repository, Actor(principal.name, address)


async def _body(request: Request) -> str:
    raw = b""
    async for data in request.stream():
        raw += data
        if len(raw) > README_LIMIT:
            raise Refusal("UNSUPPORTED", f"a README has at most {README_LIMIT} bytes", status=413)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Refusal("UNSUPPORTED", "a README is text in UTF-8", status=400) from error
