"""What a person may call an image, and what other tools see of the store."""

import json
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from moldar.errors import UserMistake
from moldar.image.config import ImageConfig, encode_image_config
from moldar.image.model import (
    OCI_CONFIG,
    OCI_LAYER,
    Descriptor,
    Digest,
    digest_of,
    make_index,
    make_manifest,
)
from moldar.image.reference import parse_reference
from moldar.store.blobs import BlobCorrupt
from moldar.store.images import ImageNotFound
from moldar.store.layout import write_index

FIRST = Digest("sha256:" + "ab" * 32)
SECOND = Digest("sha256:" + "abac" * 16)
LONG = Digest("sha512:" + "cd" * 64)


@pytest.fixture
def store(root: Path, worker: ModuleType) -> Any:
    return worker.Worker(str(root / "home"), 0)


@pytest.fixture
def named(store: Any) -> Any:
    for image in (FIRST, SECOND, LONG):
        store.images.add(image, 1)
    store.images.tag(parse_reference("busybox"), FIRST)
    store.images.tag(parse_reference("busybox:1.36"), SECOND)
    store.images.tag(parse_reference("127.0.0.1:5050/alice/app:v1"), SECOND)
    store.images.tag(parse_reference("abac"), FIRST)
    store.images.tag(parse_reference("sha256:1"), SECOND)
    store.images.add_repository_digest("docker.io/library/busybox", digest_of(b"manifest"), FIRST)
    return store.images


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("busybox", FIRST),
        ("busybox:latest", FIRST),
        ("docker.io/library/busybox", FIRST),
        ("busybox:1.36", SECOND),
        ("127.0.0.1:5050/alice/app:v1", SECOND),
        (f"busybox@{digest_of(b'manifest')}", FIRST),
        (f"busybox:whatever@{digest_of(b'manifest')}", FIRST),
        (FIRST, FIRST),
        (FIRST[7:], FIRST),
        ("ababa", FIRST),
        ("sha256:ababa", FIRST),
        ("abaca", SECOND),
        ("abac", FIRST),  # a name comes before the beginning of an ID
        ("sha256:abac", SECOND),
        ("sha256:1", SECOND),  # here it is a name
        (LONG, LONG),
        ("sha512:cdcd", LONG),
    ],
)
def test_names_of_images(named: Any, text: str, image: Digest) -> None:
    assert named.resolve(text) == image


@pytest.mark.parametrize(
    "text",
    ["nothing", "busybox:2", "alice/app:v1", "cdcd", "abad", "f" * 64, f"sha256:{'f' * 64}", f"sha512:{'f' * 128}",
     f"busybox@{digest_of(b'other')}", f"alice@{digest_of(b'manifest')}"],
)  # fmt: skip
def test_unknown_names(named: Any, text: str) -> None:
    with pytest.raises(ImageNotFound) as caught:
        named.resolve(text)
    assert caught.value.name == text


@pytest.mark.parametrize("text", ["aba", "sha256:a", "ab"])
def test_an_ambiguous_beginning_is_told(named: Any, text: str) -> None:
    with pytest.raises(UserMistake, match="several"):
        named.resolve(text)


@pytest.mark.parametrize("text", ["", "ABAB", "a b", "x:", "-x", "busybox@sha256:12", "x" * 300])
def test_what_is_no_name(named: Any, text: str) -> None:
    with pytest.raises(UserMistake):
        named.resolve(text)


def add_image(store: Any, name: str, *, layer: bytes = b"layer") -> tuple[Digest, Digest]:
    """A whole image under `name`: (image, manifest)."""
    diff_id = store.blobs.put(layer)
    raw = encode_image_config(ImageConfig(author=name, diff_ids=(diff_id,)))
    image = store.blobs.put(raw)
    layers = [Descriptor(OCI_LAYER, diff_id, len(layer))]
    manifest = make_manifest(Descriptor(OCI_CONFIG, image, len(raw)), layers)
    store.blobs.put(manifest.raw)
    store.images.add(image, len(layer))
    store.images.add_manifest(manifest.descriptor, image)
    store.images.tag(parse_reference(name), image)
    return image, manifest.descriptor.digest


def test_other_tools_read_the_store(store: Any, root: Path) -> None:
    empty_tar = b"\0" * 1024
    image, manifest = add_image(store, "127.0.0.1:5050/alice/app:v1", layer=empty_tar)
    assert write_index(store.home, store.images, store.blobs)
    where = f"oci:{store.home.root}:127.0.0.1:5050/alice/app:v1"
    found = subprocess.run(["skopeo", "inspect", where], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout)["Digest"] == manifest
    raw = subprocess.run(["skopeo", "inspect", "--config", "--raw", where], capture_output=True, check=True).stdout
    assert digest_of(raw) == image
    target = f"oci:{root / 'copy'}:x"
    subprocess.run(["skopeo", "copy", "--quiet", "--insecure-policy", where, target], check=True)


def test_only_whole_images_are_listed(store: Any) -> None:
    def listed() -> list[str]:
        document = json.loads(Path(store.home.index_json).read_bytes())
        return [entry["annotations"]["io.containerd.image.name"] for entry in document["manifests"]]

    assert listed_in(store) == []
    add_image(store, "whole")
    add_image(store, "broken", layer=b"other")
    store.images.add(FIRST, 1)
    store.images.tag(parse_reference("built"), FIRST)
    assert write_index(store.home, store.images, store.blobs)
    assert listed() == ["docker.io/library/broken:latest", "docker.io/library/whole:latest"]
    store.blobs.delete(digest_of(b"other"))
    assert write_index(store.home, store.images, store.blobs)
    assert listed() == ["docker.io/library/whole:latest"]
    assert not write_index(store.home, store.images, store.blobs)


def listed_in(store: Any) -> list[Any]:
    entries: list[Any] = json.loads(Path(store.home.index_json).read_bytes())["manifests"]
    return entries


def test_a_tag_on_an_index_lists_the_index_when_all_platforms_are_here(store: Any) -> None:
    image, manifest = add_image(store, "one")
    descriptor = store.images.manifests(image)[0]
    whole = make_index([descriptor])
    lacking = make_index([descriptor, Descriptor(descriptor.media_type, digest_of(b"elsewhere"), 9)])
    for name, index in (("whole", whole), ("lacking", lacking)):
        store.blobs.put(index.raw)
        store.images.tag(parse_reference(name), image, index.descriptor.digest)
    write_index(store.home, store.images, store.blobs)
    assert [entry["digest"] for entry in listed_in(store)] == [manifest, whole.descriptor.digest]


def test_a_damaged_config_is_told(store: Any) -> None:
    image, _ = add_image(store, "x")
    Path(store.blobs.path(image)).write_text("{}")
    with pytest.raises(BlobCorrupt, match=image):
        store.images.config(image)


def test_tagging_again_writes_nothing(store: Any) -> None:
    image, _ = add_image(store, "x")
    before = store.database.row("SELECT updated FROM tags")
    store.images.tag(parse_reference("x"), image)
    store.images.add(image, 9)
    assert store.database.row("SELECT updated FROM tags") == before
