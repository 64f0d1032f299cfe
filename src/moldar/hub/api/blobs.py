"""The registry's endpoints for blobs and uploads: end-2, 4a-4c, 5, 6, 10, 11, 13, 14 of the specification."""

import asyncio
import re
import time

from moldar.hub.api.calls import Call, Lookups, digest_in
from moldar.hub.exchange import Exchange
from moldar.hub.refusals import Refusal
from moldar.hub.registry.blobs import Held, Upload
from moldar.hub.registry.quotas import over_quota
from moldar.hub.services import Hub
from moldar.hub.storage.contract import UploadWriter
from moldar.image.model import Digest
from moldar.remote.wire import (
    DIGEST_HEADER,
    UPLOAD_ID_HEADER,
    ByteRange,
    RangeNotSatisfiable,
    blob_path,
    format_content_range,
    format_unsatisfied_range,
    format_upload_range,
    parse_byte_range,
    parse_upload_range,
    upload_path,
    valid_repository,
)

_ONE_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{1,18})\Z")
_REDIRECT_SECONDS = 900
_IMMUTABLE = "private, max-age=31536000, immutable"


class BlobRoutes:
    """Blobs out and in."""

    def __init__(self, hub: Hub, lookups: Lookups) -> None:
        self._hub = hub
        self._lookups = lookups

    async def get(self, call: Call) -> None:
        """GET and HEAD, whole or a range (end-2)."""
        exchange, digest = call.exchange, digest_in(call.reference)
        held = self._lookups.blob(call.repository, digest)
        size = held.size
        if exchange.method == "HEAD" and not held.is_referenced and self._is_old(held):
            # The client will not upload it and refer to it soon: it must not be collected meanwhile.
            await self._hub.in_thread(self._hub.blobs.tell, call.repository, digest)
        headers = {
            "Content-Type": "application/octet-stream",
            DIGEST_HEADER: digest,
            "ETag": f'"{digest}"',
            "Accept-Ranges": "bytes",
            "Cache-Control": _IMMUTABLE,
        }
        if exchange.has_matching_etag(headers["ETag"]):
            await exchange.respond(304, headers)
            return
        part = ByteRange(0, size)
        status = 200
        if exchange.has_header(b"range") and exchange.header(b"if-range") in ("", headers["ETag"]):
            try:
                asked = _asked_range(exchange.header(b"range"), size)
            except RangeNotSatisfiable:
                await exchange.respond(416, {**headers, "Content-Range": format_unsatisfied_range(size)})
                return
            if asked is not None:
                part, status = asked, 206
                headers["Content-Range"] = format_content_range(part, size)
        if exchange.method == "HEAD":
            await exchange.respond(status, headers, length=part.length)
            return
        if self._hub.settings.redirect_blobs:
            url = self._hub.storage.url(digest, _REDIRECT_SECONDS)
            if url:
                await exchange.respond(307, {"Location": url, DIGEST_HEADER: digest, "Cache-Control": "no-store"})
                return
        reader = self._hub.blobs.open(digest)
        try:
            await exchange.stream(status, headers, part.length, reader.chunks(part.start, part.end))
        finally:
            reader.close()

    def _is_old(self, held: Held) -> bool:
        return self._hub.clock() - held.told > self._hub.settings.gc_grace / 4

    async def delete(self, call: Call) -> None:
        """end-10"""
        by = call.actor(self._hub.settings.external_url)
        await self._hub.in_thread(self._hub.blobs.delete, call.repository, digest_in(call.reference), by=by)
        await call.exchange.respond(202)

    async def begin(self, call: Call) -> None:
        """A session, a mount, or a blob in one request (end-4a, 4b, 4c, 11)."""
        exchange = call.exchange
        mount = exchange.parameter("mount")
        if mount is not None and await self._mount(call, digest_in(mount)):
            return
        text = exchange.parameter("digest")
        digest = digest_in(text) if text is not None and mount is None else None
        algorithm = digest.partition(":")[0] if digest else exchange.parameter("digest-algorithm") or "sha256"
        account = call.principal.account_id or None
        usage = self._hub.quotas.room(call.repository, digest)
        if usage and not usage.room:
            raise over_quota(usage, 0)
        upload = await self._hub.in_thread(self._hub.blobs.begin, call.repository, account, algorithm)
        if digest is None:
            await exchange.respond(202, self._session_headers(upload, 0))
            return
        try:
            await self._receive_and_commit(exchange, upload, digest)
        except Exception:  # nobody but us knows of this session
            await self._hub.in_thread(self._hub.blobs.cancel, upload)
            raise

    async def append(self, call: Call) -> None:
        """One chunk, or a stream without end (end-5)."""
        exchange = call.exchange
        upload = self._hub.blobs.find(call.repository, call.reference)
        writer = await self._hold(upload)
        try:
            await self._receive(exchange, upload, writer)
            offset = writer.offset
        finally:
            writer.close()
        await exchange.respond(202, self._session_headers(upload, offset))

    async def finish(self, call: Call) -> None:
        """Closes a session, with or without a last chunk (end-6)."""
        exchange = call.exchange
        upload = self._hub.blobs.find(call.repository, call.reference)
        text = exchange.parameter("digest")
        if text is None:
            raise Refusal("DIGEST_INVALID", "the digest parameter is missing")
        await self._receive_and_commit(exchange, upload, digest_in(text))

    async def status(self, call: Call) -> None:
        """How far a session is (end-13)."""
        upload = self._hub.blobs.find(call.repository, call.reference)
        await call.exchange.respond(204, self._session_headers(upload, self._hub.blobs.offset(upload)))

    async def cancel(self, call: Call) -> None:
        """end-14"""
        upload = self._hub.blobs.find(call.repository, call.reference)
        await self._hub.in_thread(self._hub.blobs.cancel, upload)
        await call.exchange.respond(204)

    async def _mount(self, call: Call, digest: Digest) -> bool:
        """Answers and is True when a repository that the client may pull from holds the blob."""
        source = call.exchange.parameter("from")
        if source is not None:
            candidates = [source] if valid_repository(source) else []
        else:
            candidates = self._hub.blobs.holders(digest)
        for name in candidates:
            if not self._lookups.may_pull(call.principal, name):
                continue
            if await self._hub.in_thread(self._hub.blobs.mount, call.repository, digest, name) is not None:
                await call.exchange.respond(201, _blob_headers(call.repository, digest))
                return True
        return False

    async def _receive_and_commit(self, exchange: Exchange, upload: Upload, digest: Digest) -> None:
        writer = await self._hold(upload)
        try:
            await self._receive(exchange, upload, writer, digest)
            await self._hub.in_thread(self._hub.blobs.commit, upload, writer, digest)
        except Refusal as refusal:
            if refusal.code in ("DIGEST_INVALID", "DENIED"):  # these bytes will never be that blob
                await self._hub.in_thread(self._hub.blobs.cancel, upload)
            raise
        finally:
            writer.close()
        await exchange.respond(201, _blob_headers(upload.repository, digest))

    async def _hold(self, upload: Upload) -> UploadWriter:
        """The session for this request alone.

        A client whose connection broke is often back before we have noticed, so an earlier request gets some
        seconds to end.
        """
        deadline = time.monotonic() + self._hub.settings.upload_patience
        while True:
            try:
                return await self._hub.in_thread(self._hub.blobs.resume, upload)
            except Refusal as refusal:
                if refusal.status != 409 or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.05)

    async def _receive(
        self, exchange: Exchange, upload: Upload, writer: UploadWriter, digest: Digest | None = None
    ) -> None:
        """Takes in a body. What came before a client went away stays; it may go on from there."""
        end = self._expected_end(exchange, upload, writer.offset)
        usage = self._hub.quotas.room(upload.repository, digest)
        size = writer.offset + (exchange.content_length or 0)
        if usage and size > (usage.room or 0):
            raise over_quota(usage, size)
        self._hub.metrics.uploads_in_flight += 1
        try:
            async for data in exchange.chunks():
                if usage and writer.offset + len(data) > (usage.room or 0):
                    raise over_quota(usage, 0)
                if end is not None and writer.offset + len(data) > end:
                    raise Refusal("SIZE_INVALID", "the body is longer than its Content-Range")
                writer.write(data)
        finally:
            self._hub.metrics.uploads_in_flight -= 1
        if end is not None and writer.offset != end:
            raise Refusal("SIZE_INVALID", "the body is shorter than its Content-Range")

    def _expected_end(self, exchange: Exchange, upload: Upload, offset: int) -> int | None:
        """Where the chunk must end by its Content-Range, which must go on where the last one ended."""
        text = exchange.header(b"content-range")
        if not text:
            return None
        chunk = parse_upload_range(text)
        if chunk is None or chunk.start != offset:
            headers = self._session_headers(upload, offset)
            raise Refusal("BLOB_UPLOAD_INVALID", "the chunk is out of order", status=416, headers=headers)
        if exchange.content_length is not None and exchange.content_length != chunk.length:
            raise Refusal("SIZE_INVALID", "Content-Length and Content-Range differ")
        return chunk.end

    def _session_headers(self, upload: Upload, offset: int) -> dict[str, str]:
        return {
            "Location": upload_path(upload.repository, upload.id),
            "Range": format_upload_range(0, offset),
            UPLOAD_ID_HEADER: upload.id,
        }


def _asked_range(header: str, size: int) -> ByteRange | None:
    """As `parse_byte_range`, but a range that ends before it begins is refused; RFC 9110 (14.2) allows both."""
    match = _ONE_RANGE.match(header)
    if match and int(match[2]) < int(match[1]):
        raise RangeNotSatisfiable(header, size)
    return parse_byte_range(header, size)


def _blob_headers(repository: str, digest: Digest) -> dict[str, str]:
    return {"Location": blob_path(repository, digest), DIGEST_HEADER: digest}
