"""The document of a build cache, and the directory that keeps it."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from moldar.errors import CorruptData, NotFound
from moldar.export.build_cache import (
    CACHE_CONFIG,
    CacheDocument,
    CacheSource,
    NoBuildCache,
    OpenLayer,
    SharedBase,
    SharedLayer,
    SharedMount,
    SharedRecord,
    encode_document,
    inline_document,
    parse_document,
    parse_inline,
    read_caches,
)
from moldar.export.cache_layout import LayoutDirectory, open_layout
from moldar.image.config import INLINE_CACHE
from moldar.image.model import (
    OCI_CONFIG,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    Descriptor,
    Digest,
    Platform,
    digest_of,
    encode_json,
    make_index,
    make_manifest,
)
from moldar.image.transfer import NoSuchPlatform, copy
from moldar.store.blobs import BlobStore
from moldar.store.home import Home


def digest(word: str) -> Digest:
    return digest_of(word.encode())


LOW, HIGH, NAMED = digest("low"), digest("high"), digest("named")
BLOB = Descriptor(OCI_LAYER_GZIP, digest("low, compressed"), 10)
RAW = Descriptor(OCI_LAYER, HIGH, 4)
FIRST = SharedRecord(digest("key 1"), "COPY a", digest("result 1"), 1.5, (("the user", "me"),), (LOW,))
SECOND = SharedRecord(digest("key 2"), "RUN b", digest("result 2"), 2.0, (), (HIGH,))
THIRD = SharedRecord(digest("key 3"), "RUN c", digest("result 3"), 3.0, (), (NAMED,))
LAYERS = {LOW: SharedLayer(20, BLOB), HIGH: SharedLayer(4, RAW), NAMED: SharedLayer(5, None)}
BASE = SharedBase("docker.io/library/x:1", Platform("linux", "arm64", "v8"), digest("manifest"), b'{"os":"linux"}')
DOCUMENT = CacheDocument((FIRST, SECOND, THIRD), LAYERS, (BASE,), (SharedMount(digest("/cache"), LOW),))


def test_a_document_is_read_as_it_was_written() -> None:
    found = parse_document(encode_document(DOCUMENT), [BLOB, RAW])
    assert set(found.records) == set(DOCUMENT.records)
    assert found.layers == LAYERS
    assert found[2:] == DOCUMENT[2:]


def test_the_order_in_which_things_were_found_does_not_matter() -> None:
    layers = {diff_id: LAYERS[diff_id] for diff_id in reversed(LAYERS)}
    other = DOCUMENT._replace(records=(THIRD, SECOND, FIRST), layers=layers)
    assert encode_document(other) == encode_document(DOCUMENT)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "version 2"),
        ({"version": None}, "version None"),
        ({"layers": []}, "which it does not list"),
        ({"layers": [{"diffID": "sha256:1", "size": 1}]}, "malformed"),
        ({"layers": [{"diffID": LOW, "size": "1"}]}, "size is not a whole number"),
        ({"layers": [{"diffID": LOW, "size": 1, "digest": digest("elsewhere")}]}, "does not list"),
        ({"records": [{}]}, "without a date"),
        ({"records": [{"created": 1}]}, "malformed"),
        ({"records": [{"created": True}]}, "without a date"),
        ({"records": [{"created": float("nan")}]}, "without a date"),
        ({"records": [{"created": 1e300}]}, "without a date"),
        ({"layers": [{"diffID": LOW, "size": -1}]}, "layer of -1 bytes"),
        ({"records": 3}, "records is not a list"),
        ({"records": [{"created": 1, "key": LOW, "identity": LOW, "parts": [["a"]]}]}, "malformed description"),
        ({"records": [{"created": 1, "key": LOW, "identity": LOW, "parts": [[1, 2]]}]}, "not a list of texts"),
        ({"mounts": [{"id": LOW}]}, "malformed"),
        ({"bases": [{"reference": 1}]}, "reference is not text"),
    ],
)
def test_what_is_malformed_is_refused(change: dict[str, object], words: str) -> None:
    members = {**json.loads(encode_document(DOCUMENT)), **change}
    with pytest.raises(CorruptData, match=words):
        parse_document(encode_json(members), [BLOB, RAW])


def test_an_image_config_brings_records_and_the_manifest_their_layers() -> None:
    inline = inline_document(CacheDocument((FIRST,), {LOW: SharedLayer(20, None)}))
    config = {"rootfs": {"diff_ids": [HIGH, LOW]}, INLINE_CACHE: inline}
    found = parse_inline(encode_json(config), [RAW, BLOB])
    assert found.records == (FIRST,)
    assert found.layers == {LOW: SharedLayer(20, BLOB)}
    assert parse_inline(encode_json(config), ()).layers == {LOW: SharedLayer(20, None)}
    with pytest.raises(CorruptData, match="lists 2 layers, its manifest 1"):
        parse_inline(encode_json(config), [RAW])
    with pytest.raises(NoBuildCache):
        parse_inline(encode_json({"rootfs": {"diff_ids": []}}), ())


class NoLayers(OpenLayer):
    """Serves three bytes for every blob."""

    def __init__(self) -> None:
        pass

    def open_blob(self, descriptor: Descriptor, offset: int = 0) -> AbstractContextManager[Iterator[bytes]]:
        @contextmanager
        def opened() -> Iterator[Iterator[bytes]]:
            yield iter([b"abc"])

        return opened()


def write(root: Path, document: CacheDocument, tag: str = "latest") -> None:
    layout = LayoutDirectory(str(root), tag)
    with layout.locked():
        copy(CacheSource(document, NoLayers()), layout)


def cache_of(name: str) -> CacheDocument:
    blob = Descriptor(OCI_LAYER, digest_of(b"abc"), 3)
    record = SharedRecord(digest(name), name, digest(name), 1.0, (), (blob.digest,))
    return CacheDocument((record,), {blob.digest: SharedLayer(3, blob)})


def test_a_directory_keeps_a_cache_for_each_tag_and_no_rest(tmp_path: Path) -> None:
    for name, tag in (("one", "a"), ("two", "b"), ("three", "a")):
        write(tmp_path, cache_of(name), tag)
    steps = {tag: read_caches(open_layout(str(tmp_path), tag), ())[0].records[0].step for tag in ("a", "b")}
    assert steps == {"a": "three", "b": "two"}
    assert len(list((tmp_path / "blobs/sha256").iterdir())) == 5, "two manifests, two documents, one layer"
    with pytest.raises(NotFound, match="with the tag 'c'"):
        open_layout(str(tmp_path), "c")


def test_blobs_of_others_in_the_directory_stay(tmp_path: Path) -> None:
    write(tmp_path, cache_of("one"))
    index = json.loads((tmp_path / "index.json").read_text())
    foreign = tmp_path / "blobs/sha256" / ("0" * 64)
    foreign.write_text("{}")
    index["manifests"].append({**index["manifests"][0], "digest": "sha256:" + "0" * 64, "size": 2, "annotations": {}})
    (tmp_path / "index.json").write_text(json.dumps(index))
    before = set((tmp_path / "blobs/sha256").iterdir())
    write(tmp_path, cache_of("two"))
    assert before <= set((tmp_path / "blobs/sha256").iterdir())


def test_a_layer_that_lies_about_its_digest_does_not_get_in(tmp_path: Path) -> None:
    wrong = {LOW: SharedLayer(3, Descriptor(OCI_LAYER, LOW, 3))}
    with pytest.raises(CorruptData):
        write(tmp_path, CacheDocument((FIRST,), wrong))
    assert not list((tmp_path / "blobs/sha256").iterdir())


def test_an_empty_cache_has_the_layer_that_registries_want(tmp_path: Path) -> None:
    source = CacheSource(CacheDocument(), OpenLayer(BlobStore(Home.open(str(tmp_path / "store"))), {}))
    assert [layer.media_type for layer in source.manifest.layers] == ["application/vnd.oci.empty.v1+json"]
    assert source.manifest.config.media_type == CACHE_CONFIG
    layout = LayoutDirectory(str(tmp_path / "cache"))
    with layout.locked():
        copy(source, layout)
    assert read_caches(open_layout(str(tmp_path / "cache")), ())[0].records == ()


class IndexSource:
    """An index in memory: manifests by platform, and whatever blobs they need."""

    def __init__(self, images: dict[Platform, dict[str, object]]) -> None:
        self._blobs: dict[str, bytes] = {}
        entries = []
        for platform, config in images.items():
            raw = encode_json({"rootfs": {"diff_ids": [LOW]}, **config})
            manifest = make_manifest(Descriptor(OCI_CONFIG, digest_of(raw), len(raw)), [BLOB])
            self._blobs |= {digest_of(raw): raw, manifest.descriptor.digest: manifest.raw}
            entries.append(manifest.descriptor._replace(platform=platform))
        self._index = make_index(entries)
        self._blobs[self._index.descriptor.digest] = self._index.raw

    def resolve(self) -> Descriptor:
        return self._index.descriptor

    def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        return self._blobs[descriptor.digest]

    @contextmanager
    def open_blob(self, descriptor: Descriptor, offset: int = 0) -> Iterator[Iterator[bytes]]:
        yield iter([self._blobs[descriptor.digest][offset:]])


def test_of_an_index_the_caches_of_the_wanted_platforms_are_read() -> None:
    amd, arm, other = Platform(), Platform("linux", "arm64"), Platform("linux", "s390x")
    inline = {INLINE_CACHE: inline_document(CacheDocument((FIRST,), {LOW: SharedLayer(20, None)}))}
    source = IndexSource({amd: inline, arm: {**inline, "architecture": "arm64"}, other: {}})
    assert [cache.layers for cache in read_caches(source, (amd, arm, other))] == [{LOW: SharedLayer(20, BLOB)}] * 2
    assert len(read_caches(source, (arm, Platform("linux", "mips64le")))) == 1
    with pytest.raises(NoBuildCache):
        read_caches(source, (other,))
    with pytest.raises(NoSuchPlatform):
        read_caches(source, (Platform("linux", "mips64le"),))
