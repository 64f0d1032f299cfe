"""The nouns of the OCI image specification 1.1, as immutable values.

Manifests, indexes and configs keep the raw bytes that they were read from, because a digest names bytes and
not meaning. Unknown keys of a config survive a round trip through `extra`.

The types are named tuples and not dataclasses: making a frozen slotted dataclass costs about 0.5 ms at import,
a named tuple under 0.1 ms, and a cached build imports all of them.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, NewType

from moldar.errors import CorruptData, UserMistake
from moldar.image.fields import objects, parse_object, sub_object, text, text_map, texts

Digest = NewType("Digest", str)
"""`algorithm:hex` of bytes, sha256 or sha512 (image-spec, descriptor.md, "Digests")."""

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = OCI_LAYER + "+gzip"
OCI_LAYER_ZSTD = OCI_LAYER + "+zstd"
OCI_LAYER_NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = DOCKER_LAYER + ".gzip"
DOCKER_LAYER_FOREIGN_GZIP = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

INDEX_TYPES = (OCI_INDEX, DOCKER_INDEX)
MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)

_DIGEST_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_HEX = frozenset("0123456789abcdef")
_LARGEST = 1 << 63


def parse_digest(text: str) -> Digest:
    """The digest written in `text`; UserMistake if it is none that OCI registers (sha256, sha512)."""
    algorithm, _, hexadecimal = text.partition(":")
    if _DIGEST_HEX_LENGTH.get(algorithm) != len(hexadecimal) or not _HEX.issuperset(hexadecimal):
        raise UserMistake(f"invalid digest {text!r}: expected sha256: or sha512: and lower-case hexadecimal digits")
    return Digest(text)


def digest_of(data: bytes) -> Digest:
    """The sha256 digest of `data`."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def encode_json(document: Any) -> bytes:
    """Compact JSON with the key order given: the same document always gives the same bytes.

    Half surrogate pairs, which are no text and come from names or JSON escapes, become U+FFFD, as in Go.
    """
    encoded = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    try:
        return encoded.encode()
    except UnicodeEncodeError:
        return encoded.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


class Platform(NamedTuple):
    """Operating system and CPU that an image is for, in Go's names."""

    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in self if part)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Platform":
        return cls(text(document, "os"), text(document, "architecture"), text(document, "variant"))

    def to_json(self) -> dict[str, str]:
        document = {"architecture": self.architecture, "os": self.os}
        return document | {"variant": self.variant} if self.variant else document


class Descriptor(NamedTuple):
    """What a blob or manifest is and how to recognise it (image-spec, descriptor.md)."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] | None = None
    platform: Platform | None = None
    urls: tuple[str, ...] = ()
    artifact_type: str = ""

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Descriptor":
        """CorruptData when a required field is missing or of the wrong type."""
        size = document.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < _LARGEST:
            raise CorruptData(f"descriptor with an invalid size {size!r}")
        try:
            digest = parse_digest(text(document, "digest"))
        except UserMistake as error:
            raise CorruptData(f"malformed descriptor: {error}") from error
        platform = sub_object(document, "platform")
        return cls(
            text(document, "mediaType"),
            digest,
            size,
            text_map(document, "annotations") or None,
            Platform.from_json(platform) if platform else None,
            texts(document, "urls"),
            text(document, "artifactType"),
        )

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.urls:
            document["urls"] = list(self.urls)
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        if self.platform:
            document["platform"] = self.platform.to_json()
        if self.artifact_type:
            document["artifactType"] = self.artifact_type
        return document


class Manifest(NamedTuple):
    """An image manifest; `raw` are the bytes that its digest names."""

    raw: bytes
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str]
    subject: Descriptor | None
    artifact_type: str

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, digest_of(self.raw), len(self.raw))


class Index(NamedTuple):
    """An image index (or Docker manifest list); `raw` are the bytes that its digest names."""

    raw: bytes
    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str]
    subject: Descriptor | None

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, digest_of(self.raw), len(self.raw))


def parse_manifest(raw: bytes, media_type: str = "") -> Manifest | Index:
    """The manifest or index in `raw`. `media_type`: what the transport said; the document's own field wins.

    Raises CorruptData for anything that is neither.
    """
    document = parse_object(raw, "manifest")
    media_type = text(document, "mediaType") or media_type
    annotations = text_map(document, "annotations")
    subject = sub_object(document, "subject")
    subject_descriptor = Descriptor.from_json(subject) if subject else None
    if "manifests" in document:
        manifests = tuple(Descriptor.from_json(entry) for entry in objects(document, "manifests"))
        return Index(raw, media_type or OCI_INDEX, manifests, annotations, subject_descriptor)
    if document.get("schemaVersion") == 1:
        raise CorruptData("the manifest has schema version 1, which no current registry serves")
    if not isinstance(document.get("config"), dict):
        raise CorruptData("the manifest names no config")
    layers = tuple(Descriptor.from_json(entry) for entry in objects(document, "layers"))
    config = Descriptor.from_json(document["config"])
    artifact_type = text(document, "artifactType")
    return Manifest(raw, media_type or OCI_MANIFEST, config, layers, annotations, subject_descriptor, artifact_type)


def make_manifest(
    config: Descriptor, layers: Iterable[Descriptor], annotations: Mapping[str, str] | None = None
) -> Manifest:
    """A new OCI manifest over `config` and `layers`, lowest layer first."""
    layers = tuple(layers)
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    if annotations:
        document["annotations"] = dict(annotations)
    return Manifest(encode_json(document), OCI_MANIFEST, config, layers, annotations or {}, None, "")


def make_index(manifests: Iterable[Descriptor], annotations: Mapping[str, str] | None = None) -> Index:
    """A new OCI index over `manifests`."""
    manifests = tuple(manifests)
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [manifest.to_json() for manifest in manifests],
    }
    if annotations:
        document["annotations"] = dict(annotations)
    return Index(encode_json(document), OCI_INDEX, manifests, annotations or {}, None)


def chain_ids(diff_ids: Iterable[Digest]) -> tuple[Digest, ...]:
    """The chain ID of every layer, lowest first (image-spec, config.md, "Layer ChainID")."""
    chain: list[Digest] = []
    for diff_id in diff_ids:
        chain.append(digest_of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return tuple(chain)
