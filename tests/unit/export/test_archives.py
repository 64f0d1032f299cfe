"""Saving and loading: our own archives, and those of skopeo, buildah, umoci and older tools."""

import gzip
import io
import json
import os
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from moldar.errors import CorruptData, MoldarError, NotFound, Unsupported
from moldar.export.archive_files import BadArchive
from moldar.export.archive_read import open_archive
from moldar.export.layout_write import DirectoryTarget, LayoutWriter, TarTarget
from moldar.export.store_image import BadImageLayer, NotAnImage, Packing, StoreImage, receive
from moldar.image.model import (
    OCI_CONFIG,
    OCI_LAYER_GZIP,
    Descriptor,
    Digest,
    Platform,
    digest_of,
    encode_json,
    make_index,
    make_manifest,
    parse_manifest,
)
from moldar.image.reference import parse_reference
from moldar.image.transfer import copy
from moldar.store.blobs import BlobCorrupt

LAYERS = ({"bin/": b"", "bin/true": b"#!/bin/sh\n"}, {"etc/": b"", "etc/motd": b"hello\n" * 1000})


def save(place: Any, path: Path, images: dict[Digest, list[str]], *, docker: bool = True, **options: Any) -> None:
    with path.open("wb") as file:
        writer = LayoutWriter(TarTarget(file.write), docker=docker)
        for image, names in images.items():
            source = StoreImage(place.store, place.forms, image, **options)
            copy(source, writer.sink([parse_reference(name) for name in names]), jobs=1)
        writer.close()


def load(place: Any, source: str | int | Path) -> dict[Digest, list[str]]:
    found = {}
    with open_archive(source if isinstance(source, int) else str(source), place.home.ingest) as images:
        for image in images:
            loaded = receive(image.source, place.store, image.names, platform=Platform(), native=image.native)
            found[loaded] = [name.familiar for name in image.names]
    return found


def run(*command: str | Path, **options: Any) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def test_a_saved_image_comes_back_byte_for_byte(make_place: Callable[[str], Any], tmp_path: Path) -> None:
    one, two = make_place("one"), make_place("two")
    image = one.add_image(*LAYERS, tag="my-server")
    other = one.add_image(LAYERS[0], {"x": b"x"})
    save(one, tmp_path / "a.tar", {image: ["my-server", "alice/app:v1"], other: []})
    assert load(two, tmp_path / "a.tar") == {image: ["my-server:latest", "alice/app:v1"], other: []}
    assert two.store.images.resolve("alice/app:v1") == image
    assert two.store.images.get(image).size == one.store.images.get(image).size
    assert two.store.images.manifests(image) == one.store.images.manifests(image)
    save(two, tmp_path / "b.tar", {image: ["my-server", "alice/app:v1"], other: []})
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    two.forms.unpacked(tuple(two.store.images.layers(image)))


def test_the_kernel_copies_the_same_bytes(place: Any, tmp_path: Path) -> None:
    noise = os.urandom(3_000_001)
    image = place.add_image({"noise": noise}, {"small": b"x"}, tag="big")

    def write(target: TarTarget | DirectoryTarget) -> None:
        writer = LayoutWriter(target, docker=False)
        copy(StoreImage(place.store, place.forms, image), writer.sink([parse_reference("big")]), jobs=1)
        writer.close()

    for name in ("plain", "copied"):
        with (tmp_path / name).open("wb", buffering=0) as file:
            write(TarTarget(file.write, file.fileno() if name == "copied" else None))
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "copied").read_bytes()
    write(DirectoryTarget(str(tmp_path / "layout")))
    with tarfile.open(tmp_path / "copied") as archive:
        for member in archive.getmembers():
            if member.isfile():
                content = archive.extractfile(member)
                assert content and content.read() == (tmp_path / "layout" / member.name).read_bytes()


def test_a_pulled_image_keeps_manifest_and_blobs(make_place: Callable[[str], Any], tmp_path: Path) -> None:
    """Whatever its media types and compression are."""
    one, two = make_place("one"), make_place("two")
    image = one.add_image(*LAYERS)
    source = StoreImage(one.store, one.forms, image, packing=Packing("zstd", 7, True), annotations={"made": "there"})
    manifest = source.resolve()
    receive(source, two.store, [parse_reference("there")], repository="registry.example/there")
    again = StoreImage(two.store, two.forms, image).resolve()
    assert again == manifest
    assert two.store.images.find_tag(parse_reference("there")).manifest == manifest.digest
    assert two.store.images.repository_digests(image) == [("registry.example/there", manifest.digest)]


