"""Requests that are for an upstream: which they are, and how they are answered from here or from there."""

import json
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl, urlencode, urlsplit

from moldar.hub.access.decisions import PULL
from moldar.hub.api.blobs import BlobRoutes
from moldar.hub.api.calls import Call, Lookups, digest_in, page_of
from moldar.hub.api.manifests import ManifestRoutes
from moldar.hub.exchange import Exchange
from moldar.hub.proxy.client import UpstreamClient, read_limited
from moldar.hub.proxy.flights import Flights
from moldar.hub.proxy.manifests import UpstreamManifests
from moldar.hub.proxy.troubles import UpstreamTrouble
from moldar.hub.refusals import Refusal
from moldar.hub.services import Hub
from moldar.image.model import OCI_INDEX, Digest
from moldar.remote.wire import (
    DIGEST_HEADER,
    FILTERS_HEADER,
    RouteKind,
    blob_path,
    format_next_link,
    parse_links,
    referrers_path,
    tags_path,
    valid_tag,
)

_LIST_LIMIT = 8 * 1024 * 1024


class PullThrough:
    """Answers pulls from the namespaces of upstreams."""

    def __init__(self, hub: Hub, lookups: Lookups, manifests: ManifestRoutes, blobs: BlobRoutes) -> None:
        self._hub = hub
        self._lookups = lookups
        self._manifest_routes = manifests
        self._blob_routes = blobs
        self._clients: dict[str, UpstreamClient] = {}
        self._flights = Flights(hub)
        self._manifests = UpstreamManifests(hub)
        self._endpoints: dict[RouteKind, Callable[[Call], Awaitable[None]]] = {
            RouteKind.BLOB: self._blob,
            RouteKind.MANIFEST: self._manifest,
            RouteKind.TAGS: self._tags,
            RouteKind.REFERRERS: self._referrers,
        }

    def name_of(self, exchange: Exchange, repository: str, action: str) -> str:
        """The repository of ours that a request means: by its path, or by containerd's `ns`. Refusal NAME_UNKNOWN."""
        registry = exchange.parameter("ns")
        if registry:
            upstream = self._hub.upstreams.by_registry(registry)
            if upstream:
                return upstream.local_name(repository)
            own = exchange.base_url(self._hub.settings.external_url).partition("://")[2]
            if registry != own:  # our own alice/app is not that registry's
                raise Refusal("NAME_UNKNOWN", f"this hub keeps no copies of {registry[:100]}")
        return self._lookups.meant(repository) if action == PULL else repository

    def endpoint(self, route: RouteKind, repository: str, action: str) -> Callable[[Call], Awaitable[None]] | None:
        """What answers, when the repository is an upstream's."""
        is_pull = action == PULL and self._hub.upstreams.of(repository) is not None
        return self._endpoints[route] if is_pull else None

    async def close(self) -> None:
        """Ends what is on its way."""
        await self._flights.close()
        for client in self._clients.values():
            await client.close()

    def _client(self, repository: str) -> UpstreamClient:
        upstream = self._hub.upstreams.of(repository)
        assert upstream is not None
        client = self._clients.get(upstream.name)
        if client is None:
            settings = self._hub.settings
            client = UpstreamClient(upstream, settings.proxy_timeout, settings.proxy_via)
            self._clients[upstream.name] = client
        return client

    async def _manifest(self, call: Call) -> None:
        reference = call.reference
        if ":" in reference:
            digest_in(reference)
        elif not valid_tag(reference):
            raise Refusal("MANIFEST_UNKNOWN", detail={"reference": reference[:300]})
        answer = self._lookups.manifest(call.repository, reference)
        client = self._client(call.repository)
        warning = await self._manifests.bring(client, call.repository, reference, answer.stored if answer else None)
        await self._manifest_routes.get(call._replace(headers=_warning(warning)) if warning else call)

    async def _blob(self, call: Call) -> None:
        digest = digest_in(call.reference)
        if self._is_here(call.repository, digest):
            await self._blob_routes.get(call)
            return
        client = self._client(call.repository)
        if call.exchange.method == "HEAD":
            headers = await self._head(client, call.repository, digest)
            size = headers.pop("Content-Length", "0")
            await call.exchange.respond(200, headers, length=int(size))
        elif await self._borrow(client, call.repository, digest):
            await self._blob_routes.get(call)
        else:
            await self._pass_on(client, call, digest)

    def _is_here(self, repository: str, digest: Digest) -> bool:
        try:
            self._lookups.blob(repository, digest)
        except Refusal:
            return False
        return True

    async def _head(self, client: UpstreamClient, repository: str, digest: Digest) -> dict[str, str]:
        remote = client.upstream.remote_name(repository)
        async with client.ask("HEAD", blob_path(remote, digest), remote, {}, missing="BLOB_UNKNOWN") as response:
            size = response.headers.get("content-length", "")
        return {**_blob_headers(digest), **({"Content-Length": size} if size.isascii() and size.isdigit() else {})}

    async def _borrow(self, client: UpstreamClient, repository: str, digest: Digest) -> bool:
        """Takes a blob that another copy from the same upstream holds, if the upstream has it in this one too."""
        namespace = client.upstream.name + "/"
        holder = next((name for name in self._hub.blobs.holders(digest) if name.startswith(namespace)), "")
        if not holder:
            return False
        await self._head(client, repository, digest)
        return await self._hub.in_thread(self._hub.copies.blobs.mount, repository, digest, holder) is not None

    async def _pass_on(self, client: UpstreamClient, call: Call, digest: Digest) -> None:
        """The blob while it comes in; parts of it, and one of unknown size, once it is here."""
        flight = self._flights.board(client, call.repository, digest)
        try:
            size = await flight.known_size()
            if size is not None and not call.exchange.has_header(b"range"):
                await call.exchange.relay(200, _blob_headers(digest), size, flight.chunks())
                return
            await flight.ended()
        finally:
            flight.leave()
        await self._blob_routes.get(call)

    async def _tags(self, call: Call) -> None:
        limit, last = page_of(call.exchange)
        remote = self._client(call.repository).upstream.remote_name(call.repository)
        asked = limit if call.exchange.parameter("n") is not None else None
        found = await self._list(call, tags_path(remote, limit=asked, last=last), self._manifest_routes.tags)
        if found is None:
            return
        raw, headers, following = found
        try:
            tags = [str(tag) for tag in json.loads(raw).get("tags") or ()]
        except (ValueError, AttributeError, TypeError) as error:
            raise UpstreamTrouble("UNAVAILABLE", "the upstream's list of tags is malformed", status=502) from error
        if following:
            page: dict[str, str] = {key: following[key] for key in ("n", "last") if key in following}
            headers["Link"] = format_next_link(f"{tags_path(call.repository)}?{urlencode(page, safe='/')}")
        headers["Content-Type"] = "application/json"
        await call.exchange.respond(200, headers, json.dumps({"name": call.repository, "tags": tags}).encode())

    async def _referrers(self, call: Call) -> None:
        digest = digest_in(call.reference)
        remote = self._client(call.repository).upstream.remote_name(call.repository)
        path = referrers_path(remote, digest, call.exchange.parameter("artifactType"))
        found = await self._list(call, path, self._manifest_routes.referrers)
        if found is None:
            return
        raw, headers, following = found
        if following:
            link = f"{referrers_path(call.repository, digest)}?{urlencode(following, safe=':/')}"
            headers["Link"] = format_next_link(link)
        headers["Content-Type"] = OCI_INDEX
        await call.exchange.respond(200, headers, raw)

    async def _list(
        self, call: Call, path: str, own: Callable[[Call], Awaitable[None]]
    ) -> tuple[bytes, dict[str, str], dict[str, str]] | None:
        """A list of the upstream's, with headers to pass on and the query of its next page.

        None when the upstream failed and `own` has answered with what is here.
        """
        client = self._client(call.repository)
        remote = client.upstream.remote_name(call.repository)
        try:
            async with client.ask("GET", path, remote, {}, missing="NAME_UNKNOWN") as response:
                raw = await read_limited(response, _LIST_LIMIT)
        except UpstreamTrouble as trouble:
            if not trouble.is_temporary or not self._lookups.place(call.repository)[0].exists:
                raise
            await own(call)
            return None
        filters = response.headers.get(FILTERS_HEADER)
        following = parse_links(response.headers.get("link", "")).get("next", "")
        return raw, {FILTERS_HEADER: filters} if filters else {}, dict(parse_qsl(urlsplit(following).query))


def _warning(text: str) -> list[tuple[bytes, bytes]]:
    """The header that says that a manifest may be old (RFC 7234, section 5.5.1)."""
    plain = "".join(char for char in text if char.isprintable() and char.isascii() and char not in '"\\')
    return [(b"warning", f'110 moldar-hub "{plain}"'.encode())]


def _blob_headers(digest: Digest) -> dict[str, str]:
    return {"Content-Type": "application/octet-stream", DIGEST_HEADER: digest, "ETag": f'"{digest}"'}
