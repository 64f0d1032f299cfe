"""Our client against Debian's docker-registry, with skopeo reading and writing the same images."""

import gzip
import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moldar.image.model import (
    DOCKER_LAYER_GZIP,
    OCI_CONFIG,
    OCI_LAYER_GZIP,
    Descriptor,
    Digest,
    Manifest,
    digest_of,
    encode_json,
    make_manifest,
)
from moldar.image.reference import parse_reference
from moldar.image.transfer import BlobReader, copy
from moldar.remote.client import Registry, RegistryImage
from moldar.remote.credentials import Credential
from moldar.remote.failures import AccessDenied, MissingAtRegistry
from moldar.remote.upload import BlobUpload

Start = Callable[..., str]


class Memory:
    """An image in memory, as a source and as a sink."""

    verifies = False

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.root: Descriptor | None = None

    def resolve(self) -> Descriptor:
        assert self.root
        return self.root

    def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        return self.blobs[descriptor.digest]

    @contextmanager
    def open_blob(self, descriptor: Descriptor, offset: int = 0) -> Iterator[Iterator[bytes]]:
        yield iter([self.blobs[descriptor.digest][offset:]])

    def has_blob(self, descriptor: Descriptor) -> bool:
        return descriptor.digest in self.blobs

    def put_blob(self, descriptor: Descriptor, read: BlobReader) -> None:
        with read(0) as chunks:
            self.blobs[descriptor.digest] = b"".join(chunks)

    def put_manifest(self, descriptor: Descriptor, raw: bytes, *, root: bool) -> None:
        self.blobs[descriptor.digest] = raw
        if root:
            self.root = descriptor

    def add(self, content: bytes) -> Digest:
        digest = digest_of(content)
        self.blobs[digest] = content
        return digest


def tar_of(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def made_image(content: bytes = b"hello\n") -> tuple[Memory, Manifest]:
    image = Memory()
    tar = tar_of("hello.txt", content)
    layer = gzip.compress(tar, 1, mtime=0)
    config = encode_json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(tar)]},
            "history": [{"created_by": "test"}],
        }
    )
    manifest = make_manifest(
        Descriptor(OCI_CONFIG, image.add(config), len(config)),
        [Descriptor(OCI_LAYER_GZIP, image.add(layer), len(layer))],
    )
    image.put_manifest(manifest.descriptor, manifest.raw, root=True)
    return image, manifest


def at(registry: Registry, name: str, *mount_from: str) -> RegistryImage:
    return RegistryImage(registry, parse_reference(f"{registry.host}/{name}"), lambda blob: mount_from)


def skopeo(*arguments: str) -> str:
    done = subprocess.run(["skopeo", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_push_list_pull_delete(docker_registry: Start) -> None:
    image, manifest = made_image()
    with Registry(docker_registry()) as registry:
        registry.check_login()
        copy(image, at(registry, "alice/app:v1"))
        copy(image, at(registry, "alice/app:v2"))
        assert sorted(registry.tags("alice/app")) == ["v1", "v2"]
        assert list(registry.catalog()) == ["alice/app"]
        pulled = Memory()
        copied = copy(at(registry, "alice/app:v1"), pulled)
        assert copied.root.digest == manifest.descriptor.digest
        assert pulled.blobs == image.blobs
        registry.delete_manifest("alice/app", manifest.descriptor.digest)
        with pytest.raises(MissingAtRegistry, match=r"manifest for .*alice/app:v1 not found"):
            at(registry, "alice/app:v1").resolve()


def test_mount_between_repositories(docker_registry: Start) -> None:
    image, manifest = made_image()
    layer = manifest.layers[0]
    with Registry(docker_registry()) as registry:
        copy(image, at(registry, "base/image:v1"))

        def read(offset: int) -> Iterator[Iterator[bytes]]:
            raise AssertionError("a mounted blob is not read")

        target = at(registry, "alice/app:v1", "nobody/has", "base/image")
        assert not target.has_blob(layer)
        target.put_blob(layer, read)  # type: ignore[arg-type]
        assert target.has_blob(layer)


def test_download_resumes(docker_registry: Start) -> None:
    image, manifest = made_image(bytes(range(256)) * 4096)
    layer = manifest.layers[0]
    with Registry(docker_registry()) as registry:
        copy(image, at(registry, "alice/app:v1"))
        with at(registry, "alice/app:v1").open_blob(layer, 1000) as chunks:
            assert b"".join(chunks) == image.blobs[layer.digest][1000:]


def test_chunked_upload(docker_registry: Start) -> None:
    content = bytes(range(256)) * 2000
    blob = Descriptor(OCI_LAYER_GZIP, digest_of(content), len(content))

    @contextmanager
    def read(offset: int) -> Iterator[Iterator[bytes]]:
        yield iter([content[offset:]])

    with Registry(docker_registry()) as registry:
        BlobUpload(registry.origin, "alice/app", blob, chunk=100_000, chunked=True).send(read)
        with at(registry, "alice/app:v1").open_blob(blob) as chunks:
            assert b"".join(chunks) == content


def test_accounts(docker_registry: Start) -> None:
    image, _ = made_image()
    host = docker_registry(accounts=True)
    with Registry(host) as registry, pytest.raises(AccessDenied, match="unauthorized: authentication required"):
        copy(image, at(registry, "alice/app:v1"))
    with Registry(host, lambda name: Credential("alice", "wrong")) as registry, pytest.raises(AccessDenied):
        registry.check_login()
    with Registry(host, lambda name: Credential("alice", "secret")) as registry:
        registry.check_login()
        copy(image, at(registry, "alice/app:v1"))


def test_skopeo_reads_what_we_push(docker_registry: Start, tmp_path: Path) -> None:
    image, manifest = made_image()
    with Registry(docker_registry()) as registry:
        copy(image, at(registry, "alice/app:v1"))
        source = f"docker://{registry.host}/alice/app:v1"
        told = json.loads(skopeo("inspect", "--tls-verify=false", source))
        assert told["Digest"] == manifest.descriptor.digest
        skopeo("copy", "--src-tls-verify=false", source, f"oci:{tmp_path}/out:v1")
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    assert index["manifests"][0]["digest"] == manifest.descriptor.digest


def test_we_read_what_skopeo_pushes(docker_registry: Start, tmp_path: Path) -> None:
    image, manifest = made_image()
    with Registry(docker_registry()) as registry:
        copy(image, at(registry, "alice/app:v1"))
        source = f"docker://{registry.host}/alice/app:v1"
        for kind in ("v2s2", "oci"):
            target = f"docker://{registry.host}/bob/{kind}:latest"
            flags = ("--src-tls-verify=false", "--dest-tls-verify=false", "--format", kind)
            skopeo("copy", *flags, source, target)
            pulled = Memory()
            (theirs,) = copy(at(registry, f"bob/{kind}"), pulled).manifests
            assert theirs.layers[0].media_type == (DOCKER_LAYER_GZIP if kind == "v2s2" else OCI_LAYER_GZIP)
            assert theirs.layers[0].digest == manifest.layers[0].digest
