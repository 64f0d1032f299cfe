"""Pulling from a registry over real sockets, well behaved and not."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from moldar.errors import CorruptData, MoldarError, NotFound, RegistryRefused
from moldar.image.model import OCI_MANIFEST, Descriptor, Digest, digest_of
from moldar.image.reference import parse_reference
from moldar.image.transfer import BlobReader, copy
from moldar.remote.client import Registry, RegistryImage
from moldar.remote.config import HostSettings, RegistryConfig
from moldar.remote.credentials import Credential
from moldar.remote.failures import (
    AccessDenied,
    LyingRegistry,
    MissingAtRegistry,
    TlsTrouble,
    TooManyRequests,
    TruncatedBlob,
    Unreachable,
)
from moldar.remote.session import RetryPolicy

LAYER = bytes(range(256)) * 8192  # 2 MiB: several reads
CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'


class Kept:
    """A sink in memory that checks nothing, so that `copy` does."""

    verifies = False

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.root = b""

    def has_blob(self, descriptor: Descriptor) -> bool:
        return descriptor.digest in self.blobs

    def put_blob(self, descriptor: Descriptor, read: BlobReader) -> None:
        with read(0) as chunks:
            self.blobs[descriptor.digest] = b"".join(chunks)

    def put_manifest(self, descriptor: Descriptor, raw: bytes, *, root: bool) -> None:
        if root:
            self.root = raw


def seed(mini: Any, repository: str = "alice/app", tag: str = "v1") -> Descriptor:
    """Put a one-layer image into the registry; its layer's descriptor."""
    layer = Descriptor("application/vnd.oci.image.layer.v1.tar", Digest(mini.put(repository, LAYER)), len(LAYER))
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": mini.put(repository, CONFIG)}
    manifest = json.dumps(
        {"schemaVersion": 2, "config": {**config, "size": len(CONFIG)}, "layers": [layer.to_json()]}
    ).encode()
    for name in (tag, digest_of(manifest)):
        mini.manifests[repository, name] = (OCI_MANIFEST, manifest)
    return layer


@contextmanager
def connected(mini: Any, find: Any = None, sleeps: list[float] | None = None, **hosts: Any) -> Iterator[Registry]:
    retry = RetryPolicy(attempts=4, sleep=(sleeps if sleeps is not None else []).append)
    registry = Registry(mini.address, find or (lambda host: None), RegistryConfig(**hosts), retry)
    with registry:
        yield registry


def image(registry: Registry, name: str = "alice/app:v1") -> RegistryImage:
    return RegistryImage(registry, parse_reference(f"{registry.host}/{name}"))


def pull(mini: Any, name: str = "alice/app:v1", **options: Any) -> Kept:
    sink = Kept()
    with connected(mini, **options) as registry:
        copy(image(registry, name), sink)
    return sink


def test_pull_copies_the_bytes(mini: Any) -> None:
    layer = seed(mini)
    sink = pull(mini)
    assert sink.blobs[layer.digest] == LAYER
    assert sink.root == mini.manifests["alice/app", "v1"][1]


def test_a_tag_is_asked_for_once(mini: Any) -> None:
    seed(mini)
    with connected(mini) as registry:
        source = image(registry)
        assert source.resolve() == source.resolve()
        copy(source, Kept())
    assert len(mini.requests("GET", "/manifests/")) == 1


def test_pull_by_digest(mini: Any) -> None:
    seed(mini)
    digest = digest_of(mini.manifests["alice/app", "v1"][1])
    assert pull(mini, f"alice/app@{digest}").root


def test_a_manifest_under_a_wrong_digest_is_refused(mini: Any) -> None:
    seed(mini)
    digest = "sha256:" + hashlib.sha256(b"other").hexdigest()
    mini.manifests["alice/app", digest] = mini.manifests["alice/app", "v1"]
    with pytest.raises(LyingRegistry, match="whose content is"):
        pull(mini, f"alice/app@{digest}")
    mini.wrong_digest_header = digest
    with pytest.raises(CorruptData):
        pull(mini)


def test_a_blob_under_a_wrong_digest_is_refused(mini: Any) -> None:
    layer = seed(mini)
    mini.blobs["alice/app", layer.digest] = b"x" * len(LAYER)
    with pytest.raises(CorruptData, match="wrong"):
        pull(mini)


def test_a_longer_blob_is_refused_before_it_is_read(mini: Any) -> None:
    seed(mini)
    mini.overlong = b"more"
    with pytest.raises(LyingRegistry, match=r"serves 2097156 bytes|serves \d+ bytes"):
        pull(mini)


def test_unknown_tag(mini: Any) -> None:
    seed(mini)
    with pytest.raises(MissingAtRegistry) as caught:
        pull(mini, "alice/app:nope")
    assert isinstance(caught.value, NotFound)
    assert caught.value.message.startswith(f"manifest for {mini.address}/alice/app:nope not found: manifest unknown")


