"""Runs a hub on granian, in this process, until a signal ends it.

One worker, because one SQLite database has one writer and the answers remembered in memory are this process's; on a
shared database and storage, several such processes serve one registry. The server is granian's embedded one: with a
second process between us and the sockets, a kill of the first would leave the second serving.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.server.embed import Server

from moldar.errors import HostTrouble
from moldar.hub.access_log import with_access_log
from moldar.hub.app import create_app
from moldar.hub.certificates import names_of_host, self_signed
from moldar.hub.data.database import make_private_directory
from moldar.hub.logs import logging_to
from moldar.hub.services import Hub
from moldar.hub.settings import HubSettings

_BODY_BUFFER = 1024 * 1024
Say = Callable[[str], None]


def serve(settings: HubSettings, *, say: Say = lambda line: print(line, flush=True), warn: Say | None = None) -> None:
    """Serves until SIGTERM or SIGINT, then ends the requests that run (for `stop_timeout` seconds at most).

    `say` gets one line with the address when the hub answers. Raises HostTrouble when the address is taken or
    another hub runs on the data directory.
    """
    make_private_directory(settings.data)
    if settings.allow_anonymous_push:
        (warn or _to_stderr)("warning: anyone who can reach this hub may push to it and delete from it")
    with (
        logging_to(settings.access_log),
        _locked(settings.path("hub.lock")),
        _reserved(settings.host, settings.port) as port,
    ):
        hub = Hub(settings)
        try:
            asyncio.run(_serve(hub, settings, port, say))
        finally:
            hub.close()


async def _serve(hub: Hub, settings: HubSettings, port: int, say: Say) -> None:
    certificate, key = _certificate(settings)
    server = Server(
        with_access_log(create_app(hub), settings.access_log, external_url=settings.external_url),
        address=settings.host,
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(max_buffer_size=_BODY_BUFFER),
        websockets=False,
        ssl_cert=certificate,
        ssl_key=key,
        ssl_protocol_min=SSLProtocols.tls12,
        log_enabled=False,
        backlog=1024,
    )
    server.workers_kill_timeout = settings.stop_timeout
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    running = asyncio.create_task(server.serve())
    announcing = asyncio.create_task(_announce(settings, port, say))
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait({running, stop}, return_when=asyncio.FIRST_COMPLETED)
    announcing.cancel()
    if running.done():
        running.result()
        raise HostTrouble("the server ended unexpectedly")
    server.interrupt_signal = True
    server.main_loop_interrupt.set()
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(running, settings.stop_timeout + 1)


def _certificate(settings: HubSettings) -> tuple[Path | None, Path | None]:
    """The certificate to serve with and its key; nothing for plain HTTP. HostTrouble when they cannot be used."""
    paths = (settings.tls_certificate, settings.tls_key)
    if settings.tls_self_signed:
        external = urlsplit(settings.external_url).hostname or ""
        paths = self_signed(settings.path("tls"), names_of_host(settings.host, external))
    if not settings.speaks_tls:
        return None, None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*paths)
    except OSError as error:  # SSLError is one
        reason = error.strerror or "it cannot be read"
        raise HostTrouble(f"cannot use the certificate {paths[0]} with the key {paths[1]}: {reason}") from error
    return Path(paths[0]), Path(paths[1])


async def _announce(settings: HubSettings, port: int, say: Say) -> None:
    """Says the address once a connection to it succeeds."""
    host = settings.host
    target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    while True:
        try:
            _, writer = await asyncio.open_connection(target, port)
            writer.close()
            break
        except OSError:
            await asyncio.sleep(0.01)
    shown = f"[{host}]" if ":" in host else host
    say(f"Moldar hub listening on http{'s' if settings.speaks_tls else ''}://{shown}:{port}")


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise HostTrouble("another hub runs on this data directory", hint=f"it holds {path}") from error
    finally:
        os.close(fd)


@contextlib.contextmanager
def _reserved(host: str, port: int) -> Iterator[int]:
    """The port to listen on, chosen when `port` is 0, and held so that nobody else takes it.

    The server shares its port (SO_REUSEPORT), so a second one would silently take half of the connections: a socket
    that does not share is bound first, to see that nobody listens.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        with socket.socket(family) as holder:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind((host, port))
            yield int(holder.getsockname()[1])
    except socket.gaierror as error:
        raise HostTrouble(f"cannot listen on {host}: {error.strerror}") from error
    except OSError as error:
        if error.errno is None:
            raise
        raise HostTrouble(f"cannot listen on {host}:{port}: {os.strerror(error.errno)}") from error


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
