"""Pushing to a registry over real sockets, and proving who we are."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from moldar.errors import RegistryRefused
from moldar.image.model import OCI_LAYER, OCI_MANIFEST, Descriptor, Digest, digest_of, make_manifest
from moldar.image.reference import parse_reference
from moldar.image.transfer import WrongBytes, copy
from moldar.remote.client import Registry, RegistryImage
from moldar.remote.config import RegistryConfig
from moldar.remote.credentials import Credential
from moldar.remote.failures import AccessDenied, LyingRegistry, UnexpectedAnswer, Unreachable
from moldar.remote.session import RetryPolicy
from moldar.remote.upload import BlobUpload

LAYER = bytes(range(256)) * 80_000  # 20 MiB: several chunks
CONFIG = b'{"architecture":"amd64","os":"linux"}'


class Made:
    """A one-layer image in memory, as a source."""

    def __init__(self) -> None:
        self.blobs = {digest_of(LAYER): LAYER, digest_of(CONFIG): CONFIG}
        self.layer = Descriptor(OCI_LAYER, digest_of(LAYER), len(LAYER))
        config = Descriptor("application/vnd.oci.image.config.v1+json", digest_of(CONFIG), len(CONFIG))
        self.manifest = make_manifest(config, [self.layer])

    def resolve(self) -> Descriptor:
        return self.manifest.descriptor

    def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        return self.manifest.raw

    @contextmanager
    def open_blob(self, descriptor: Descriptor, offset: int = 0) -> Iterator[Iterator[bytes]]:
        content = self.blobs[descriptor.digest]
        yield (content[start : start + 300_000] for start in range(offset, len(content), 300_000))


def push(
    mini: Any,
    name: str = "alice/app:v1",
    find: Callable[[str], Credential | None] = lambda host: None,
    mount_from: Sequence[str] = (),
) -> Made:
    made = Made()
    retry = RetryPolicy(attempts=4, sleep=lambda seconds: None)
    with Registry(mini.address, find, RegistryConfig(), retry) as registry:
        reference = parse_reference(f"{mini.address}/{name}")
        copy(made, RegistryImage(registry, reference, lambda blob: mount_from))
    assert mini.blobs["alice/app", made.layer.digest] == LAYER
    assert mini.manifests["alice/app", name.partition(":")[2]] == (OCI_MANIFEST, made.manifest.raw)
    return made


def alice(host: str) -> Credential:
    return Credential("alice", "secret")


def test_push_sends_each_blob_in_one_put_and_only_once(mini: Any) -> None:
    push(mini)
    assert len(mini.requests("PUT", "/blobs/uploads/")) == 2
    assert mini.seen[-1].path.endswith("/manifests/v1"), "the manifest comes last"
    push(mini, "alice/app:v2")
    assert len(mini.requests("PUT", "/blobs/uploads/")) == 2


def test_relative_locations(mini: Any) -> None:
    mini.absolute = False
    push(mini)


def test_mount_saves_the_upload(mini: Any) -> None:
    mini.put("base/image", LAYER)
    push(mini, mount_from=("other/image", "base/image"))
    (sent,) = mini.requests("PUT", "/blobs/uploads/")
    assert len(mini.requests("POST", "from=base/image")) == 2
    assert sent.headers["content-length"] == str(len(CONFIG))


def test_a_refused_mount_goes_on_as_an_upload(mini: Any) -> None:
    mini.put("base/image", LAYER)
    mini.mounts = False
    push(mini, mount_from=("base/image",))
    assert len([seen for seen in mini.requests("POST", "mount=") if digest_of(LAYER) in seen.path]) == 1
    assert len(mini.requests("POST", "/uploads/")) == 2, "the upload that the mount opened is used"


def test_chunks_where_a_large_put_is_refused(mini: Any) -> None:
    mini.most_put = 1_000_000
    push(mini)
    ranges = [seen.headers["content-range"] for seen in mini.requests("PATCH")]
    assert ranges == ["0-8388607", "8388608-16777215", "16777216-20479999"]


def test_chunks_go_on_where_the_registry_says(mini: Any) -> None:
    mini.most_put, mini.forget_chunks = 1_000_000, 2
    push(mini)


def test_a_broken_put_is_sent_again(mini: Any) -> None:
    mini.break_puts = 1
    push(mini)


def test_a_put_that_always_breaks_is_an_error(mini: Any) -> None:
    mini.break_puts = 100
    with pytest.raises(Unreachable, match="broke"):
        push(mini)


def test_passing_errors_restart_the_upload(mini: Any) -> None:
    mini.failures = [("PUT", 503, "0"), ("POST", 429, "0"), ("PUT", 404, "")]
    push(mini)


def test_wrong_content_is_the_registrys_to_refuse(mini: Any) -> None:
    layer = Descriptor(OCI_LAYER, Digest("sha256:" + "0" * 64), 3)

    @contextmanager
    def read(offset: int) -> Iterator[Iterator[bytes]]:
        yield iter([b"abc"])

    with Registry(mini.address) as registry, pytest.raises(UnexpectedAnswer, match="did not match") as caught:
        RegistryImage(registry, parse_reference(f"{mini.address}/a/b:c")).put_blob(layer, read)
    assert caught.value.status == 400


@pytest.mark.parametrize("chunked", [False, True])
def test_a_source_that_ends_early_or_late_is_an_error(mini: Any, chunked: bool) -> None:
    @contextmanager
    def read(offset: int) -> Iterator[Iterator[bytes]]:
        yield iter([b"abc"[offset:]])

    with Registry(mini.address, retry=RetryPolicy(sleep=lambda seconds: None)) as registry:
        for size in (2, 5):
            layer = Descriptor(OCI_LAYER, digest_of(b"abc"), size)
            with pytest.raises((WrongBytes, UnexpectedAnswer)):
                BlobUpload(registry.origin, "a/b", layer, chunked=chunked).send(read)
    assert mini.blobs == {}


def test_a_registry_that_keeps_another_manifest_lies(mini: Any) -> None:
    mini.wrong_digest_header = "sha256:" + "0" * 64
    with pytest.raises(LyingRegistry):
        push(mini)


@pytest.mark.parametrize("location", ["file:///x", "http://[::1", "http://storage.invalid/x", "gopher://x"])
def test_uploads_sent_elsewhere_are_refused(mini: Any, location: str) -> None:
    mini.upload_location = location
    with pytest.raises(RegistryRefused):
        push(mini)


def test_layers_of_others_are_not_pushed(mini: Any) -> None:
    kind = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    with Registry(mini.address) as registry:
        image = RegistryImage(registry, parse_reference(f"{mini.address}/a/b:c"))
        layer = Descriptor(kind, digest_of(b"x"), 1, urls=("https://maker.invalid/x",))
        assert image.has_blob(layer)
        assert not image.has_blob(layer._replace(urls=()))


def test_token_handshake(mini: Any) -> None:
    mini.users = {"alice": "secret"}
    push(mini, find=alice)
    assert mini.scopes_granted == [["repository:alice/app:pull,push"]], "one token serves the whole push"


def test_anonymous_push_is_refused_in_words(mini: Any) -> None:
    mini.users = {"alice": "secret"}
    with pytest.raises(AccessDenied, match="unauthorized: authentication required") as caught:
        push(mini)
    assert "moldar login" in caught.value.hint


def test_wrong_password_is_the_token_servers_to_refuse(mini: Any) -> None:
    mini.users = {"alice": "other"}
    with pytest.raises(AccessDenied, match="incorrect username or password"):
        push(mini, find=alice)


def test_expired_and_revoked_tokens_are_replaced(mini: Any) -> None:
    mini.users = {"alice": "secret"}
    made = Made()
    with Registry(mini.address, alice, RegistryConfig()) as registry:
        image = RegistryImage(registry, parse_reference(f"{mini.address}/alice/app:v1"))
        assert not image.has_blob(made.layer)
        mini.revoked.add(mini.seen[-1].headers["authorization"].removeprefix("Bearer "))
        image.put_blob(made.layer, lambda offset: made.open_blob(made.layer, offset))
        assert image.has_blob(made.layer)
    assert len(mini.scopes_granted) == 2


def test_identity_tokens_are_exchanged_by_post(mini: Any) -> None:
    mini.users, mini.refresh_token = {"alice": "secret"}, "r1"
    push(mini, find=lambda host: Credential(identity_token="r1"))
    (exchanged,) = mini.requests("POST", "/token")
    assert "authorization" not in exchanged.headers


def test_basic_authentication(mini: Any) -> None:
    mini.basic = {"alice": "secret"}
    push(mini, find=alice)
    with pytest.raises(AccessDenied):
        push(mini)


def test_check_login(mini: Any) -> None:
    def check(find: Callable[[str], Credential | None]) -> None:
        with Registry(mini.address, find) as registry:
            registry.check_login()

    check(alice)  # a registry without accounts takes anybody
    for setting in ("users", "basic"):
        setattr(mini, setting, {"alice": "secret"})
        check(alice)
        with pytest.raises(AccessDenied):
            check(lambda host: Credential("alice", "wrong"))
        setattr(mini, setting, None)


def test_threads_share_one_token(mini: Any) -> None:
    mini.users = {"alice": "secret"}
    made, errors = Made(), []
    with Registry(mini.address, alice) as registry:
        image = RegistryImage(registry, parse_reference(f"{mini.address}/alice/app:v1"))

        def look() -> None:
            try:
                image.has_blob(made.layer)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=look) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
    assert len(mini.scopes_granted) <= 2
