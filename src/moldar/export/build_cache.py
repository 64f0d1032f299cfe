"""A build cache that travels: which records, layers, base images and cache mounts it has, as one JSON document.

It is the config of an OCI manifest whose layers are ordinary layer blobs, so that any registry or image layout keeps
it, and a layer that is there already is never sent again. An image may carry the records of its own layers in its
config instead (inline). Nothing in a document is believed before it is used: blobs must have their digests, layers
their diff IDs.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

from moldar.errors import CorruptData, NotFound, UserMistake
from moldar.image.config import INLINE_CACHE, parse_image_config
from moldar.image.fields import integer, items, objects, parse_object, sub_object, text, texts
from moldar.image.model import (
    OCI_EMPTY,
    Descriptor,
    Digest,
    Index,
    Manifest,
    Platform,
    digest_of,
    encode_json,
    make_manifest,
    parse_digest,
)
from moldar.image.transfer import ImageSource, NoSuchPlatform, fetch_document, select_platform, verified
from moldar.store.blobs import BlobStore

CACHE_CONFIG = "application/vnd.moldar.buildcache.v1+json"
"""Media type of the document."""
VERSION = 1
_LIMIT = 64 << 20
_LARGEST = 1 << 63
_LATEST = 253_402_300_800  # the year 10000
_CHUNK = 1 << 20
_NOTHING = b"{}"


class SharedRecord(NamedTuple):
    """A step done before: its key, what it was in words, the identity of its result, and the layers it added.

    `created` in seconds since the epoch; `parts` describe the key, without values of the environment. `reads` are its
    read sets, (step, data), as the store keeps them.
    """

    key: Digest
    step: str
    identity: Digest
    created: float
    parts: tuple[tuple[str, str], ...]
    layers: tuple[Digest, ...]
    reads: tuple[tuple[Digest, bytes], ...] = ()


class SharedLayer(NamedTuple):
    """A layer: the size of its tar in bytes, and the blob that holds it; None where only its name travels."""

    size: int
    blob: Descriptor | None


class SharedBase(NamedTuple):
    """A base image that steps start from: its name, platform, manifest's digest (or empty) and config."""

    reference: str
    platform: Platform
    digest: str
    config: bytes


class SharedMount(NamedTuple):
    """The files of a cache mount as a layer. `id` is the sha256 digest of the mount's id."""

    id: Digest
    diff_id: Digest


class CacheDocument(NamedTuple):
    """All that a build cache says. `layers` has every layer that the others name, by diff ID."""

    records: tuple[SharedRecord, ...] = ()
    layers: Mapping[Digest, SharedLayer] = {}
    bases: tuple[SharedBase, ...] = ()
    mounts: tuple[SharedMount, ...] = ()


class NoBuildCache(NotFound):
    """Something that is an image, and has no build cache in it."""


def encode_document(document: CacheDocument) -> bytes:
    """Stable bytes: the same contents give the same document, whatever the order in which they were found."""
    members: dict[str, Any] = {"version": VERSION, "records": _records_json(document)}
    if document.bases:
        members["bases"] = [_base_json(base) for base in sorted(document.bases, key=lambda base: base[:3])]
    if document.mounts:
        members["mounts"] = [
            {"id": mount.id, "layer": _layer_json(document, mount.diff_id)} for mount in sorted(document.mounts)
        ]
    members["layers"] = [_layer_json(document, diff_id) for diff_id in sorted(document.layers)]
    return encode_json(members)


def inline_document(document: CacheDocument) -> dict[str, Any]:
    """What goes into an image's config: records only, since the image brings the layers."""
    return {"version": VERSION, "records": _records_json(document)}


def parse_document(raw: bytes, blobs: Sequence[Descriptor]) -> CacheDocument:
    """The cache that `raw` describes; `blobs` are the layers of its manifest. CorruptData when it is malformed."""
    members = parse_object(raw, "build cache")
    offered = {blob.digest: blob for blob in blobs}
    layers: dict[Digest, SharedLayer] = {}
    for layer in objects(members, "layers"):
        digest = text(layer, "digest")
        if digest and digest not in offered:
            raise CorruptData(f"the build cache names the blob {digest}, which its manifest does not list")
        layers[_digest(layer, "diffID")] = SharedLayer(_size(layer), offered.get(Digest(digest)))
    mounts = tuple(
        SharedMount(_digest(mount, "id"), _digest(sub_object(mount, "layer"), "diffID"))
        for mount in objects(members, "mounts")
    )
    bases = tuple(_parse_base(base) for base in objects(members, "bases"))
    return CacheDocument(_parse_records(members, layers), layers, bases, mounts)