def test_other_names_prefer_their_own_manifest(place: Any) -> None:
    image = place.add_image(*LAYERS)
    plain = StoreImage(place.store, place.forms, image).resolve()
    zstd = StoreImage(place.store, place.forms, image, packing=Packing("zstd", force=True)).resolve()
    place.store.images.add_manifest(zstd, image)
    for wanted in (plain, zstd):
        assert StoreImage(place.store, place.forms, image, manifest=wanted.digest).resolve() == wanted


def test_layers_are_gzip_by_default_and_the_manifest_is_made_once(place: Any) -> None:
    image = place.add_image(*LAYERS)
    source = StoreImage(place.store, place.forms, image)
    descriptor = source.resolve()
    manifest: Any = parse_manifest(source.fetch_manifest(descriptor))
    assert [layer.media_type for layer in manifest.layers] == [OCI_LAYER_GZIP] * 2
    assert manifest.config.digest == image
    assert StoreImage(place.store, place.forms, image).resolve() == descriptor
    assert [found.digest for found in place.store.images.manifests(image)] == [descriptor.digest]
    place.store.blobs.delete(manifest.layers[0].digest)
    assert StoreImage(place.store, place.forms, image).resolve() == descriptor


def test_archives_from_a_pipe_and_compressed(make_place: Callable[[str], Any], tmp_path: Path) -> None:
    one = make_place("one")
    image = one.add_image(*LAYERS)
    save(one, tmp_path / "a.tar", {image: ["piped"]})
    raw = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(raw))
    assert load(make_place("two"), tmp_path / "a.tar.gz") == {image: ["piped:latest"]}
    for number, data in enumerate((raw, gzip.compress(raw))):
        reader, writer = os.pipe()
        feeder = threading.Thread(target=lambda out=writer, data=data: (os.write(out, data), os.close(out)))
        feeder.start()
        try:
            assert load(make_place(f"pipe{number}"), reader) == {image: ["piped:latest"]}
        finally:
            feeder.join()
            os.close(reader)


def test_layout_directories(make_place: Callable[[str], Any], tmp_path: Path) -> None:
    one = make_place("one")
    image = one.add_image(*LAYERS)
    writer = LayoutWriter(DirectoryTarget(str(tmp_path / "layout")), docker=False)
    copy(StoreImage(one.store, one.forms, image), writer.sink([parse_reference("there:v2")]))
    writer.close()
    assert sorted(os.listdir(tmp_path / "layout")) == ["blobs", "index.json", "oci-layout"]
    assert load(make_place("two"), tmp_path / "layout") == {image: ["there:v2"]}


@pytest.fixture
def storage() -> Iterator[list[str]]:
    """Flags for a storage of podman's and buildah's own; podman wants its path short."""
    base = tempfile.mkdtemp(dir="/dev/shm")
    flags = ["--root", f"{base}/root", "--runroot", f"{base}/run", "--storage-driver", "vfs"]
    yield flags
    run("buildah", *flags, "rm", "--all")
    run("rm", "-rf", base)


def test_an_index_of_platforms_with_attestations(make_place: Callable[[str], Any], tmp_path: Path) -> None:
    one, two = make_place("one"), make_place("two")
    arm_image = one.add_image(*LAYERS, architecture="arm64")
    image = one.add_image(*LAYERS)
    blobs = one.store.blobs
    statement = blobs.put(b'{"_type":"statement"}')
    described = Descriptor("application/vnd.in-toto+json", statement, blobs.size(statement))
    attestation = make_manifest(Descriptor(OCI_CONFIG, blobs.put(b"{}"), 2), [described])
    blobs.put(attestation.raw)
    entries = [
        StoreImage(one.store, one.forms, each).resolve()._replace(platform=platform)
        for each, platform in ((arm_image, Platform("linux", "arm64")), (image, Platform()))
    ]
    index = make_index([*entries, attestation.descriptor._replace(platform=Platform("unknown", "unknown"))])
    blobs.put(index.raw)
    source = StoreImage(one.store, one.forms, image)
    source.resolve = lambda: index.descriptor  # type: ignore[method-assign]
    with (tmp_path / "a.tar").open("wb") as file:
        writer = LayoutWriter(TarTarget(file.write), docker=True)
        copy(source, writer.sink([parse_reference("many")]), jobs=1)
        writer.close()
    with open_archive(str(tmp_path / "a.tar"), two.home.ingest) as [found]:
        assert receive(found.source, two.store, found.names, prefer=Platform()) == image
    assert {each.id for each in two.store.images.all()} == {image, arm_image}
    assert two.store.images.resolve("many") == image
    assert two.store.images.find_tag(parse_reference("many")).manifest == entries[1].digest