@pytest.mark.parametrize("ignore_range", [False, True])
def test_a_broken_download_goes_on_where_it_was(mini: Any, ignore_range: bool) -> None:
    layer = seed(mini)
    mini.drops = [1_500_000, 300_000]
    mini.ignore_range = ignore_range
    sleeps: list[float] = []
    with connected(mini, sleeps=sleeps) as registry, image(registry).open_blob(layer) as chunks:
        assert b"".join(chunks) == LAYER
    asked = [seen.headers.get("range") for seen in mini.requests("GET", "/blobs/")]
    assert asked[0] is None
    assert asked[1] == "bytes=1500000-"
    assert mini.requests("GET", "/blobs/")[1].headers["if-range"] == '"e1"'
    assert len(sleeps) == len(asked) - 1 >= 1


def test_a_download_starts_where_an_earlier_one_ended(mini: Any) -> None:
    layer = seed(mini)
    for mini.ignore_range in (False, True):
        with connected(mini) as registry, image(registry).open_blob(layer, 1_999_999) as chunks:
            assert b"".join(chunks) == LAYER[1_999_999:]


def test_an_answer_for_another_range_is_refused(mini: Any) -> None:
    layer = seed(mini)
    mini.wrong_range = True
    with (
        connected(mini) as registry,
        pytest.raises(LyingRegistry, match="another range"),
        image(registry).open_blob(layer, 10) as chunks,
    ):
        list(chunks)


def test_a_blob_that_always_ends_early_is_truncated(mini: Any) -> None:
    seed(mini)
    mini.drops = [1000] + [0] * 20
    with pytest.raises(TruncatedBlob, match="ended after 1000 of 2097152 bytes"):
        pull(mini)


def test_a_shorter_blob_is_truncated(mini: Any) -> None:
    layer = seed(mini)
    mini.blobs["alice/app", layer.digest] = LAYER[:-5]
    with pytest.raises(TruncatedBlob):
        pull(mini)


def test_passing_errors_are_tried_again_with_the_patience_asked_for(mini: Any) -> None:
    seed(mini)
    mini.failures = [("GET /v2/alice", 429, "7"), ("GET /v2/alice", 503, "")]
    sleeps: list[float] = []
    assert pull(mini, sleeps=sleeps).root
    assert sleeps[0] == 7
    assert 0 < sleeps[1] < 2


def test_too_many_requests_to_the_end(mini: Any) -> None:
    seed(mini)
    mini.failures = [("GET /v2/alice", 429, "")] * 20
    with pytest.raises(TooManyRequests) as caught:
        pull(mini)
    assert "moldar login" in caught.value.hint


def test_too_long_a_wait_ends_at_once(mini: Any) -> None:
    seed(mini)
    mini.failures = [("GET /v2/alice", 429, "3600")] * 2
    sleeps: list[float] = []
    with pytest.raises(TooManyRequests):
        pull(mini, sleeps=sleeps)
    assert sleeps == []


def test_redirected_blobs_are_fetched_without_our_authorization(mini: Any, start_registry: Callable[[], Any]) -> None:
    seed(mini)
    storage = start_registry()
    storage.blobs = mini.blobs
    mini.users, mini.redirect_blobs = {"alice": "secret"}, f"http://{storage.address}"
    assert pull(mini, find=lambda host: Credential("alice", "secret")).root
    assert storage.requests("GET", "/blobs/")
    assert all("authorization" not in seen.headers for seen in storage.seen)
    assert all("authorization" in seen.headers for seen in mini.requests("GET", "/blobs/"))


def test_a_redirect_to_plain_http_elsewhere_is_refused(mini: Any) -> None:
    seed(mini)
    mini.redirect_blobs = "http://storage.invalid"
    with pytest.raises(TlsTrouble) as caught:
        pull(mini)
    assert "insecure = true" in caught.value.hint


def test_a_redirect_loop_ends(mini: Any) -> None:
    seed(mini)
    mini.redirect_blobs = f"http://{mini.address}"
    with pytest.raises(RegistryRefused, match="redirects"):
        pull(mini)


def test_layers_served_by_their_maker(mini: Any, start_registry: Callable[[], Any]) -> None:
    layer = seed(mini)
    maker = start_registry()
    digest = maker.put("x", LAYER)
    del mini.blobs["alice/app", layer.digest]
    foreign = layer._replace(urls=(f"http://{maker.address}/v2/x/blobs/{digest}",))
    with connected(mini) as registry, image(registry).open_blob(foreign) as chunks:
        assert b"".join(chunks) == LAYER


