"""The hub as an ASGI application: the registry's routes straight to their own code, the rest to the pages."""

import asyncio
import contextlib
import logging
import traceback
from collections.abc import AsyncIterator, Callable

from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect

from moldar.errors import MoldarError
from moldar.hub.api.routes import TOKEN_PATH, RegistryApi
from moldar.hub.api.tokens import TokenEndpoint
from moldar.hub.authentication import Authenticator
from moldar.hub.exchange import Receive, Scope, Send
from moldar.hub.services import Hub
from moldar.hub.web.routes import web_routes

_FIRST_COLLECTION = 60.0
_FIGURES_SECONDS = 60
_LOG = logging.getLogger("moldar.hub")


class HubApp:
    """The whole hub. `hub` stays the caller's to close."""

    def __init__(self, hub: Hub) -> None:
        authenticator = Authenticator(hub)
        self._api = RegistryApi(hub, authenticator)
        self._tokens = TokenEndpoint(hub, authenticator)
        self._pages = Starlette(routes=web_routes(hub, authenticator), lifespan=_lifespan(hub, self._api))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            if path.startswith("/v2/") or path == "/v2":
                await self._api(scope, receive, send)
                return
            if path == TOKEN_PATH:
                await self._tokens(scope, receive, send)
                return
        try:
            await self._pages(scope, receive, send)
        except ClientDisconnect:
            return
        except Exception as error:  # the answer, status 500, is out already
            _LOG.error("%s: %s", scope.get("path", ""), "".join(traceback.format_exception(error)))


def _lifespan(hub: Hub, api: RegistryApi) -> Callable[[Starlette], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        await hub.in_thread(hub.blobs.expire_uploads, hub.settings.upload_lifetime)
        tasks = [asyncio.create_task(_collect_now_and_then(hub)), asyncio.create_task(_write_figures(hub))]
        yield
        for task in tasks:
            task.cancel()
        await api.close()
        await hub.in_thread(hub.figures.flush)

    return lifespan


async def _collect_now_and_then(hub: Hub) -> None:
    pause = hub.settings.gc_interval
    while pause > 0:
        await asyncio.sleep(min(pause, _FIRST_COLLECTION))
        try:
            found = await hub.in_thread(hub.collect_garbage)
        except Exception as error:  # a full disk, say: the next one may do better
            _LOG.error("garbage collection: %s", "".join(traceback.format_exception(error)))
        else:
            if not found.is_nothing:
                _LOG.info("garbage collection: %s", found)
        await asyncio.sleep(max(pause - _FIRST_COLLECTION, 0))


async def _write_figures(hub: Hub) -> None:
    while True:
        await asyncio.sleep(_FIGURES_SECONDS)
        try:
            await hub.in_thread(hub.figures.flush)
        except (MoldarError, SQLAlchemyError) as error:  # they are kept, and written with the next ones
            _LOG.error("cannot write figures: %s", error)


def create_app(hub: Hub) -> HubApp:
    """The ASGI application of `hub`."""
    return HubApp(hub)
