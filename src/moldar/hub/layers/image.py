"""What a page shows of an image: its platforms, its layers with the instructions that made them, its config.

Everything here was pushed by somebody and is shown to somebody else: it is read leniently, bounded, and never trusted
to be consistent.
"""

import json
import re
from typing import NamedTuple

from moldar.errors import CorruptData
from moldar.hub.registry.manifests import Manifests, artifact_type
from moldar.hub.services import Hub
from moldar.image.config import ImageConfig, parse_image_config
from moldar.image.model import (
    DOCKER_CONFIG,
    OCI_CONFIG,
    Descriptor,
    Digest,
    Index,
    Manifest,
    Platform,
    parse_manifest,
)

_CONFIG_LIMIT = 4 * 1024 * 1024
_SHOWN_TEXT = 4000
_SHOWN_LAYERS = 500
_NOP = re.compile(r"^(?:/bin/sh -c )?#\(nop\)\s*")
_SHELL = re.compile(r"^(?:RUN )?(?:\|\d+ (?:[^ ]+=[^ ]* )*)?/bin/(?:ba|da)?sh -c ")


class LayerView(NamedTuple):
    """One layer. `instruction` is empty when the config does not say; `share`: percent of the largest layer."""

    number: int
    digest: str
    size: int
    media_type: str
    instruction: str
    share: float


class ImageView(NamedTuple):
    """One image of one platform. `config` is None for an artifact that is no container image."""

    digest: str
    media_type: str
    artifact_type: str
    size: int
    layers: tuple[LayerView, ...]
    config: ImageConfig | None


class PlatformLink(NamedTuple):
    """An image within an index."""

    name: str
    digest: Digest


class Summary(NamedTuple):
    """A row of the tag list: bytes to download (of the first platform of an index) and platforms."""

    size: int
    platforms: tuple[str, ...]


class ImageViews:
    """Makes views; remembers those of digests, which never change."""

    def __init__(self, hub: Hub, limit: int = 512) -> None:
        self._hub = hub
        self._manifests: Manifests = hub.manifests
        self._limit = limit
        self._summaries: dict[tuple[str, str], Summary] = {}

    def platforms(self, repository: str, reference: str) -> tuple[PlatformLink, ...]:
        """The images of an index; empty for a single image and for what is not there."""
        document = self._document(repository, reference)
        if not isinstance(document, Index):
            return ()
        return tuple(
            PlatformLink(_platform_name(entry.platform) or entry.digest[:19], entry.digest)
            for entry in document.manifests
            if not _is_attestation(entry)
        )

    def image(self, repository: str, reference: str) -> ImageView | None:
        """The image of a tag or digest; None for an index and for what is not there."""
        document = self._document(repository, reference)
        if not isinstance(document, Manifest):
            return None
        stored = self._manifests.get(repository, reference)
        config = self._config(repository, document.config)
        return ImageView(
            stored.digest if stored else "",
            document.media_type,
            artifact_type(document),
            document.config.size + sum(layer.size for layer in document.layers),
            _layers(document, config),
            config,
        )

    def summary(self, repository: str, digest: Digest) -> Summary:
        key = (repository, digest)
        found = self._summaries.get(key)
        if found is None:
            found = self._summarise(repository, digest)
            if len(self._summaries) >= self._limit:
                self._summaries.pop(next(iter(self._summaries)))
            self._summaries[key] = found
        return found

    def _summarise(self, repository: str, digest: Digest) -> Summary:
        document = self._document(repository, digest)
        if isinstance(document, Index):
            links = self.platforms(repository, digest)
            first = self._document(repository, links[0].digest) if links else None
            size = _download_size(first) if isinstance(first, Manifest) else 0
            return Summary(size, tuple(link.name for link in links))
        if isinstance(document, Manifest):
            config = self._config(repository, document.config)
            platform = _platform_name(config.platform) if config else ""
            return Summary(_download_size(document), (platform,) if platform else ())
        return Summary(0, ())

    def _document(self, repository: str, reference: str) -> Manifest | Index | None:
        stored = self._manifests.get(repository, reference)
        if stored is None:
            return None
        try:
            return parse_manifest(stored.content, stored.media_type)
        except CorruptData:
            return None

    def _config(self, repository: str, descriptor: Descriptor) -> ImageConfig | None:
        if descriptor.media_type not in (OCI_CONFIG, DOCKER_CONFIG):
            return None
        size = self._hub.blobs.size(repository, descriptor.digest)
        if size is None or size > _CONFIG_LIMIT:
            return None
        reader = self._hub.blobs.open(descriptor.digest)
        try:
            return parse_image_config(b"".join(reader.chunks(0, size)))
        except (CorruptData, RecursionError):
            return None
        finally:
            reader.close()


def instruction_of(created_by: str) -> str:
    """A history entry as its Dockerfile line: without the shells and markers that builders put around it."""
    text = created_by.strip().removesuffix("# buildkit").strip()
    if _NOP.match(text):
        return _NOP.sub("", text)[:_SHOWN_TEXT]
    if _SHELL.match(text):
        return ("RUN " + _SHELL.sub("", text))[:_SHOWN_TEXT]
    return text[:_SHOWN_TEXT]


def command_text(words: tuple[str, ...] | None) -> str:
    """An entrypoint or command as the JSON list that a Dockerfile has."""
    return json.dumps([str(word) for word in words], ensure_ascii=False)[:_SHOWN_TEXT] if words else ""


def _layers(manifest: Manifest, config: ImageConfig | None) -> tuple[LayerView, ...]:
    made = [entry.created_by for entry in config.history if not entry.empty_layer] if config else []
    if len(made) != len(manifest.layers):
        made = [""] * len(manifest.layers)
    largest = max((layer.size for layer in manifest.layers), default=0) or 1
    return tuple(
        LayerView(
            number,
            layer.digest,
            layer.size,
            layer.media_type,
            instruction_of(str(created_by)),
            round(max(100 * layer.size / largest, 0.6), 1),
        )
        for number, (layer, created_by) in enumerate(
            zip(manifest.layers[:_SHOWN_LAYERS], made[:_SHOWN_LAYERS], strict=True), 1
        )
    )


def _platform_name(platform: Platform | None) -> str:
    return "/".join(str(part) for part in platform or () if part)[:64]


def _download_size(manifest: Manifest) -> int:
    return manifest.config.size + sum(layer.size for layer in manifest.layers)


def _is_attestation(descriptor: Descriptor) -> bool:
    annotations = descriptor.annotations if isinstance(descriptor.annotations, dict) else {}
    return annotations.get("vnd.docker.reference.type") == "attestation-manifest"
