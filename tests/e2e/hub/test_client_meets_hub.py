"""Our registry client against our hub: accounts, private repositories, access tokens, resuming, mounting."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from moldar.errors import NotFound, RegistryRefused
from moldar.hub.administration import add_user, create_token
from moldar.image.model import OCI_CONFIG, OCI_LAYER, Descriptor, digest_of, encode_json, make_manifest
from moldar.image.reference import parse_reference
from moldar.image.transfer import BlobReader, copy
from moldar.remote.client import Registry, RegistryImage
from moldar.remote.credentials import Credential
from moldar.remote.failures import AccessDenied, MissingAtRegistry
from moldar.remote.upload import BlobUpload

LAYER = os.urandom(3_000_000)
PASSWORDS = {"alice": "correct horse battery", "bob": "staple staple staple"}
SERVE = """
import sys
from moldar.hub.server import serve
from moldar.hub.settings import HubSettings
serve(HubSettings(data=sys.argv[1], port=0, new_repositories_public=False))
"""


class Memory:
    """A one-layer image in memory, as a source and as a sink."""

    verifies = False

    def __init__(self, *, filled: bool = False) -> None:
        config = encode_json(
            {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest_of(LAYER)]}}
        )
        self.layer = Descriptor(OCI_LAYER, digest_of(LAYER), len(LAYER))
        self.manifest = make_manifest(Descriptor(OCI_CONFIG, digest_of(config), len(config)), [self.layer])
        self.blobs = {digest_of(LAYER): LAYER, digest_of(config): config} if filled else {}

    def resolve(self) -> Descriptor:
        return self.manifest.descriptor

    def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        return self.manifest.raw

    @contextmanager
    def open_blob(self, descriptor: Descriptor, offset: int = 0) -> Iterator[Iterator[bytes]]:
        content = self.blobs[descriptor.digest]
        yield (content[start : start + 100_000] for start in range(offset, len(content), 100_000))

    def has_blob(self, descriptor: Descriptor) -> bool:
        return descriptor.digest in self.blobs

    def put_blob(self, descriptor: Descriptor, read: BlobReader) -> None:
        with read(0) as chunks:
            self.blobs[descriptor.digest] = b"".join(chunks)

    def put_manifest(self, descriptor: Descriptor, raw: bytes, *, root: bool) -> None:
        assert raw == self.manifest.raw


class Running(NamedTuple):
    """A hub in another process. `token`: an access token of alice that may only pull."""

    host: str
    token: str

    def registry(self, user: str = "", password: str = "") -> Registry:
        credential = Credential(user, password or PASSWORDS[user]) if user else None
        return Registry(self.host, lambda host: credential)

    def image(self, registry: Registry, name: str = "alice/app:v1", *mount_from: str) -> RegistryImage:
        return RegistryImage(registry, parse_reference(f"{self.host}/{name}"), lambda blob: mount_from)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Running]:
    data = str(tmp_path / "hub")
    for name, password in PASSWORDS.items():
        add_user(data, name, password)
    _, token = create_token(data, "alice", "reader", actions=("pull",))
    command = [sys.executable, "-c", SERVE, data]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        line = process.stdout.readline()
        assert "listening on" in line
        try:
            yield Running(line.strip().rpartition("http://")[2], token)
        finally:
            process.terminate()


def test_push_and_pull_of_a_private_repository(hub: Running) -> None:
    made, pulled = Memory(filled=True), Memory()
    with hub.registry("alice") as alice:
        alice.check_login()
        copy(made, hub.image(alice))
        copy(hub.image(alice), pulled)
        assert list(alice.tags("alice/app")) == ["v1"]
    assert pulled.blobs == made.blobs
    for other in (hub.registry("bob"), hub.registry()):
        with other, pytest.raises((RegistryRefused, NotFound)):
            copy(hub.image(other), Memory())
    with hub.registry("bob") as bob, pytest.raises(AccessDenied):
        copy(made, hub.image(bob, "alice/other:v1"))


def test_wrong_password_and_unknown_tag(hub: Running) -> None:
    with hub.registry("alice", "wrong") as registry, pytest.raises(AccessDenied) as caught:
        registry.check_login()
    assert caught.value.message
    with hub.registry("alice") as alice:
        copy(Memory(filled=True), hub.image(alice))
        with pytest.raises(MissingAtRegistry, match=r"manifest for 127.*/alice/app:nope not found"):
            hub.image(alice, "alice/app:nope").resolve()


def test_an_access_token_stands_for_a_password_and_only_reads(hub: Running) -> None:
    with hub.registry("alice") as alice:
        copy(Memory(filled=True), hub.image(alice))
    with hub.registry("alice", hub.token) as reader:
        reader.check_login()
        copy(hub.image(reader), Memory())
        with pytest.raises(AccessDenied):
            copy(Memory(filled=True), hub.image(reader, "alice/more:v1"))


def test_mount_resume_and_chunks(hub: Running) -> None:
    made = Memory(filled=True)

    @contextmanager
    def never(offset: int) -> Iterator[Iterator[bytes]]:
        raise AssertionError("a mounted blob is not read")
        yield iter(())

    with hub.registry("alice") as alice:
        upload = BlobUpload(alice.origin, "alice/base", made.layer, chunk=1_000_000, chunked=True)
        upload.send(lambda offset: made.open_blob(made.layer, offset))
        target = hub.image(alice, "alice/app:v1", "alice/none", "alice/base")
        target.put_blob(made.layer, never)
        with target.open_blob(made.layer, 1_234_567) as chunks:
            assert b"".join(chunks) == LAYER[1_234_567:]


def test_skopeo_and_we_agree(hub: Running, tmp_path: Path) -> None:
    with hub.registry("alice") as alice:
        copy(Memory(filled=True), hub.image(alice))
    login = ["--creds", f"alice:{PASSWORDS['alice']}", "--tls-verify=false"]
    done = subprocess.run(
        ["skopeo", "inspect", *login, f"docker://{hub.host}/alice/app:v1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["Digest"] == Memory().manifest.descriptor.digest
