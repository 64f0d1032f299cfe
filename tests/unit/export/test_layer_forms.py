"""Blobs from snapshots and snapshots from blobs."""

import gzip
import hashlib
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from moldar.export.layer_forms import LayerForms, LayerMissing, WrongLayer
from moldar.image.compression import compressor
from moldar.image.layer_write import write_layer
from moldar.image.model import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, Descriptor, digest_of
from moldar.sandbox.copying import CopyingSnapshots

A = {"big": bytes(3_000_000), "etc/": b"", "etc/one": b"1"}
B = {".wh.big": b"", "etc/": b"", "etc/two": b"2"}


def test_blobs_are_made_once_and_remembered(place: Any) -> None:
    image = place.add_image(A, B)
    stack = place.store.images.layers(image)
    first = place.forms.blob(stack[:1])
    assert (first.media_type, first.digest) == (OCI_LAYER_GZIP, digest_of(place.store.blobs.read(first.digest)))
    assert gzip.decompress(place.store.blobs.read(first.digest)) == place.tar_of(A)
    stamp = os.stat(place.store.blobs.path(first.digest)).st_mtime_ns
    assert place.forms.blob(stack[:1]) == first
    assert os.stat(place.store.blobs.path(first.digest)).st_mtime_ns == stamp
    assert place.forms.blob(stack[:1], "none") == Descriptor(OCI_LAYER, stack[0], len(place.tar_of(A)))


def test_force_means_that_very_compression(place: Any) -> None:
    stack = place.store.images.layers(place.add_image(A))
    packed = place.forms.blob(stack)
    assert place.forms.blob(stack, "zstd") == packed
    zstd = place.forms.blob(stack, "zstd", force=True)
    assert zstd.media_type == OCI_LAYER_ZSTD
    raw = place.store.blobs.read(zstd.digest)
    assert zstandard.ZstdDecompressor().decompressobj().decompress(raw) == place.tar_of(A)
    assert place.forms.blob(stack, "gzip", 3, force=True) not in (packed, zstd)
    assert place.forms.blob(stack, "gzip", force=True).media_type == OCI_LAYER_GZIP
    assert place.forms.blob(stack, "zstd") == zstd


def test_a_foreign_blob_is_taken_as_it_is(place: Any) -> None:
    raw = place.tar_of(A)
    foreign = place.store.blobs.put(gzip.compress(raw, 9))
    described = Descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", foreign, 7)
    place.store.layers.add_blob(digest_of(raw), described)
    assert place.forms.blob((digest_of(raw),)) == described._replace(media_type=OCI_LAYER_GZIP)
    raw_form = place.forms.blob((digest_of(raw),), "none", force=True)
    assert place.store.blobs.read(raw_form.digest) == raw


def test_unpacking_makes_every_layer_once(place: Any) -> None:
    stack = tuple(place.store.images.layers(place.add_image(A, B)))
    place.forms.unpacked(stack)
    with place.snapshots.mount(stack) as root:
        assert sorted(os.listdir(root)) == ["etc"]
        assert sorted(os.listdir(f"{root}/etc")) == ["one", "two"]
    for digest in stack:
        place.store.blobs.delete(digest)
    place.forms.unpacked(stack)


def test_a_blob_made_from_a_snapshot_has_the_same_diff_id(place: Any) -> None:
    stack = tuple(place.store.images.layers(place.add_image(A, B, {"etc/": b"", "etc/.wh..wh..opq": b""})))
    place.forms.unpacked(stack)
    for digest in stack:
        place.store.blobs.delete(digest)
    for depth in (1, 2, 3):
        blob = place.forms.blob(stack[:depth], "none")
        assert blob.digest == stack[depth - 1]
        place.store.blobs.delete(blob.digest)
        assert place.forms.blob(stack[:depth], "zstd").media_type == OCI_LAYER_ZSTD


