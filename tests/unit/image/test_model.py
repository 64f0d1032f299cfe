"""The nouns: documents that come back as they were, and documents that are not what they should be."""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moldar.errors import CorruptData, UserMistake
from moldar.image.config import (
    ContainerConfig,
    Healthcheck,
    HistoryEntry,
    ImageConfig,
    encode_image_config,
    parse_image_config,
)
from moldar.image.model import (
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    Platform,
    chain_ids,
    digest_of,
    encode_json,
    make_index,
    make_manifest,
    parse_digest,
    parse_manifest,
)

DIGEST = digest_of(b"x")
LAYER = {"mediaType": OCI_LAYER, "digest": DIGEST, "size": 1}
MANIFEST = {
    "schemaVersion": 2,
    "mediaType": OCI_MANIFEST,
    "config": {**LAYER, "annotations": {"a": "b"}, "platform": {"os": "linux", "architecture": "arm"}, "urls": ["u"]},
    "layers": [LAYER],
    "annotations": {"k": "v"},
    "subject": LAYER,
    "artifactType": "application/x",
}
INDEX = {"schemaVersion": 2, "manifests": [{**LAYER, "platform": {"os": "linux", "architecture": "arm64"}}]}
CONFIG = {
    "architecture": "arm64",
    "os": "linux",
    "variant": "v8",
    "config": {
        "User": "app", "ExposedPorts": {"80/tcp": {}}, "Env": ["A=b"], "Entrypoint": [], "Cmd": ["run"],
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 30_000_000_000, "Retries": 3},
        "Volumes": {"/data": {}}, "WorkingDir": "/app", "OnBuild": ["RUN x"], "Labels": {"a": "b"},
        "StopSignal": "SIGINT", "Shell": ["/bin/bash", "-c"], "ArgsEscaped": True,
    },
    "author": "somebody",
    "created": "2024-01-02T03:04:05Z",
    "history": [
        {"created": "2024-01-02T03:04:05Z", "created_by": "RUN x", "comment": "c"}, {"empty_layer": True},
    ],
    "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
    "os.version": "1",
}  # fmt: skip


def test_manifest_round_trip() -> None:
    raw = json.dumps(MANIFEST).encode()
    manifest = parse_manifest(raw)
    assert isinstance(manifest, Manifest)
    assert (manifest.raw, manifest.descriptor) == (raw, Descriptor(OCI_MANIFEST, digest_of(raw), len(raw)))
    assert manifest.config.to_json() == MANIFEST["config"]
    assert (manifest.config.platform, manifest.config.urls) == (Platform("linux", "arm"), ("u",))
    assert [layer.to_json() for layer in manifest.layers] == MANIFEST["layers"]
    assert (manifest.annotations, manifest.artifact_type) == ({"k": "v"}, "application/x")
    assert manifest.subject and manifest.subject.to_json() == LAYER


def test_what_we_make_reads_back_equal() -> None:
    config, layer = Descriptor(OCI_CONFIG, DIGEST, 1), Descriptor(OCI_LAYER, DIGEST, 2, {"a": "b"})
    manifest = make_manifest(config, [layer], {"k": "v"})
    assert parse_manifest(manifest.raw) == manifest
    index = make_index([manifest.descriptor._replace(platform=Platform())])
    assert parse_manifest(index.raw) == index
    assert make_manifest(config, [layer], {"k": "v"}) == manifest


def test_the_documents_own_media_type_wins() -> None:
    raw = json.dumps(MANIFEST).encode()
    assert parse_manifest(raw, DOCKER_MANIFEST).media_type == OCI_MANIFEST
    bare = {key: value for key, value in MANIFEST.items() if key != "mediaType"}
    assert parse_manifest(json.dumps(bare).encode(), DOCKER_MANIFEST).media_type == DOCKER_MANIFEST
    index = parse_manifest(json.dumps(INDEX).encode())
    assert isinstance(index, Index)
    assert index.media_type == OCI_INDEX


def test_config_round_trip_keeps_what_we_do_not_know() -> None:
    image = parse_image_config(json.dumps(CONFIG).encode())
    assert image.config.healthcheck == Healthcheck(("CMD", "true"), 30_000_000_000, 0, 0, 0, 3)
    assert (image.config.entrypoint, image.config.cmd) == ((), ("run",))
    assert image.history[1] == HistoryEntry(empty_layer=True)
    again = json.loads(encode_image_config(image))
    assert again == CONFIG
    assert parse_image_config(encode_image_config(image)) == image


