"""Images in archives and layout directories, as sources to copy from: OCI image layouts and docker's archives.

An archive that is both, as `docker save` writes today, is read as OCI, with the tags that manifest.json adds.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from moldar.errors import Unsupported, UserMistake
from moldar.export.archive_files import BadArchive, Files, NoSuchFile, open_files, read_file
from moldar.export.layout_write import CONTAINERD_NAME, DOCKER_FILE, INDEX_FILE, LAYOUT_FILE, REF_NAME
from moldar.image.compression import MEDIA_TYPE
from moldar.image.config import parse_image_config
from moldar.image.decompression import detect
from moldar.image.model import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    Descriptor,
    Digest,
    Index,
    digest_of,
    make_manifest,
    parse_digest,
    parse_manifest,
)
from moldar.image.reference import Reference, parse_reference
from moldar.image.transfer import MANIFEST_LIMIT, ImageSource

_CONFIG_LIMIT = 16 << 20


class ArchiveImage(NamedTuple):
    """One image of an archive. `native` when its manifest is the archive's own and worth keeping."""

    source: ImageSource
    names: tuple[Reference, ...]
    native: bool


class LayoutSource:
    """ImageSource for one image of an OCI image layout."""

    def __init__(self, files: Files, root: Descriptor) -> None:
        self._files = files
        self._root = root

    def resolve(self) -> Descriptor:
        return self._root

    def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        return read_file(self._files, _blob_path(descriptor.digest), MANIFEST_LIMIT)

    @contextmanager
    def open_blob(self, descriptor: Descriptor, offset: int = 0) -> Iterator[Iterator[bytes]]:
        yield self._files.chunks(_blob_path(descriptor.digest), offset)


class DockerSource:
    """ImageSource for one image of a docker-archive, with a manifest made up from manifest.json.

    Layers are named by what they hold, so plain tars, which have their diff ID, need not be read to know them.
    """

    def __init__(self, files: Files, config: str, layers: Sequence[str]) -> None:
        self._files = files
        self._paths: dict[Digest, str] = {}
        raw = read_file(files, config, _CONFIG_LIMIT)
        image = parse_image_config(raw)
        if len(image.diff_ids) != len(layers):
            raise BadArchive(f"{config} lists {len(image.diff_ids)} layers and {DOCKER_FILE} {len(layers)}")
        descriptors = [self._layer(path, diff_id) for path, diff_id in zip(layers, image.diff_ids, strict=True)]
        self._paths[digest_of(raw)] = config
        self._manifest = make_manifest(Descriptor(OCI_CONFIG, digest_of(raw), len(raw)), descriptors)

    def resolve(self) -> Descriptor:
        return self._manifest.descriptor

    def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        return self._manifest.raw

    @contextmanager
    def open_blob(self, descriptor: Descriptor, offset: int = 0) -> Iterator[Iterator[bytes]]:
        yield self._files.chunks(self._paths[descriptor.digest], offset)

    def _layer(self, path: str, diff_id: Digest) -> Descriptor:
        size = self._files.size(path)
        codec = detect(next(self._files.chunks(path), b""))
        media_type, digest = OCI_LAYER, diff_id
        if codec != "none":
            if codec not in ("gzip", "zstd"):
                raise Unsupported(f"{path} of the archive is compressed with {codec}")
            media_type = MEDIA_TYPE["gzip" if codec == "gzip" else "zstd"]
            hasher = hashlib.sha256()
            for chunk in self._files.chunks(path):
                hasher.update(chunk)
            digest = Digest("sha256:" + hasher.hexdigest())
        self._paths[digest] = path
        return Descriptor(media_type, digest, size)


@contextmanager
def open_archive(source: str | int, spool: str) -> Iterator[tuple[ArchiveImage, ...]]:
    """The images of an archive or layout directory, good while the context lasts.

    `source` is a path, or a descriptor such as stdin's; `spool` a directory for what must be copied to be read.
    Raises BadArchive, Unsupported, NotFound, HostTrouble.
    """
    files = open_files(source, spool)
    try:
        yield _images(files)
    finally:
        files.close()


