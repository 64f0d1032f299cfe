"""Manifests of upstreams, kept here: when ours will do, when the upstream is asked, and what is served when it fails.

A manifest by digest never changes. A tag is believed for a while; then a HEAD (which counts against nobody's pull
limit) tells whether it moved. An upstream that fails, or asks us to slow down, leaves the last known manifest in use.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import httpx

from moldar.hub.proxy.client import UpstreamClient, read_limited
from moldar.hub.proxy.troubles import UpstreamTrouble, lies
from moldar.hub.refusals import Refusal
from moldar.hub.registry.manifests import Stored
from moldar.hub.services import Hub
from moldar.hub.storage.contract import ALGORITHMS
from moldar.image.model import Digest
from moldar.remote.wire import DIGEST_HEADER, MANIFEST_ACCEPT, manifest_path

_REMEMBERED = 20_000
_LOG = logging.getLogger("moldar.hub")


class _Seen(NamedTuple):
    """What the upstream last said of a tag. `until`: how long that will do; `warning`: why ours may be old."""

    until: float
    warning: str = ""


class UpstreamManifests:
    """Sees to it that manifests of upstreams are here. Belongs to one event loop."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._asking: dict[tuple[str, str], asyncio.Task[str]] = {}

    async def bring(self, client: UpstreamClient, repository: str, reference: str, stored: Stored | None) -> str:
        """Afterwards ours is the upstream's, or the best that we have: then the reason is returned.

        `stored`: what is here now. Raises UpstreamTrouble.
        """
        if ":" in reference:
            if stored is None:
                await self._once((repository, reference), lambda: self._fetch(client, repository, reference))
            return ""
        seen = self._seen.get((repository, reference))
        if seen and stored and seen.until > time.monotonic():
            return seen.warning
        return await self._once((repository, reference), lambda: self._look(client, repository, reference))

    async def _once(self, key: tuple[str, str], ask: Callable[[], Awaitable[str]]) -> str:
        """What `ask` gives; all who want the same at the same time share one."""
        task = self._asking.get(key)
        if task is None:
            task = asyncio.ensure_future(ask())
            self._asking[key] = task
            task.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(task)

    def _ended(self, key: tuple[str, str], task: asyncio.Task[str]) -> None:
        self._asking.pop(key, None)
        if not task.cancelled():
            task.exception()  # whoever waited has it; nobody may have

    async def _look(self, client: UpstreamClient, repository: str, tag: str) -> str:
        """Brings a tag up to date."""
        stored = self._hub.copies.manifests.get(repository, tag)
        fresh = self._hub.settings.proxy_fresh
        try:
            if stored is None or await self._has_moved(client, repository, tag, stored):
                await self._fetch(client, repository, tag, stored)
        except UpstreamTrouble as trouble:
            if stored and trouble.code == "MANIFEST_UNKNOWN":
                await self._drop(repository, tag)
            if stored is None or not trouble.is_temporary:
                raise
            _LOG.warning("%s:%s may be old: %s", repository, tag, trouble.message)
            self._note(repository, tag, _Seen(time.monotonic() + min(trouble.wait, fresh), trouble.message))
            return trouble.message
        self._note(repository, tag, _Seen(time.monotonic() + fresh))
        return ""

    def _note(self, repository: str, tag: str, seen: _Seen) -> None:
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        self._seen[repository, tag] = seen

    async def _drop(self, repository: str, tag: str) -> None:
        """The upstream has the tag no more; the manifest may still be asked for by digest."""
        try:
            await self._hub.in_thread(self._hub.copies.manifests.delete, repository, tag)
        except Refusal as refusal:
            if refusal.code != "MANIFEST_UNKNOWN":
                raise

    async def _has_moved(self, client: UpstreamClient, repository: str, tag: str, stored: Stored) -> bool:
        remote = client.upstream.remote_name(repository)
        headers = {"Accept": MANIFEST_ACCEPT}
        path = manifest_path(remote, tag)
        try:
            async with client.ask("HEAD", path, remote, headers, missing="MANIFEST_UNKNOWN") as response:
                return str(response.headers.get(DIGEST_HEADER)) != stored.digest
        except UpstreamTrouble as trouble:
            if trouble.code == "UNAVAILABLE" and not trouble.is_temporary:  # it knows no HEAD, perhaps
                return True
            raise

    async def _fetch(
        self, client: UpstreamClient, repository: str, reference: str, stored: Stored | None = None
    ) -> str:
        remote = client.upstream.remote_name(repository)
        headers = {"Accept": MANIFEST_ACCEPT}
        if stored:
            headers["If-None-Match"] = f'"{stored.digest}"'
        path = manifest_path(remote, reference)
        async with client.ask("GET", path, remote, headers, missing="MANIFEST_UNKNOWN") as response:
            if stored and response.status_code == 304:
                return ""
            raw = await read_limited(response, self._hub.settings.manifest_limit)
        is_digest = ":" in reference
        said = response.headers.get(DIGEST_HEADER, "")
        for digest in (reference if is_digest else "", said):
            if digest and not _is_digest_of(digest, raw):
                raise lies(client.upstream, digest[:140])
        await self._keep(client, repository, reference, raw, response)
        return ""

    async def _keep(
        self, client: UpstreamClient, repository: str, reference: str, raw: bytes, response: httpx.Response
    ) -> None:
        copies = self._hub.copies
        media_type = response.headers.get("content-type", "").partition(";")[0].strip()
        digest = Digest(reference) if ":" in reference else None
        tags = () if digest else (reference,)
        try:
            await self._hub.in_thread(copies.manifests.put, repository, raw, media_type, digest=digest, tags=tags)
        except Refusal as refusal:
            message = f"{client.upstream.name} sent a manifest that cannot be used: {refusal.message}"
            raise UpstreamTrouble("UNAVAILABLE", message[:300], status=502, is_temporary=True) from refusal
        await self._hub.in_thread(copies.mark, repository, client.upstream.name)


def _is_digest_of(digest: str, raw: bytes) -> bool:
    algorithm, _, name = digest.partition(":")
    return algorithm in ALGORITHMS and hashlib.new(algorithm, raw).hexdigest() == name
