"""The registry's endpoints for manifests, tags and referrers: end-3, 7a, 7b, 8a, 8b, 9, 12a, 12b."""

import json
from typing import Any

from moldar.hub.api.calls import Call, Lookups, digest_in, page_of
from moldar.hub.refusals import Refusal
from moldar.hub.services import Hub
from moldar.image.model import MANIFEST_TYPES, OCI_INDEX
from moldar.remote.wire import (
    DIGEST_HEADER,
    FILTERS_HEADER,
    MANIFEST_LIMIT,
    SUBJECT_HEADER,
    format_next_link,
    manifest_path,
    referrers_path,
    tags_path,
    valid_tag,
)

TAG_HEADER = "OCI-Tag"
_TAGS_PER_PUSH = 50
_REFERRERS_PAGE = 200


class ManifestRoutes:
    """Manifests out and in, and what can be listed about them."""

    def __init__(self, hub: Hub, lookups: Lookups) -> None:
        self._hub = hub
        self._lookups = lookups

    async def get(self, call: Call) -> None:
        """GET and HEAD by tag or digest (end-3)."""
        exchange, reference = call.exchange, call.reference
        if ":" in reference:
            digest_in(reference)
        answer = self._lookups.manifest(call.repository, reference)
        if answer is None:
            self._lookups.require(call.repository)
            raise Refusal("MANIFEST_UNKNOWN", detail={"reference": reference[:300]})
        if exchange.has_matching_etag(answer.etag):
            headers = {"ETag": answer.etag, DIGEST_HEADER: answer.stored.digest}
            await exchange.respond(304, headers, repeated=[(k.decode(), v.decode()) for k, v in call.headers])
            return
        body = b"" if exchange.method == "HEAD" else answer.stored.content
        if body:
            is_image = answer.stored.media_type in MANIFEST_TYPES
            self._hub.figures.note_pull(call.repository, answer.stored.digest, is_image=is_image)
        await exchange.respond_raw(200, answer.headers + call.headers if call.headers else answer.headers, body)

    async def put(self, call: Call) -> None:
        """By tag, or by digest with tags as parameters (end-7a, 7b)."""
        exchange, reference = call.exchange, call.reference
        digest = digest_in(reference) if ":" in reference else None
        tags = exchange.query.get("tag", []) if digest else [reference]
        if len(tags) > _TAGS_PER_PUSH:
            raise Refusal("UNSUPPORTED", f"at most {_TAGS_PER_PUSH} tags in one request", status=414)
        for tag in tags:
            if not valid_tag(tag):
                raise Refusal("MANIFEST_INVALID", "invalid tag", detail={"tag": tag[:300]})
        media_type = exchange.header(b"content-type").partition(";")[0].strip()
        if not media_type:
            raise Refusal("MANIFEST_INVALID", "the Content-Type header is missing")
        limit = self._hub.settings.manifest_limit
        too_large = Refusal("MANIFEST_INVALID", f"a manifest has at most {limit} bytes", status=413)
        raw = await exchange.read(limit, too_large)
        by = call.actor(self._hub.settings.external_url)
        pushed = await self._hub.in_thread(
            self._hub.manifests.put, call.repository, raw, media_type, digest=digest, tags=tags, by=by
        )
        headers = {"Location": manifest_path(call.repository, pushed.digest), DIGEST_HEADER: pushed.digest}
        if pushed.subject:
            headers[SUBJECT_HEADER] = pushed.subject
        await exchange.respond(201, headers, repeated=[(TAG_HEADER, tag) for tag in pushed.tags if digest])

    async def delete(self, call: Call) -> None:
        """A tag, or a manifest and the tags that point at it (end-9)."""
        if ":" in call.reference:
            digest_in(call.reference)
        by = call.actor(self._hub.settings.external_url)
        await self._hub.in_thread(self._hub.manifests.delete, call.repository, call.reference, by=by)
        await call.exchange.respond(202)

    async def tags(self, call: Call) -> None:
        """end-8a, 8b"""
        limit, last = page_of(call.exchange)
        names = self._hub.manifests.tag_names(call.repository, last=last, limit=limit + 1)
        headers = {"Content-Type": "application/json"}
        if len(names) > limit:
            names = names[:limit]
            if names:
                headers["Link"] = format_next_link(tags_path(call.repository, limit=limit, last=names[-1]))
        await call.exchange.respond(200, headers, json.dumps({"name": call.repository, "tags": names}).encode())

    async def referrers(self, call: Call) -> None:
        """end-12a, 12b. A repository that is not there yet has no referrers: never 404 for who may see it."""
        digest = digest_in(call.reference)
        artifact_type = call.exchange.parameter("artifactType")
        headers = {"Content-Type": OCI_INDEX}
        if artifact_type is not None:
            headers[FILTERS_HEADER] = "artifactType"
        limit, last = page_of(call.exchange)
        found: list[dict[str, Any]] = []
        if limit and self._lookups.place(call.repository)[0].exists:
            limit = min(limit, _REFERRERS_PAGE)
            found = self._hub.manifests.referrers(call.repository, digest, artifact_type, last=last, limit=limit + 1)
            page = _page_of_referrers(found, limit)
            if len(page) < len(found):
                found = page
                headers["Link"] = format_next_link(
                    referrers_path(call.repository, digest, artifact_type, limit=limit, last=found[-1]["digest"])
                )
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found}
        await call.exchange.respond(200, headers, json.dumps(document).encode())


def _page_of_referrers(found: list[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """The first of `found`, at least one, that fit into an index of the size that clients can be trusted to take."""
    room = MANIFEST_LIMIT - 1024
    page: list[dict[str, Any]] = []
    for descriptor in found[:limit]:
        room -= len(json.dumps(descriptor)) + 2
        if room < 0 and page:
            break
        page.append(descriptor)
    return page