# Other tools read what we save.


def inspect(*transport: str) -> Any:
    return json.loads(run("skopeo", "inspect", "--config", "".join(transport)))


def test_skopeo_reads_both_formats(place: Any, tmp_path: Path) -> None:
    image = place.add_image(*LAYERS)
    for packing in (Packing(), Packing("none", force=True)):
        archive = tmp_path / f"{packing.codec}.tar"
        save(place, archive, {image: ["my-server:v1"]}, packing=packing)
        for transport in (
            f"oci-archive:{archive}",
            f"docker-archive:{archive}",
            f"docker-archive:{archive}:my-server:v1",
        ):
            assert inspect(transport)["rootfs"]["diff_ids"] == list(place.store.images.layers(image))
        run("skopeo", "copy", f"docker-archive:{archive}", f"dir:{tmp_path / packing.codec}")


def test_umoci_unpacks_what_we_write(place: Any, tmp_path: Path) -> None:
    image = place.add_image(*LAYERS)
    writer = LayoutWriter(DirectoryTarget(str(tmp_path / "layout")), docker=False)
    copy(StoreImage(place.store, place.forms, image), writer.sink([parse_reference("there:v2")]))
    writer.close()
    run("umoci", "unpack", "--image", f"{tmp_path}/layout:v2", tmp_path / "bundle")
    assert (tmp_path / "bundle/rootfs/etc/motd").read_bytes() == LAYERS[1]["etc/motd"]


def test_podman_loads_what_we_save(place: Any, storage: list[str], tmp_path: Path) -> None:
    image = place.add_image(*LAYERS)
    save(place, tmp_path / "a.tar", {image: ["localhost/from-moldar:v3"]})
    run("podman", *storage, "load", "-i", tmp_path / "a.tar")
    shown = json.loads(run("podman", *storage, "image", "inspect", "localhost/from-moldar:v3"))
    assert shown[0]["Id"] == image.removeprefix("sha256:")
    assert shown[0]["RootFS"]["Layers"] == list(place.store.images.layers(image))


# We read what other tools write.