def parse_inline(config: bytes, blobs: Sequence[Descriptor]) -> CacheDocument:
    """The cache in an image's config; `blobs` are the layers of its manifest, none when they are here already.

    Raises NoBuildCache, CorruptData.
    """
    members = sub_object(parse_object(config, "image config"), INLINE_CACHE)
    if not members:
        raise NoBuildCache("the image has no build cache", hint="build it with --cache-to type=inline")
    diff_ids = parse_image_config(config).diff_ids
    if blobs and len(blobs) != len(diff_ids):
        raise CorruptData(f"the image's config lists {len(diff_ids)} layers, its manifest {len(blobs)}")
    held = dict(zip(diff_ids, blobs, strict=True)) if blobs else {}
    layers = {
        _digest(layer, "diffID"): SharedLayer(_size(layer), held.get(_digest(layer, "diffID")))
        for record in objects(members, "records")
        for layer in objects(record, "layers")
    }
    return CacheDocument(_parse_records(members, layers), layers)


def read_caches(source: ImageSource, platforms: Sequence[Platform]) -> list[CacheDocument]:
    """The build cache at `source`, of its own or inline in an image; of an index those of the images for `platforms`.

    An image of the index that is not there or has no cache is passed over, if another one has one. Raises
    NoBuildCache, NoSuchPlatform, CorruptData, and what the source raises.
    """
    found = fetch_document(source, source.resolve())
    if isinstance(found, Manifest):
        return [_read_cache(source, found)]
    caches: dict[Digest, CacheDocument] = {}
    missing: NotFound | None = None
    for platform in platforms:
        try:
            descriptor = select_platform(found, platform)
            if descriptor.digest not in caches:
                caches[descriptor.digest] = _read_cache(source, fetch_document(source, descriptor))
        except (NoSuchPlatform, NoBuildCache) as error:
            missing = missing or error
    if missing is not None and not caches:
        raise missing
    return list(caches.values())


def _read_cache(source: ImageSource, found: Manifest | Index) -> CacheDocument:
    if not isinstance(found, Manifest):
        raise NoBuildCache("an index of indexes is no build cache")
    if found.config.size > _LIMIT:
        raise CorruptData(f"the build cache is too large: {found.config.size} bytes")
    with source.open_blob(found.config) as chunks:
        raw = b"".join(verified(chunks, found.config))
    if found.config.media_type == CACHE_CONFIG:
        return parse_document(raw, found.layers)
    return parse_inline(raw, found.layers)


class CacheSource:
    """ImageSource for a build cache that is about to leave. `open_layer` opens the blob of a layer."""

    def __init__(self, document: CacheDocument, open_layer: "OpenLayer") -> None:
        raw = encode_document(document)
        config = Descriptor(CACHE_CONFIG, digest_of(raw), len(raw))
        held = {layer.blob.digest: layer.blob for layer in document.layers.values() if layer.blob}
        self._open_layer = open_layer
        self._own = {config.digest: raw}
        if not held:  # image-spec, "Guidance for an Empty Descriptor": registries want at least one layer
            held[digest_of(_NOTHING)] = Descriptor(OCI_EMPTY, digest_of(_NOTHING), len(_NOTHING))
            self._own[digest_of(_NOTHING)] = _NOTHING
        self.manifest = make_manifest(config, [held[digest] for digest in sorted(held)])

    def resolve(self) -> Descriptor:
        return self.manifest.descriptor

    def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        return self.manifest.raw

    def open_blob(self, descriptor: Descriptor, offset: int = 0) -> AbstractContextManager[Iterator[bytes]]:
        if descriptor.digest in self._own:
            return _opened(self._own[descriptor.digest][offset:])
        return self._open_layer.open_blob(descriptor, offset)


