"""`index.json`: what other tools see of the store as an OCI image layout (image-spec, image-layout.md).

It lists the tags whose manifest is made and whose blobs are all here; an image that was only built and never
pushed or saved has no manifest yet. `skopeo inspect oci:$MOLDAR_HOME:docker.io/library/busybox:latest` finds the
image by the annotation `org.opencontainers.image.ref.name`, containerd's tools by `io.containerd.image.name`.
"""

import fcntl

from moldar.errors import CorruptData, HostTrouble, NotFound
from moldar.image.model import Descriptor, Digest, Index, encode_json, parse_manifest
from moldar.store.blobs import BlobStore
from moldar.store.home import Home
from moldar.store.images import ImageTable, Tag


def write_index(home: Home, images: ImageTable, blobs: BlobStore) -> bool:
    """Bring index.json up to date: written whole under a lock and renamed into place; HostTrouble.

    Gives whether it had to be written; what is right already is left alone.
    """
    try:
        with open(home.index_json + ".lock", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # before the tags are read, so that the last to write has seen them all
            document = encode_json(
                {
                    "schemaVersion": 2,
                    "mediaType": "application/vnd.oci.image.index.v1+json",
                    "manifests": [entry.to_json() for entry in index_entries(images, blobs)],
                }
            )
            if _present(home.index_json) == document:
                return False
            home.replace(home.index_json, document)
            return True
    except OSError as error:
        raise HostTrouble(f"cannot write {home.index_json}: {error.strerror}") from error


def index_entries(images: ImageTable, blobs: BlobStore) -> list[Descriptor]:
    """A descriptor, with its name in the annotations, for every tag of which everything is here."""
    entries = []
    for tag in images.tags():
        for manifest in _candidates(tag, images, blobs):
            if is_complete(manifest.digest, blobs):
                names = {"org.opencontainers.image.ref.name": tag.name, "io.containerd.image.name": tag.name}
                entries.append(manifest._replace(annotations=names))
                break
    return entries


def is_complete(digest: Digest, blobs: BlobStore) -> bool:
    """Whether a manifest or index is here with all that it refers to."""
    try:
        document = parse_manifest(blobs.read(digest))
    except (NotFound, CorruptData):
        return False
    if isinstance(document, Index):
        return all(is_complete(entry.digest, blobs) for entry in document.manifests)
    return all(blobs.has(part.digest) for part in (document.config, *document.layers))


def _candidates(tag: Tag, images: ImageTable, blobs: BlobStore) -> list[Descriptor]:
    known = images.manifests(tag.image)
    if tag.manifest is None:
        return known
    named = [manifest for manifest in known if manifest.digest == tag.manifest]
    if not named and blobs.has(tag.manifest):  # an index, which belongs to no single image
        try:
            document = parse_manifest(blobs.read(tag.manifest))
        except CorruptData:
            return []
        named = [document.descriptor._replace(digest=tag.manifest)]
    return named


def _present(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""