def test_mirrors_come_first_and_the_origin_last(mini: Any, start_registry: Callable[[], Any]) -> None:
    layer = seed(mini, "hub/alice/app")
    origin, empty = start_registry(), start_registry()
    seed(origin)
    mirrors = ("http://127.0.0.1:1", f"http://{empty.address}", f"http://{mini.address}/hub")
    hosts = {origin.address: HostSettings(mirrors=mirrors)}
    assert pull(origin, hosts=hosts).blobs[layer.digest] == LAYER
    assert origin.seen == []
    assert empty.requests("GET", "/manifests/v1")
    del mini.blobs["hub/alice/app", layer.digest]
    assert pull(origin, hosts=hosts).blobs[layer.digest] == LAYER
    assert origin.requests("GET", layer.digest)
    mini.manifests.clear()
    with pytest.raises(NotFound) as caught:
        pull(origin, "alice/app:none", hosts=hosts)
    assert "mirror 127.0.0.1:1: cannot reach 127.0.0.1:1: connection refused" in caught.value.excerpt
    assert pull(origin, hosts=hosts).root


def test_unknown_host_and_refused_connection() -> None:
    for host, words in (("registry.invalid", "no such host"), ("127.0.0.1:1", "connection refused")):
        with Registry(host) as registry, pytest.raises(Unreachable, match=words):
            RegistryImage(registry, parse_reference(f"{host}/a:b")).resolve()


def test_plain_http_where_tls_is_due(mini: Any) -> None:
    port = mini.address.partition(":")[2]
    config = RegistryConfig()
    with Registry(f"0.0.0.0:{port}", config=config) as registry, pytest.raises(TlsTrouble) as caught:
        RegistryImage(registry, parse_reference(f"0.0.0.0:{port}/a:b")).resolve()
    assert caught.value.plain
    assert "insecure = true" in caught.value.hint
    seed(mini)
    config = RegistryConfig({f"0.0.0.0:{port}": HostSettings(insecure=True)})
    with Registry(f"0.0.0.0:{port}", config=config) as registry:
        assert RegistryImage(registry, parse_reference(f"0.0.0.0:{port}/alice/app:v1")).resolve().size


def test_lists_come_page_by_page(mini: Any) -> None:
    for tag in ("a", "b", "c"):
        seed(mini, tag=tag)
    seed(mini, "bob/tool")
    mini.page = 2
    with connected(mini) as registry:
        assert list(registry.tags("alice/app")) == ["a", "b", "c"]
        assert list(registry.catalog()) == ["alice/app", "bob/tool"]
        digest = digest_of(mini.manifests["alice/app", "a"][1])
        registry.delete_manifest("alice/app", digest)
        with pytest.raises(MissingAtRegistry):
            registry.delete_manifest("alice/app", digest)


@pytest.mark.parametrize(
    "link",
    [
        "</v2/alice/app/tags/list?n=1000>; rel=next",
        "<http://127.0.0.1:1/more>; rel=next",
        "<file:///etc/passwd>; rel=next",
        "<http://[::1>; rel=next",
    ],
)
def test_lists_that_go_astray_end(mini: Any, link: str) -> None:
    seed(mini, tag="a")
    seed(mini, tag="b")
    mini.page, mini.link = 1, link
    with connected(mini) as registry, pytest.raises(RegistryRefused):
        list(registry.tags("alice/app"))


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://[::1", "https://", "//", "gopher://x/"])
def test_redirects_to_nonsense_are_refused(mini: Any, location: str) -> None:
    layer = seed(mini)
    mini.failures = [("GET /v2/alice", 307, "")]
    mini.failure_location = location
    with connected(mini) as registry, pytest.raises(RegistryRefused), image(registry).open_blob(layer) as chunks:
        list(chunks)


@pytest.mark.parametrize(
    "answer", [b"{}", b"[]", b"x", b'{"token": 3}', b'{"token": "a\\r\\nb"}', b'{"token": "\xc3\xa9"}']
)
def test_token_servers_that_give_none(mini: Any, answer: bytes) -> None:
    seed(mini)
    mini.users, mini.token_answer = {"alice": "secret"}, answer
    with pytest.raises(RegistryRefused, match="gave no token"):
        pull(mini)


def test_a_registrys_words_cannot_steer_the_terminal(mini: Any) -> None:
    mini.failures = [("GET /v2/alice", 418, "")]
    mini.failure_body = b'{"errors":[{"code":"DENIED","message":"no\\u001b[31m\\nway"}]}'
    with connected(mini) as registry, pytest.raises(MoldarError, match=r"denied: no \[31m way") as caught:
        image(registry, "alice/app:x").resolve()
    assert caught.value.message.isprintable()


def test_mirror_setting_is_used_for_blobs_of(mini: Any) -> None:
    """A blob opened without a manifest before it also tries every place."""
    layer = seed(mini)
    opened: AbstractContextManager[Iterator[bytes]]
    with connected(mini) as registry:
        opened = image(registry).open_blob(layer)
        with opened as chunks:
            assert next(chunks) == LAYER[: 1 << 20]


def test_access_denied_shows_the_registrys_words(mini: Any) -> None:
    seed(mini, "private/app")
    mini.users = {"alice": "secret"}
    with pytest.raises(AccessDenied, match="unauthorized: authentication required") as caught:
        pull(mini, "private/app:v1")
    assert caught.value.hint == f"log in with: moldar login {mini.address}"