@pytest.fixture(scope="module")
def umoci_layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI layout with one image of two layers, made without any network."""
    base = tmp_path_factory.mktemp("umoci")
    layout, tree = base / "layout", base / "tree"
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:first")
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/name").write_text("umoci")
    os.link(tree / "etc/name", tree / "etc/again")
    (tree / "long").mkdir()
    (tree / "long" / ("n" * 200)).symlink_to("t" * 200)
    run("umoci", "insert", "--image", f"{layout}:first", tree, "/")
    run("umoci", "insert", "--image", f"{layout}:first", "--whiteout", "/long")
    return layout


def layout_facts(layout: Path) -> tuple[str, str]:
    """The manifest's and the config's digest."""
    manifest = json.loads((layout / "index.json").read_bytes())["manifests"][0]["digest"]
    config = json.loads((layout / "blobs" / manifest.replace(":", "/")).read_bytes())["config"]["digest"]
    return manifest, config


def check_umoci_image(place: Any, image: Digest) -> None:
    stack = tuple(place.store.images.layers(image))
    place.forms.unpacked(stack)
    with place.snapshots.mount(stack) as root:
        assert os.listdir(root) == ["etc"]
        assert Path(root, "etc/again").read_text() == "umoci"
        assert os.stat(f"{root}/etc/name").st_nlink == 2


def test_layouts_of_umoci(place: Any, umoci_layout: Path) -> None:
    manifest, config = layout_facts(umoci_layout)
    assert load(place, umoci_layout) == {config: []}
    assert [found.digest for found in place.store.images.manifests(config)] == [manifest]
    check_umoci_image(place, Digest(config))


def test_archives_of_skopeo(make_place: Callable[[str], Any], umoci_layout: Path, tmp_path: Path) -> None:
    _, config = layout_facts(umoci_layout)
    names = {"oci-archive": "named:v1", "docker-archive": "named:v1"}
    for kind, name in names.items():
        place = make_place(kind)
        archive = tmp_path / f"{kind}.tar"
        run("skopeo", "copy", f"oci:{umoci_layout}:first", f"{kind}:{archive}:{name}")
        loaded = load(place, archive)
        assert list(loaded.values()) == [["named:v1"]]
        [image] = loaded
        if kind == "oci-archive":
            assert image == config
        assert bool(place.store.images.manifests(image)) == (kind == "oci-archive")
        check_umoci_image(place, image)


def test_archives_of_buildah_and_podman(make_place: Callable[[str], Any], storage: list[str], tmp_path: Path) -> None:
    container = run("buildah", *storage, "from", "scratch").strip()
    (tmp_path / "file").write_text("from buildah")
    run("buildah", *storage, "copy", container, tmp_path / "file", "/dir/file")
    run("buildah", *storage, "commit", "--quiet", container, "localhost/built:v1")
    run("buildah", *storage, "push", "localhost/built:v1", f"oci-archive:{tmp_path}/oci.tar:localhost/built:v1")
    run("buildah", *storage, "push", "localhost/built:v1", f"docker-archive:{tmp_path}/docker.tar:localhost/built:v1")
    run("podman", *storage, "save", "-o", f"{tmp_path}/podman.tar", "localhost/built:v1")
    for archive in ("oci.tar", "docker.tar", "podman.tar"):
        place = make_place(f"from-{archive}")
        loaded = load(place, tmp_path / archive)
        assert list(loaded.values()) == [["localhost/built:v1"]]
        stack = tuple(place.store.images.layers(next(iter(loaded))))
        place.forms.unpacked(stack)
        with place.snapshots.mount(stack) as root:
            assert Path(root, "dir/file").read_text() == "from buildah"


def old_docker_archive(path: Path, *, compress: bool = False, link: bool = False, member: str = "two") -> str:
    """As Docker 1.10 to 24 wrote them: a folder for each layer, the second one linked to where it is the same."""
    layers = [_plain_tar("one", b"1"), _plain_tar(member, b"2")]
    config = encode_json(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [
            *(digest_of(layer) for layer in layers), *([digest_of(layers[0])] if link else []),
        ]}}
    )  # fmt: skip
    name = digest_of(config).removeprefix("sha256:")
    files = {"aaa/VERSION": b"1.0", "aaa/json": b"{}", "aaa/layer.tar": layers[0], "bbb/layer.tar": layers[1]}
    if compress:
        files = {path: gzip.compress(data) if path.endswith(".tar") else data for path, data in files.items()}
    listed = ["aaa/layer.tar", "bbb/layer.tar", *(["ccc/layer.tar"] if link else [])]
    files[f"{name}.json"] = config
    manifest = [{"Config": f"{name}.json", "RepoTags": ["old:1", "old:2"], "Layers": listed}]
    files |= {"manifest.json": encode_json(manifest), "repositories": b'{"old":{"1":"bbb"}}'}
    with tarfile.open(path, "w") as archive:
        for inner, data in files.items():
            info = tarfile.TarInfo(inner)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        if link:
            info = tarfile.TarInfo("ccc/layer.tar")
            info.type, info.linkname = tarfile.SYMTYPE, "../aaa/layer.tar"
            archive.addfile(info)
    return digest_of(config)


def _plain_tar(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize(("compress", "link"), [(False, False), (True, False), (False, True)])
def test_docker_archives_of_old(place: Any, tmp_path: Path, compress: bool, link: bool) -> None:
    image = old_docker_archive(tmp_path / "old.tar", compress=compress, link=link)
    assert load(place, tmp_path / "old.tar") == {image: ["old:1", "old:2"]}
    stack = tuple(place.store.images.layers(Digest(image)))
    assert len(stack) == (3 if link else 2)
    place.forms.unpacked(stack)
    manifest: Any = parse_manifest(
        place.store.blobs.read(StoreImage(place.store, place.forms, image).resolve().digest)
    )
    assert {layer.media_type for layer in manifest.layers} == {OCI_LAYER_GZIP}


# What is broken is refused, and nothing is recorded.


def broken(tmp_path: Path, change: Callable[[dict[str, bytes]], None], place: Any) -> Path:
    """A saved archive with its files changed."""
    image = place.add_image(*LAYERS)
    save(place, tmp_path / "good.tar", {image: ["good"]})
    files = {}
    with tarfile.open(tmp_path / "good.tar") as archive:
        for info in archive:
            if info.isreg():
                files[info.name] = archive.extractfile(info).read()  # type: ignore[union-attr]
    change(files)
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return tmp_path / "bad.tar"


def _largest_blob(files: dict[str, bytes]) -> str:
    index = json.loads(files["index.json"])
    manifest = json.loads(files["blobs/" + index["manifests"][0]["digest"].replace(":", "/")])
    digest: str = manifest["layers"][1]["digest"]
    return "blobs/" + digest.replace(":", "/")


def _damage(files: dict[str, bytes]) -> None:
    name = _largest_blob(files)
    files[name] = files[name][:-5] + b"XXXXX"


def _cut(files: dict[str, bytes]) -> None:
    name = _largest_blob(files)
    files[name] = files[name][:-5]


def _drop(files: dict[str, bytes]) -> None:
    del files[_largest_blob(files)]


def _drop_manifest(files: dict[str, bytes]) -> None:
    index = json.loads(files["index.json"])
    del files["blobs/" + index["manifests"][0]["digest"].replace(":", "/")]


def _lie(files: dict[str, bytes]) -> None:
    """Another config that claims other layers, all digests right."""
    index = json.loads(files["index.json"])
    entry = index["manifests"][0]
    manifest = json.loads(files["blobs/" + entry["digest"].replace(":", "/")])
    config = json.loads(files["blobs/" + manifest["config"]["digest"].replace(":", "/")])
    config["rootfs"]["diff_ids"].reverse()
    for part, document in ((manifest["config"], config), (entry, manifest)):
        raw = encode_json(document)
        part.update(digest=digest_of(raw), size=len(raw))
        files["blobs/" + part["digest"].replace(":", "/")] = raw
    files["index.json"] = encode_json(index)


BROKEN: dict[str, tuple[Callable[[dict[str, bytes]], Any], type[MoldarError], str]] = {
    "damaged blob": (_damage, BlobCorrupt, "expected sha256:"),
    "truncated blob": (_cut, BlobCorrupt, "expected sha256:"),
    "missing blob": (_drop, BadArchive, "the archive has no blobs/sha256/"),
    "missing manifest": (_drop_manifest, BadArchive, "which the archive lacks"),
    "wrong diff ids": (_lie, NotAnImage, "the image's config says"),
    "index is rubbish": (lambda files: files.update({"index.json": b"{"}), CorruptData, "not JSON"),
    "index is a list": (lambda files: files.update({"index.json": b"[]"}), CorruptData, "not a JSON object"),
    "manifest.json is rubbish": (lambda files: files.update({"manifest.json": b"{}"}), BadArchive, "no list of"),
    "no image": (lambda files: files.update({"index.json": b'{"manifests":[]}'}), BadArchive, "lists no image"),
    "no lists": (lambda files: [files.pop("index.json"), files.pop("manifest.json")], BadArchive, "not an image"),
    "too old": (
        lambda files: [files.clear(), files.update({"repositories": b"{}"})], Unsupported, "older than 1.10",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_broken_archives_are_refused(case: str, make_place: Callable[[str], Any], tmp_path: Path) -> None:
    change, error, message = BROKEN[case]
    archive = broken(tmp_path, change, make_place("maker"))
    place = make_place("store")
    with pytest.raises(error, match=message):
        load(place, archive)
    assert place.store.images.all() == []
    assert place.store.images.tags() == []
    assert os.listdir(place.home.ingest) == []


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("name", ["../evil", "a/../../evil"])
def test_layers_that_reach_outside_are_refused(place: Any, tmp_path: Path, name: str, compress: bool) -> None:
    with pytest.raises(BadImageLayer, match=r"layer sha256:.*evil': its name holds"):
        old_docker_archive(tmp_path / "bad.tar", compress=compress, member=name)
        load(place, tmp_path / "bad.tar")
    assert place.store.images.all() == []
    assert os.listdir(place.home.ingest) == []


def test_what_is_no_archive_is_refused(place: Any, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("Hello, this is not an archive.\n" * 100)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "cut.tar").write_bytes(_plain_tar("x", bytes(5000))[:1500])
    (tmp_path / "cut.gz").write_bytes(gzip.compress(_plain_tar("x", os.urandom(5000)))[:-20])
    for name, message in (
        ("text", "not a readable tar"),
        ("empty", "empty"),
        ("cut.tar", "at 'x'"),
        ("cut.gz", "trunc"),
    ):
        with pytest.raises(CorruptData, match=message):
            load(place, tmp_path / name)
    with pytest.raises(NotFound, match="no such file"):
        load(place, tmp_path / "nothing")
