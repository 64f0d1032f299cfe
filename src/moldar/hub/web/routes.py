"""The pages' routes, their static files, and what a browser gets for an unknown address."""

import os

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from moldar.hub.authentication import Authenticator
from moldar.hub.web.accounts import AccountPages
from moldar.hub.web.desk import Desk
from moldar.hub.web.pages import HERE, SECURITY_HEADERS, Pages
from moldar.hub.web.repositories import RepositoryPages
from moldar.hub.web.settings_routes import settings_routes

_KEEP = "public, max-age=31536000, immutable"


def web_routes(pages: Pages, authenticator: Authenticator) -> list[BaseRoute]:
    """All routes of the pages; the last one takes what no other does."""
    hub = pages.hub
    desk = Desk(pages)
    accounts = AccountPages(desk, authenticator)
    repositories = RepositoryPages(pages)
    assets = frozenset(os.listdir(os.path.join(HERE, "static")))

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in assets:
            return pages.not_found(pages.visit(request))
        headers = {**SECURITY_HEADERS, "Cache-Control": _KEEP}
        return FileResponse(os.path.join(HERE, "static", name), headers=headers)

    async def health(_request: Request) -> Response:
        await hub.in_thread(hub.accounts.count)
        return PlainTextResponse("ok\n")

    async def unknown(request: Request) -> Response:
        return pages.not_found(pages.visit(request))

    both = ["GET", "POST"]
    return [
        Route("/", repositories.home),
        Route("/sign-up", accounts.sign_up, methods=both),
        Route("/sign-in", accounts.sign_in, methods=both),
        Route("/sign-out", accounts.sign_out, methods=["POST"]),
        Route("/settings/tokens", accounts.tokens, methods=both),
        Route("/settings/tokens/{number:int}/revoke", accounts.revoke, methods=["POST"]),
        *settings_routes(desk),
        Route("/u/{name}", repositories.profile),
        Route("/r/{name:path}", repositories.repository, methods=both),
        Route("/static/{name}", static),
        Route("/health", health),
        Route("/{path:path}", unknown),
    ]
