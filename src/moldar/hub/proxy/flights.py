"""Blobs on their way from an upstream: each is fetched once, however many clients wait for it.

What comes in goes into an upload session of ours, and into a spool file from which every client reads at its own
pace. The last bytes are held back until the whole has its digest and is a blob of ours: a client of a lying upstream
gets an error for a small blob and a broken connection for a large one, and nothing is stored. A fetch goes on when
its clients go away; their next try finds the blob. Other processes do not know of it: each fetches for itself once,
and the second to finish finds the blob there.
"""

import asyncio
import logging
import os
import tempfile
from collections.abc import AsyncIterator

from moldar.hub.data.database import make_private_directory
from moldar.hub.proxy.client import UpstreamClient
from moldar.hub.proxy.troubles import UpstreamTrouble, lies
from moldar.hub.refusals import Refusal
from moldar.hub.registry.copies import Copies
from moldar.hub.services import Hub
from moldar.hub.storage.contract import UploadWriter
from moldar.image.model import Digest
from moldar.remote.wire import blob_path, format_byte_range, parse_content_range

_CHUNK = 256 * 1024
_HELD_BACK = 256 * 1024
_UNDECLARED_LIMIT = 16 * 1024**3
_TRIES = 3
_LOG = logging.getLogger("moldar.hub")


class Flight:
    """One blob on its way. `size`: None until the upstream has said it."""

    def __init__(self, hub: Hub, client: UpstreamClient, repository: str, digest: Digest) -> None:
        self._hub = hub
        self._copies: Copies = hub.copies
        self._client = client
        self._repository = repository
        self._digest = digest
        self._received = 0
        self._moved = asyncio.Event()
        self._readers = 0
        spools = hub.settings.path("proxy")
        make_private_directory(spools)
        self._spool = tempfile.TemporaryFile(dir=spools, buffering=0)
        self.size: int | None = None
        self.error: Exception | None = None
        self.is_done = False

    async def fetch(self) -> None:
        """Brings the blob in; raises only when it is cancelled. Afterwards there is a blob of ours, or `error`."""
        try:
            await self._bring()
        except asyncio.CancelledError:
            self.error = Refusal("UNAVAILABLE", "the hub is being stopped")
            raise
        except Exception as error:
            self.error = error
            _LOG.warning("cannot fetch %s for %s: %s", self._digest, self._repository, error)
        finally:
            self.is_done = True
            self._tell()
            self._let_go()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The blob from its beginning, as it comes in. Raises what went wrong."""
        at = 0
        while True:
            moved = self._moved
            end = self._ready()
            while at < end:
                data = os.pread(self._spool.fileno(), min(_CHUNK, end - at), at)
                at += len(data)
                yield data
            if self.is_done:
                if self.error:
                    raise self.error
                if at == self._received:
                    return
            elif self._ready() == end:
                await moved.wait()

    async def ended(self) -> None:
        """Waits until the blob is ours. Raises what went wrong."""
        while not self.is_done:
            await self._moved.wait()
        if self.error:
            raise self.error

    def board(self) -> None:
        """One more client reads; it must `leave`."""
        self._readers += 1

    def leave(self) -> None:
        self._readers -= 1
        self._let_go()

    async def known_size(self) -> int | None:
        """The blob's size once the upstream has said it; None when it does not. Raises what went wrong."""
        while self.size is None and not self.is_done and not self._received:
            await self._moved.wait()
        if self.error and self.size is None:
            raise self.error
        return self.size

    def _ready(self) -> int:
        """How much clients may have."""
        if self.is_done:
            return 0 if self.error else self._received
        return max(self._received - _HELD_BACK, 0)

    def _tell(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def _let_go(self) -> None:
        if self.is_done and not self._readers:
            self._spool.close()

    async def _bring(self) -> None:
        hub, blobs = self._hub, self._copies.blobs
        upload = await hub.in_thread(blobs.begin, self._repository, None, self._digest.partition(":")[0])
        try:
            writer = await hub.in_thread(blobs.resume, upload)
            try:
                await self._receive_all(writer)
                await hub.in_thread(blobs.commit, upload, writer, self._digest)
            finally:
                writer.close()
        except BaseException as error:
            await asyncio.shield(hub.in_thread(blobs.cancel, upload))
            if isinstance(error, Refusal) and error.code == "DIGEST_INVALID":
                raise lies(self._client.upstream, self._digest) from error
            raise
        await hub.in_thread(self._copies.mark, self._repository, self._client.upstream.name)

    async def _receive_all(self, writer: UploadWriter) -> None:
        """A connection that breaks is taken up where it broke."""
        for attempt in range(_TRIES):
            before = self._received
            try:
                await self._receive(writer)
                return
            except UpstreamTrouble as trouble:
                can_go_on = trouble.is_temporary and self._received > before and self.size is not None
                if not can_go_on or attempt == _TRIES - 1:
                    raise

    async def _receive(self, writer: UploadWriter) -> None:
        upstream = self._client.upstream
        remote = upstream.remote_name(self._repository)
        headers = {"Range": format_byte_range(self._received)} if self._received else {}
        path = blob_path(remote, self._digest)
        async with self._client.ask("GET", path, remote, headers, missing="BLOB_UNKNOWN") as response:
            if self._received:
                part = parse_content_range(response.headers.get("content-range", ""))
                if response.status_code != 206 or part is None or part[0].start != self._received:
                    raise lies(upstream, f"the rest of {self._digest}")
            else:
                length = response.headers.get("content-length", "")
                self.size = int(length) if length.isascii() and length.isdigit() else None
                self._tell()
            limit = _UNDECLARED_LIMIT if self.size is None else self.size
            async for data in response.aiter_raw():
                if self._received + len(data) > limit:
                    raise lies(upstream, self._digest)
                await self._take(writer, data)
        if self.size is not None and self._received < self.size:
            raise lies(upstream, self._digest)
        self.size = self._received

    async def _take(self, writer: UploadWriter, data: bytes) -> None:
        if self._hub.storage.is_remote:  # this task is no request, whose waiting would hold nobody up
            await self._hub.in_thread(writer.write, data)
        else:
            writer.write(data)
        view = memoryview(data)
        while view:
            view = view[os.pwrite(self._spool.fileno(), view, self._received + len(data) - len(view)) :]
        self._received += len(data)
        self._tell()


class Flights:
    """The blobs that are on their way now."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._flights: dict[tuple[str, Digest], Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def board(self, client: UpstreamClient, repository: str, digest: Digest) -> Flight:
        """The flight of a blob that is not here, begun when there is none; the caller must `leave` it."""
        key = (repository, digest)
        flight = self._flights.get(key)
        if flight is None or flight.is_done:
            flight = Flight(self._hub, client, repository, digest)
            self._flights[key] = flight
            task = asyncio.create_task(flight.fetch())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: self._forget(key))
        flight.board()
        return flight

    def _forget(self, key: tuple[str, Digest]) -> None:
        flight = self._flights.get(key)
        if flight and flight.is_done:
            del self._flights[key]

    async def close(self) -> None:
        """Ends what is on its way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