def test_the_changes_of_a_step_become_a_blob(place: Any) -> None:
    base = tuple(place.store.images.layers(place.add_image(A)))
    place.forms.unpacked(base)
    with place.snapshots.prepare(base) as workspace:
        Path(workspace.path, "etc/one").unlink()
        Path(workspace.path, "made").write_bytes(os.urandom(5000))
        hasher = hashlib.sha256()
        write_layer(workspace.changes(), hasher.update)
        stack = (*base, "sha256:" + hasher.hexdigest())
        workspace.commit(stack)
    blob = place.forms.blob(stack)
    assert digest_of(gzip.decompress(place.store.blobs.read(blob.digest))) == stack[-1]


def test_wrong_content_is_noticed_and_leaves_nothing(place: Any) -> None:
    wrong = digest_of(b"something else")
    packed = compressor("gzip")
    blob = place.store.blobs.put(packed.compress(place.tar_of(A)) + packed.flush())
    place.store.layers.add_blob(wrong, Descriptor(OCI_LAYER_GZIP, blob, 1))
    with pytest.raises(WrongLayer, match=wrong):
        place.forms.unpacked((wrong,))
    assert not place.snapshots.has((wrong,))
    for codec in ("none", "zstd"):
        with pytest.raises(WrongLayer, match=wrong):
            place.forms.blob((wrong,), codec, force=True)
    assert os.listdir(place.home.ingest) == []
    assert os.listdir(f"{place.home.snapshots}/work") == []


def test_a_missing_layer_says_so(place: Any) -> None:
    missing = digest_of(b"nowhere")
    for attempt in (place.forms.blob, place.forms.unpacked):
        with pytest.raises(LayerMissing, match=missing):
            attempt((missing,))


def test_layers_that_rely_on_their_parents(place: Any) -> None:
    """Without the directories that they lie in; what is beneath must keep its modes and links."""
    image = place.add_image({"etc/": b"", "etc/one": b"1", "usr/lib/": b"", "usr/lib/x": b"x"}, {"etc/two": b"2"})
    stack = tuple(place.store.images.layers(image))
    place.forms.unpacked(stack[:1])
    directory = Path(place.snapshots.directories(stack[:1])[0])
    os.chmod(directory / "etc", 0o751)
    place.forms.unpacked(stack)
    with place.snapshots.mount(stack) as root:
        assert sorted(os.listdir(f"{root}/etc")) == ["one", "two"]
        assert stat.S_IMODE(os.stat(f"{root}/etc").st_mode) == 0o751


def test_layers_as_whole_trees(place: Any) -> None:
    """Where overlayfs cannot be had."""
    snapshots = CopyingSnapshots(place.home.snapshots + "/copies", place.store.layers)
    forms = LayerForms(place.store.blobs, place.store.layers, snapshots, place.store.protect)
    stack = tuple(place.store.images.layers(place.add_image(A, B, {"etc/three": b"3"})))
    forms.unpacked(stack)
    with snapshots.mount(stack) as root:
        assert sorted(os.listdir(root)) == ["etc"]
        assert sorted(os.listdir(f"{root}/etc")) == ["one", "three", "two"]
    place.store.blobs.delete(stack[1])
    with pytest.raises(LayerMissing, match=stack[1]):
        forms.blob(stack[:2])


def test_two_stores_make_the_same_blobs(make_place: Callable[[str], Any]) -> None:
    one, two = make_place("one"), make_place("two")
    blobs = [place.forms.blobs(tuple(place.store.images.layers(place.add_image(A, B)))) for place in (one, two)]
    assert blobs[0] == blobs[1]


def test_threads_do_not_unpack_the_same_layer_twice(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = tuple(place.store.images.layers(place.add_image(A, B)))
    filled: list[str] = []
    unpack = place.snapshots.unpack

    def counted(part: tuple[str, ...], fill: Callable[[str], int]) -> None:
        filled.append(part[-1])
        unpack(part, fill)

    monkeypatch.setattr(place.snapshots, "unpack", counted)
    threads = [threading.Thread(target=place.forms.unpacked, args=(stack,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert filled == list(stack)