def test_an_empty_config_and_a_null_one() -> None:
    assert parse_image_config(b"{}").diff_ids == ()
    nulls = {"config": None, "rootfs": None, "history": None, "created": None, "os": "linux", "architecture": "arm"}
    assert parse_image_config(json.dumps(nulls).encode()).config == ContainerConfig(extra={})
    assert parse_image_config(b'{"config":{"Cmd":"one word","Volumes":["/a"]}}').config[4:6] == (
        ("one word",),
        ("/a",),
    )


def test_sets_are_sorted_and_lists_are_not() -> None:
    config = ContainerConfig(exposed_ports=("9/tcp", "1/udp"), env=("B=1", "A=2"), labels=(("z", "1"), ("a", "2")))
    document = json.loads(encode_image_config(ImageConfig(config=config)))["config"]
    assert list(document["ExposedPorts"]) == ["1/udp", "9/tcp"]
    assert (document["Env"], list(document["Labels"])) == (["B=1", "A=2"], ["a", "z"])


def test_half_surrogates_do_not_break_encoding() -> None:
    image = parse_image_config(b'{"config":{"Labels":{"a":"x\\ud800y"}}}')
    assert json.loads(encode_image_config(image))["config"]["Labels"] == {"a": "x\ufffdy"}
    assert encode_json("é\U0001f600") == '"é\U0001f600"'.encode()


def test_chain_ids() -> None:
    one, two = digest_of(b"1"), digest_of(b"2")
    assert chain_ids([]) == ()
    assert chain_ids([one, two, one]) == (
        one, digest_of(f"{one} {two}".encode()), digest_of(f"{digest_of(f'{one} {two}'.encode())} {one}".encode()),
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["", "sha256", "sha256:", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "md5:" + "a" * 32, "sha512:" + "a" * 64],
)
def test_invalid_digests(text: str) -> None:
    with pytest.raises(UserMistake, match="invalid digest"):
        parse_digest(text)


WRONG: list[Any] = [
    None, 1, -1, 1.5, True, "x", "", [], {}, [1], [None], {"a": 1}, [[]], "sha256:zz", 10**30, ["a", 1],
    {"1": {"x": None}},
]  # fmt: skip


def places(document: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    children = (
        document.items() if isinstance(document, dict) else enumerate(document if isinstance(document, list) else ())
    )
    for key, child in children:
        yield from places(child, (*at, key))


def use_manifest(raw: bytes) -> None:
    document = parse_manifest(raw)
    hash(document.media_type)
    for descriptor in (*getattr(document, "layers", ()), *getattr(document, "manifests", ())):
        json.dumps(descriptor.to_json())
        str(descriptor.platform)
        [key + value for key, value in (descriptor.annotations or {}).items()]
        [url.lower() for url in descriptor.urls]
    [key + value for key, value in document.annotations.items()]


def use_config(raw: bytes) -> None:
    image = parse_image_config(raw)
    encode_image_config(image)
    hash(image.platform)
    config = image.config
    "".join((image.created, image.author, config.user, config.working_dir, config.stop_signal))
    "".join((*config.env, *config.exposed_ports, *config.volumes, *config.on_build, *(config.cmd or ())))
    "".join((*(config.entrypoint or ()), *(config.shell or ()), *(key + value for key, value in config.labels)))
    "".join(entry.created + entry.created_by + entry.comment + entry.author for entry in image.history)


@pytest.mark.parametrize(("document", "use"), [(MANIFEST, use_manifest), (INDEX, use_manifest), (CONFIG, use_config)])
def test_wrong_types_anywhere_are_corrupt_data(document: dict[str, Any], use: Callable[[bytes], None]) -> None:
    refused = 0
    for place in places(document):
        for value in WRONG:
            changed: Any = copy.deepcopy(document)
            if place:
                parent = changed
                for key in place[:-1]:
                    parent = parent[key]
                parent[place[-1]] = value
            try:
                use(json.dumps(changed if place else value).encode())
            except CorruptData:
                refused += 1
    assert refused > 50


@given(st.binary(max_size=200))
def test_rubbish_is_corrupt_data(raw: bytes) -> None:
    for parse in (parse_manifest, parse_image_config):
        with pytest.raises(CorruptData):
            parse(raw + b"\xff")


@pytest.mark.parametrize("raw", [b"[" * 100_000, b"[]", b'"x"', b"{", b'{"schemaVersion":1,"fsLayers":[]}', b"{}"])
def test_no_manifest(raw: bytes) -> None:
    with pytest.raises(CorruptData):
        parse_manifest(raw)
