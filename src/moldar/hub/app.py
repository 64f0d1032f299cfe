"""The hub as an ASGI application: the registry's routes straight to their own code, the rest to the pages."""

import asyncio
import contextlib
import ipaddress
import logging
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from moldar.errors import MoldarError
from moldar.hub.api.routes import TOKEN_PATH, RegistryApi
from moldar.hub.api.tokens import TokenEndpoint
from moldar.hub.authentication import Authenticator
from moldar.hub.exchange import ROUTE, Receive, Scope, Send
from moldar.hub.monitoring import Monitoring
from moldar.hub.refusals import Unavailable
from moldar.hub.rest.calls import PREFIX
from moldar.hub.rest.routes import RestApi
from moldar.hub.services import Hub
from moldar.hub.waiting import Application, waiting_requests
from moldar.hub.web.pages import Pages
from moldar.hub.web.routes import web_routes

REST_PREFIX = PREFIX + "/"
_FIRST_COLLECTION = 60.0
_FIGURES_SECONDS = 60
_PRUNING_SECONDS = 3600
_LOG = logging.getLogger("moldar.hub")


class HubApp:
    """The whole hub. `hub` stays the caller's to close."""

    def __init__(self, hub: Hub) -> None:
        authenticator = Authenticator(hub)
        self._api = RegistryApi(hub, authenticator)
        self._tokens = TokenEndpoint(hub, authenticator)
        self._rest = RestApi(hub, authenticator)
        self._monitoring = Monitoring(hub, authenticator)
        pages = Pages(hub)
        routes = web_routes(pages, authenticator)
        handlers = {Unavailable: _outage(pages)}
        self._pages = Starlette(routes=routes, lifespan=_lifespan(hub, self._api), exception_handlers=handlers)
        self._metrics = hub.metrics
        self._silence = hub.settings.body_silence
        self._patterns = {route.endpoint: route.path for route in routes if isinstance(route, Route)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._pages(scope, receive, send)
            return
        if scope["method"] not in ("GET", "HEAD"):
            receive = _while_it_speaks(receive, self._silence)
        path = scope["path"]
        if path.startswith("/v2/") or path == "/v2":
            await self._api(scope, receive, send)
            return
        await self._counted(scope, receive, send)

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Everything but the registry, which counts its requests by itself."""
        status = sent = received = 0
        started = time.perf_counter()

        async def sending(message: MutableMapping[str, Any]) -> None:
            nonlocal status, sent
            status = message.get("status", status)
            sent += len(message.get("body", b""))
            await send(message)

        async def receiving() -> MutableMapping[str, Any]:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        try:
            await self._answer(scope, receiving, sending)
        finally:
            seconds = time.perf_counter() - started
            self._metrics.answered(scope.get(ROUTE, "other"), scope["method"], status, seconds, (received, sent))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path.startswith(REST_PREFIX):
            await self._rest(scope, receive, send)
            return
        if path == TOKEN_PATH or path in self._monitoring.paths:
            scope[ROUTE] = path
            await (self._tokens if path == TOKEN_PATH else self._monitoring)(scope, receive, send)
            return
        try:
            await self._pages(scope, receive, send)
        except ClientDisconnect:
            return
        except Exception as error:  # the answer, status 500, is out already
            _LOG.error("%s: %s", scope.get("path", ""), "".join(traceback.format_exception(error)))
        finally:
            scope[ROUTE] = self._patterns.get(scope["endpoint"], "other") if "endpoint" in scope else "other"


def _while_it_speaks(receive: Receive, seconds: float) -> Receive:
    """`receive`, for which a client is gone that says nothing for `seconds`: connections are not held for ever."""

    async def receiving() -> MutableMapping[str, Any]:
        try:
            async with asyncio.timeout(seconds):
                return await receive()
        except TimeoutError:
            return {"type": "http.disconnect"}

    return receiving


def _outage(pages: Pages) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handler(request: Request, error: Exception) -> Response:
        assert isinstance(error, Unavailable)
        _LOG.warning("%s", error)
        return pages.outage(request, error)

    return handler


def _lifespan(hub: Hub, api: RegistryApi) -> Callable[[Starlette], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        await hub.in_thread(hub.blobs.expire_uploads, hub.settings.upload_lifetime)
        tasks = [asyncio.create_task(_collect_now_and_then(hub)), asyncio.create_task(_write_figures(hub))]
        tasks.append(asyncio.create_task(_prune(hub)))
        tasks.append(asyncio.create_task(_deliver_webhooks(hub)))
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await api.close()
        await hub.in_thread(hub.figures.flush)
        await hub.database.close_in_loop()

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


async def _prune(hub: Hub) -> None:
    while True:
        try:
            await hub.in_thread(hub.throttle.prune)
            if hub.settings.audit_days > 0:
                await hub.in_thread(hub.audit.prune, hub.settings.audit_days)
        except (MoldarError, SQLAlchemyError) as error:
            _LOG.error("cannot prune the audit log: %s", error)
        await asyncio.sleep(_PRUNING_SECONDS)


async def _write_figures(hub: Hub) -> None:
    while True:
        await asyncio.sleep(_FIGURES_SECONDS)
        try:
            await hub.in_thread(hub.figures.flush)
        except (MoldarError, SQLAlchemyError) as error:  # they are kept, and written with the next ones
            _LOG.error("cannot write figures: %s", error)


async def _deliver_webhooks(hub: Hub) -> None:
    settings = hub.settings
    networks = [ipaddress.ip_network(text) for text in settings.webhook_networks]
    await hub.courier.run(networks, timeout=settings.webhook_timeout, pause=settings.webhook_pause)


def create_app(hub: Hub) -> Application:
    """The ASGI application of `hub`."""
    if hub.database.is_remote or hub.storage.is_remote:
        return waiting_requests(HubApp(hub))
    return HubApp(hub)