class OpenLayer:
    """Opens blobs: those of the store, and for others those of the caches that named them."""

    def __init__(self, here: BlobStore, elsewhere: Mapping[Digest, ImageSource]) -> None:
        self._here = here
        self._elsewhere = elsewhere

    def open_blob(self, descriptor: Descriptor, offset: int = 0) -> AbstractContextManager[Iterator[bytes]]:
        source = self._elsewhere.get(descriptor.digest)
        return source.open_blob(descriptor, offset) if source else self._stored(descriptor, offset)

    @contextmanager
    def _stored(self, descriptor: Descriptor, offset: int) -> Iterator[Iterator[bytes]]:
        with self._here.open(descriptor.digest) as file:
            file.seek(offset)
            yield iter(lambda: file.read(_CHUNK), b"")


@contextmanager
def _opened(data: bytes) -> Iterator[Iterator[bytes]]:
    yield iter([data])


def _records_json(document: CacheDocument) -> list[dict[str, Any]]:
    return [
        {
            "key": record.key,
            "step": record.step,
            "identity": record.identity,
            "created": record.created,
            "parts": [list(part) for part in record.parts],
            "layers": [_layer_json(document, diff_id) for diff_id in record.layers],
            **({"reads": [_reads_json(*reads) for reads in record.reads]} if record.reads else {}),
        }
        for record in sorted(document.records)
    ]


def _reads_json(step: Digest, data: bytes) -> dict[str, str]:
    return {"step": step, "data": base64.b64encode(data).decode()}


def _parse_reads(record: Mapping[str, Any]) -> tuple[tuple[Digest, bytes], ...]:
    try:
        return tuple(
            (_digest(reads, "step"), base64.b64decode(text(reads, "data"), validate=True))
            for reads in objects(record, "reads")
        )
    except ValueError as error:
        raise CorruptData("the build cache has a malformed read set") from error


def _layer_json(document: CacheDocument, diff_id: Digest) -> dict[str, Any]:
    layer = document.layers[diff_id]
    members: dict[str, Any] = {"diffID": diff_id, "size": layer.size}
    return {**members, "digest": layer.blob.digest} if layer.blob else members


def _base_json(base: SharedBase) -> dict[str, Any]:
    return {
        "reference": base.reference,
        "platform": base.platform.to_json(),
        "digest": base.digest,
        "config": base.config.decode(),
    }


def _parse_base(base: Mapping[str, Any]) -> SharedBase:
    platform = Platform.from_json(sub_object(base, "platform"))
    digest = text(base, "digest") and _digest(base, "digest")
    return SharedBase(text(base, "reference"), platform, digest, text(base, "config").encode())


def _parse_records(members: Mapping[str, Any], layers: Mapping[Digest, SharedLayer]) -> tuple[SharedRecord, ...]:
    if integer(members, "version") != VERSION:
        raise CorruptData(f"the build cache has version {members.get('version')!r}, this program reads {VERSION}")
    records = []
    for record in objects(members, "records"):
        diff_ids = tuple(_digest(layer, "diffID") for layer in objects(record, "layers"))
        for diff_id in diff_ids:
            if diff_id not in layers:
                raise CorruptData(f"the build cache's records name the layer {diff_id}, which it does not list")
        created = record.get("created")
        if isinstance(created, bool) or not isinstance(created, int | float) or not 0 <= created < _LATEST:
            raise CorruptData("the build cache has a record without a date")
        parts = tuple(_part(part) for part in items(record, "parts"))
        identity = _digest(record, "identity")
        step = _clean(text(record, "step"))
        reads = _parse_reads(record)
        records.append(SharedRecord(_digest(record, "key"), step, identity, created, parts, diff_ids, reads))
    return tuple(records)


def _part(part: object) -> tuple[str, str]:
    name, value = texts({"part": part}, "part")[:2] if isinstance(part, list) and len(part) == 2 else ("", "")
    if not name:
        raise CorruptData("the build cache has a record with a malformed description")
    return _clean(name), _clean(value)


def _clean(words: str) -> str:
    """`words` without half surrogate pairs, which no database takes."""
    return words.encode(errors="replace").decode()


def _size(layer: Mapping[str, Any]) -> int:
    size = integer(layer, "size")
    if not 0 <= size < _LARGEST:
        raise CorruptData(f"the build cache has a layer of {size} bytes")
    return size


def _digest(members: Mapping[str, Any], field: str) -> Digest:
    try:
        return parse_digest(text(members, field))
    except UserMistake as error:
        raise CorruptData(f"the build cache is malformed: {error}") from error