def _images(files: Files) -> tuple[ArchiveImage, ...]:
    if files.has(INDEX_FILE) and files.has(LAYOUT_FILE):
        return _layout_images(files)
    if files.has(DOCKER_FILE):
        return _docker_images(files)
    if files.has("repositories"):
        raise Unsupported("the archive is of a Docker older than 1.10", hint="save it again with a newer one")
    raise BadArchive(
        "not an image archive: it has neither index.json nor manifest.json",
        hint="a root file system is imported with `FROM scratch` and ADD",
    )


def _layout_images(files: Files) -> tuple[ArchiveImage, ...]:
    index = parse_manifest(read_file(files, INDEX_FILE, MANIFEST_LIMIT), OCI_INDEX)
    if not isinstance(index, Index):
        raise BadArchive(f"{INDEX_FILE} is no image index")
    tags = _docker_tags(files) if files.has(DOCKER_FILE) else {}
    roots: dict[Digest, Descriptor] = {}
    names: dict[Digest, list[Reference]] = {}
    for entry in index.manifests:
        if entry.platform and entry.platform.os == "unknown":
            continue  # attestations are reached through their image
        annotations = entry.annotations or {}
        roots.setdefault(entry.digest, entry._replace(annotations=None))
        named = _name(annotations.get(CONTAINERD_NAME) or annotations.get(REF_NAME) or "")
        names.setdefault(entry.digest, []).extend(named)
    for digest, root in roots.items():
        names[digest] += [tag for tag in tags.get(_config_of(files, root), ()) if tag not in names[digest]]
    if not roots:
        raise BadArchive("the archive lists no image")
    return tuple(
        ArchiveImage(LayoutSource(files, root), tuple(dict.fromkeys(names[digest])), True)
        for digest, root in roots.items()
    )


def _config_of(files: Files, root: Descriptor) -> str:
    """Where manifest.json would say that the config of an image manifest lies; empty for an index."""
    try:
        document = parse_manifest(read_file(files, _blob_path(root.digest), MANIFEST_LIMIT), root.media_type)
    except NoSuchFile:
        raise BadArchive(f"{INDEX_FILE} names the manifest {root.digest}, which the archive lacks") from None
    return "" if isinstance(document, Index) else _blob_path(document.config.digest)


def _docker_tags(files: Files) -> dict[str, list[Reference]]:
    return {
        entry["Config"]: [name for tag in entry.get("RepoTags") or () for name in _name(tag)]
        for entry in _docker_entries(files)
    }


def _docker_images(files: Files) -> tuple[ArchiveImage, ...]:
    entries = _docker_entries(files)
    if not entries:
        raise BadArchive("the archive lists no image")
    return tuple(
        ArchiveImage(
            DockerSource(files, entry["Config"], entry.get("Layers") or ()),
            tuple(name for tag in entry.get("RepoTags") or () for name in _name(tag)),
            False,
        )
        for entry in entries
    )


def _docker_entries(files: Files) -> list[dict[str, Any]]:
    try:
        document = json.loads(read_file(files, DOCKER_FILE, MANIFEST_LIMIT))
    except ValueError as error:
        raise BadArchive(f"{DOCKER_FILE} is not JSON: {error}") from error
    if not isinstance(document, list) or not all(_well_formed(entry) for entry in document):
        raise BadArchive(f"{DOCKER_FILE} is no list of images")
    return document


def _well_formed(entry: object) -> bool:
    """Whether an entry has a config and lists of strings for the rest."""
    if not isinstance(entry, dict) or not isinstance(entry.get("Config"), str):
        return False
    lists = (entry.get("Layers") or [], entry.get("RepoTags") or [])
    return all(isinstance(found, list) and all(isinstance(item, str) for item in found) for found in lists)


def _name(text: str) -> list[Reference]:
    """The reference that a name in an archive means; nothing for a bare tag or what is no reference."""
    if "/" not in text and ":" not in text:
        return []  # a bare ref.name, such as skopeo writes, is a tag of nothing
    try:
        return [parse_reference(text)]
    except UserMistake:
        return []


def _blob_path(digest: str) -> str:
    algorithm, _, hexadecimal = parse_digest(digest).partition(":")
    return f"blobs/{algorithm}/{hexadecimal}"
