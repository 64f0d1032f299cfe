"""What a monitor asks: `/healthz` (the process answers), `/readyz` (it can serve), `/metrics` (for Prometheus)."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from moldar.errors import MoldarError
from moldar.hub.access.decisions import may_see_metrics
from moldar.hub.authentication import Authenticator
from moldar.hub.data.schema import ACCOUNTS, BLOBS, MANIFESTS, REPOSITORIES, TAGS, UPLOADS, WEBHOOK_DELIVERIES
from moldar.hub.exchange import PRINCIPAL, Exchange, Receive, Scope, Send
from moldar.hub.metrics import CONTENT_TYPE, Metric, by_label, exposition, process_metrics, simple
from moldar.hub.refusals import Refusal, refusal_for
from moldar.hub.registry.events import WAITING
from moldar.hub.services import Hub
from moldar.hub.settings import SERVICE
from moldar.remote.wire import basic_challenge

_PROBE = b"ready?" * 700
_PROBE_SECONDS = 5
_REMEMBER_PROBE = 1.0
_REMEMBER_COUNTS = 10.0
_PLAIN = "text/plain; charset=utf-8"
_LOOPBACK = ("127.", "::1", "::ffff:127.")
_PROXY_HEADERS = (b"x-forwarded-for", b"forwarded", b"via", b"x-real-ip")
_COUNTED = {
    "accounts": ACCOUNTS,
    "repositories": REPOSITORIES,
    "tags": TAGS,
    "manifests": MANIFESTS,
    "uploads_open": UPLOADS,
}


class Monitoring:
    """The endpoints for monitors. `paths`: what they answer."""

    def __init__(self, hub: Hub, authenticator: Authenticator) -> None:
        self._hub = hub
        self._authenticator = authenticator
        self._counts: tuple[float, tuple[Metric, ...]] = (0.0, ())
        self._ready: tuple[float, str] = (0.0, "")
        self._asking = asyncio.Lock()
        self._answers: dict[str, Callable[[Exchange], Awaitable[None]]] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
        }
        if hub.settings.metrics != "off":
            self._answers["/metrics"] = self._metrics
        self.paths = frozenset(self._answers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        if exchange.method not in ("GET", "HEAD"):
            await exchange.respond(405, {"Allow": "GET, HEAD"})
            return
        try:
            await self._answers[exchange.path](exchange)
        except Refusal as refusal:
            headers = {"Content-Type": _PLAIN, **refusal.headers}
            if refusal.status == 401:
                headers["WWW-Authenticate"] = basic_challenge(SERVICE)
            await exchange.respond(refusal.status, headers, f"{refusal.message}\n".encode())

    async def _healthz(self, exchange: Exchange) -> None:
        await exchange.respond(200, {"Content-Type": _PLAIN}, b"ok\n")

    async def _readyz(self, exchange: Exchange) -> None:
        async with self._asking:  # anyone may ask: however many do, the disk is asked once a second
            if time.monotonic() - self._ready[0] > _REMEMBER_PROBE:
                problem = await self._problem()
                self._ready = (time.monotonic(), problem)
        problem = self._ready[1]
        status, text = (503, problem) if problem else (200, "ready")
        await exchange.respond(status, {"Content-Type": _PLAIN, "Cache-Control": "no-store"}, f"{text}\n".encode())

    async def _problem(self) -> str:
        """Why the hub cannot serve now; empty when it can."""
        for name, probe in (("database", self._hub.accounts.count), ("storage", self._write)):
            try:
                await asyncio.wait_for(self._hub.in_thread(probe), _PROBE_SECONDS)
            except TimeoutError:
                return f"{name}: no answer in {_PROBE_SECONDS} seconds"
            except (OSError, MoldarError, SQLAlchemyError) as error:
                return f"{name}: {_reason(error)}"
        return ""

    def _write(self) -> None:
        """Writes a small upload and removes it."""
        storage, name = self._hub.storage, f"ready-{secrets.token_hex(8)}"
        storage.begin(name)
        try:
            writer = storage.resume(name, "sha256")
            try:
                writer.write(_PROBE)
            finally:
                writer.close()
        finally:
            with contextlib.suppress(OSError, MoldarError):
                storage.discard(name)

    async def _metrics(self, exchange: Exchange) -> None:
        if self._hub.settings.metrics != "public" and not (
            self._hub.settings.metrics == "local" and _is_local(exchange, self._hub.settings.external_url)
        ):
            principal = await self._authenticator.of(exchange)
            exchange.scope[PRINCIPAL] = principal.name
            if not may_see_metrics(principal):
                raise Refusal("UNAUTHORIZED" if principal.is_anonymous else "DENIED")
        if time.monotonic() - self._counts[0] > _REMEMBER_COUNTS:
            self._counts = (time.monotonic(), await self._hub.in_thread(self._stored))
        metrics = self._hub.metrics
        await exchange.respond(
            200,
            {"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"},
            exposition(
                (
                    *metrics.requests(),
                    simple(
                        "moldar_hub_uploads_in_flight",
                        "gauge",
                        "Requests that bring a blob's bytes at this moment.",
                        metrics.uploads_in_flight,
                    ),
                    by_label(
                        "moldar_hub_login_failures_total",
                        "counter",
                        "Wrong passwords and access tokens.",
                        "kind",
                        metrics.login_failures,
                    ),
                    by_label(
                        "moldar_hub_webhook_deliveries_total",
                        "counter",
                        "Tries to deliver a webhook's event, by what came of them.",
                        "outcome",
                        metrics.event_counts("webhook_deliveries"),
                    ),
                    *self._collected(),
                    *self._counts[1],
                    *process_metrics(metrics.started),
                )
            ),
        )

    def _collected(self) -> tuple[Metric, ...]:
        metrics = self._hub.metrics

        def total(name: str) -> float:
            return metrics.event_counts(name).get("", 0)

        return (
            simple("moldar_hub_gc_runs_total", "counter", "Garbage collections.", total("gc_runs")),
            simple("moldar_hub_gc_seconds_total", "counter", "Time that they took.", total("gc_seconds")),
            simple("moldar_hub_gc_blobs_total", "counter", "Blobs that they deleted.", total("gc_blobs")),
            simple("moldar_hub_gc_bytes_total", "counter", "Bytes that they freed.", total("gc_bytes")),
            simple(
                "moldar_hub_gc_last_timestamp_seconds",
                "gauge",
                "When the last one ended, since 1970; 0 before the first.",
                metrics.gauge("gc_last"),
            ),
        )

    def _stored(self) -> tuple[Metric, ...]:
        """What the whole hub holds, asked of the database."""
        with self._hub.database.reading() as connection:
            blobs, size = connection.execute(select(func.count(), func.coalesce(func.sum(BLOBS.c.size), 0))).one()
            waiting = select(func.count()).where(WEBHOOK_DELIVERIES.c.state == WAITING)
            waits = connection.execute(waiting).scalar_one()
            counts = {
                name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for name, table in _COUNTED.items()
            }
        return (
            simple("moldar_hub_webhook_deliveries_waiting", "gauge", "Deliveries not yet made.", waits),
            simple("moldar_hub_blobs", "gauge", "Blobs stored.", int(blobs)),
            simple("moldar_hub_blob_bytes", "gauge", "Bytes of the blobs stored.", int(size)),
            *(simple(f"moldar_hub_{key}", "gauge", f"Number of {key}.", value) for key, value in counts.items()),
        )


def _is_local(exchange: Exchange, external_url: str) -> bool:
    """Whether a program on this machine asks for itself. With a proxy before us everybody comes from here."""
    if external_url or any(exchange.has_header(name) for name in _PROXY_HEADERS):
        return False
    return exchange.address("").startswith(_LOOPBACK)


def _reason(error: Exception) -> str:
    """The reason in words, without paths: anyone may read it."""
    known = refusal_for(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return known.message if known else "an error that the log tells"
