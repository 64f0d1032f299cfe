"""What the collector keeps and what it removes, and what the check finds."""

import json
import os
import shutil
from pathlib import Path

import pytest

from moldar.image.config import ImageConfig, encode_image_config
from moldar.image.model import OCI_CONFIG, OCI_LAYER_GZIP, Descriptor, Digest, digest_of, make_index, make_manifest
from moldar.image.reference import parse_reference
from moldar.store import explanations
from moldar.store.blobs import BlobStore
from moldar.store.builds import BuildRow, BuildTable
from moldar.store.cache import CacheRow, CacheTable
from moldar.store.check import Checker
from moldar.store.containers import ContainerRow, ContainerTable
from moldar.store.database import Database
from moldar.store.explanations import Eviction, EvictionTable, InputTable
from moldar.store.gc import Collector, Policy
from moldar.store.home import Home
from moldar.store.images import ImageTable
from moldar.store.layers import LayerTable
from moldar.store.leases import Lease
from moldar.store.usage import usage

LAYER = b"a layer's tar"


class Store:
    """A home with the tables over it; snapshots are plain directories."""

    def __init__(self, root: Path) -> None:
        self.home = Home.open(str(root))
        self.database = Database(self.home)
        self.blobs = BlobStore(self.home)
        self.images = ImageTable(self.database, self.blobs)
        self.layers = LayerTable(self.database)
        self.collector = Collector(self.home, self.database, self)
        self.checker = Checker(self.home, self.database, self)

    def snapshot(self, key: str) -> Path:
        return Path(self.home.snapshots) / key

    def present(self) -> set[str]:
        return {path.name for path in Path(self.home.snapshots).iterdir() if ":" in path.name}

    def remove(self, key: str) -> None:
        shutil.rmtree(self.snapshot(key))

    def add_image(self, name: str = "") -> Digest:
        """An image with one layer, kept as a blob and as a snapshot."""
        diff_id = self.blobs.put(LAYER)
        self.layers.record(diff_id, len(LAYER))
        self.snapshot(diff_id).mkdir(exist_ok=True)
        self.layers.add_snapshot(diff_id, 5)
        image = self.blobs.put(encode_image_config(ImageConfig(author=name, diff_ids=(diff_id,))))
        self.images.add(image, len(LAYER))
        if name:
            self.images.tag(parse_reference(name), image)
        return image


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


def test_what_a_tag_reaches_stays(store: Store) -> None:
    store.add_image("kept")
    loose = store.blobs.put(b"loose")
    collected = store.collector.collect(Policy())
    assert (collected.blobs, collected.snapshots, collected.freed) == (1, 0, 5)
    assert not store.blobs.has(loose)
    assert store.checker.check().sound


def test_the_latest_hundred_builds_are_kept(store: Store) -> None:
    table = BuildTable(store.database)
    for number in range(103):
        ended = None if number == 0 else number + 1.0  # the first was killed long ago
        table.put(BuildRow(f"b{number}", float(number), ended, "", "", "", "", ""))
        os.mkdir(f"{store.home.builds}/b{number}")
        Path(f"{store.home.builds}/b{number}/4.log").write_text("log")
    store.collector.collect(Policy(), dry_run=True)
    assert len(os.listdir(store.home.builds)) == 103
    store.collector.collect(Policy())
    assert [row.id for row in table.all()] == [f"b{number}" for number in range(102, 2, -1)]
    assert sorted(os.listdir(store.home.builds)) == sorted(f"b{number}" for number in range(3, 103))


def test_an_image_without_a_name_goes_only_when_asked(store: Store) -> None:
    store.add_image()
    assert store.collector.collect(Policy()).blobs == 0
    assert store.collector.collect(Policy(images="dangling"), dry_run=True).blobs == 2
    collected = store.collector.collect(Policy(images="dangling"))
    assert (len(collected.images), collected.blobs, collected.snapshots) == (1, 2, 1)
    assert list(store.blobs) == []
    assert os.listdir(store.home.snapshots) == []


def test_a_lease_keeps_things_until_it_ends(store: Store) -> None:
    with Lease(store.home, store.database) as lease:
        lease.protect("blob", [digest_of(b"wanted")])
        store.blobs.put(b"wanted")
        assert store.collector.collect(Policy()).blobs == 0
    assert store.collector.collect(Policy()).blobs == 1


def test_cache_records_keep_their_layers_until_they_are_old_or_too_many(store: Store) -> None:
    cache = CacheTable(store.database)
    for number in range(3):
        diff_id = store.blobs.put(b"%d" % number * 100)
        cache.put(CacheRow(f"k{number}", "s", json.dumps([[diff_id, 100]]), "i", "[]", 1.0))
    assert store.collector.collect(Policy()).blobs == 0
    collected = store.collector.collect(Policy(cache_bytes=250))
    assert (collected.cache_records, collected.blobs) == (1, 1)
    assert cache.get("k0") is None
    assert store.collector.collect(Policy(cache_age=0.0)).cache_records == 2


def test_leftovers_of_dead_processes_go(store: Store) -> None:
    (Path(store.home.ingest) / "999999999-abc").write_bytes(b"half")
    (Path(store.home.ingest) / f"{os.getpid()}-abc").write_bytes(b"half")
    (Path(store.home.leases) / "999999999-abc").write_bytes(b"")
    assert len(store.checker.check().findings) == 2
    store.collector.collect(Policy())
    assert os.listdir(store.home.ingest) == [f"{os.getpid()}-abc"]
    assert os.listdir(store.home.leases) == []


def test_the_check_finds_damage(store: Store) -> None:
    store.add_image("x")
    Path(store.blobs.path(digest_of(LAYER))).write_bytes(b"other")
    report = store.checker.check()
    assert not report.sound
    assert digest_of(LAYER) in str(report.findings[0])


def test_the_check_finds_a_lost_layer(store: Store) -> None:
    store.add_image("x")
    store.blobs.delete(digest_of(LAYER))
    assert store.checker.check().sound  # the snapshot is left
    store.remove(digest_of(LAYER))
    assert not store.checker.check().sound


def test_usage_counts(store: Store) -> None:
    store.add_image("x")
    lines = {line.kind: line for line in usage(store.home, store.database)}
    assert lines["Images"][1:] == (1, 0, len(LAYER), len(LAYER))
    assert lines["Build Cache"].size == 0


def test_usage_counts_what_is_active(store: Store, tmp_path: Path) -> None:
    image = store.add_image("x")
    store.add_image("y")
    state = json.dumps({"mounts": [{"kind": "volume", "name": "used"}, {"kind": "bind", "name": ""}]})
    containers = ContainerTable(store.database)
    containers.add(ContainerRow("a" * 64, "one", image, 1.0, state))
    containers.add(ContainerRow("b" * 64, "two", image, 1.0, "{}"))
    for name in ("used", "unused"):
        (Path(store.home.volumes) / name / "_data").mkdir(parents=True)
        (Path(store.home.volumes) / name / "_data" / "file").write_bytes(b"x" * 8192)
    upper = Path(store.home.snapshots) / "roots" / ("b" * 64) / "upper"
    upper.mkdir(parents=True)
    (upper / "file").write_bytes(b"x" * 4096)
    os.link(upper / "file", upper / "another")
    cache = Path(store.home.cachemounts) / "id"
    cache.mkdir()
    (cache / "file").write_bytes(b"x" * 4096)
    CacheTable(store.database).put(CacheRow("k", "s", json.dumps([[store.blobs.put(b"z" * 100), 100]]), "", "", 1.0))
    lines = {line.kind: line[1:] for line in usage(store.home, store.database, lambda container: container[0] == "a")}
    assert lines["Images"] == (2, 1, len(LAYER), 0)
    assert lines["Containers"] == (2, 1, 4096, 4096)
    assert lines["Local Volumes"] == (2, 1, 16384, 8192)
    assert lines["Build Cache"] == (2, 0, 4196, 4196)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("INSERT INTO tags VALUES ('n', 'r', 't', 'sha256:gone', NULL, 1)", "sha256:gone"),
        ("INSERT INTO repository_digests VALUES ('r', 'd', 'sha256:gone')", "sha256:gone"),
        ("INSERT INTO snapshots VALUES ('sha256:lost', 1, 1)", "sha256:lost has no directory"),
        (f"INSERT INTO containers VALUES ('c', 'web', 'sha256:{'0' * 64}', 1, '{{}}')", "container web"),
        (f"INSERT INTO manifests SELECT 'sha256:{'1' * 64}', id, 'm', 1 FROM images", "1" * 64),
        (f"INSERT INTO images VALUES ('sha256:{'2' * 64}', 1, 1)", "2" * 64),
    ],
)
def test_the_check_finds_rows_without_what_they_name(store: Store, damage: str, words: str) -> None:
    store.add_image("x")
    assert store.checker.check().findings == ()
    store.database.write(damage)
    report = store.checker.check()
    assert not report.sound
    assert any(words in finding.text for finding in report.findings if finding.fatal)


def test_the_check_finds_a_damaged_index_and_database(store: Store) -> None:
    store.add_image("x")
    Path(store.home.index_json).write_text("{")
    assert "index.json" in str(store.checker.check().findings[0])
    store.database.close()
    with open(store.home.database, "r+b") as file:
        file.seek(100)
        file.write(os.urandom(50_000))
    report = store.checker.check()
    assert not report.sound
    assert "moldar.db" in str(report.findings[0])


def test_a_damaged_cache_record_goes(store: Store) -> None:
    for key, layers in (("a", "["), ("b", '[["sha256:x", 1]]'), ("c", "{}"), ("d", "[1]")):
        CacheTable(store.database).put(CacheRow(key, "s", layers, "", "", 1.0))
    report = store.checker.check()
    assert report.sound
    assert len(report.findings) == 3
    assert store.collector.collect(Policy()).cache_records == 3


def test_what_a_manifest_refers_to_stays(store: Store) -> None:
    """Also through an index, and when a compressed blob is known only by the manifest."""
    image = store.add_image("x")
    packed = store.blobs.put(b"compressed")
    config = Descriptor(OCI_CONFIG, image, store.blobs.size(image))
    manifest = make_manifest(config, [Descriptor(OCI_LAYER_GZIP, packed, 10)])
    index = make_index([manifest.descriptor])
    store.blobs.put(manifest.raw)
    store.blobs.put(index.raw)
    store.images.add_repository_digest("docker.io/library/x", index.descriptor.digest, image)
    assert store.collector.collect(Policy()).blobs == 0
    store.images.remove(image)
    assert store.collector.collect(Policy()).blobs == 5


def test_a_wanted_snapshot_that_another_collection_took_gets_no_row(store: Store) -> None:
    """It goes, and somebody is about to make it anew, between the two transactions of a slow collection."""
    key = digest_of(LAYER)
    store.snapshot(key).mkdir()
    store.layers.add_snapshot(key, 5)
    with Lease(store.home, store.database) as lease:

        class Meanwhile:
            def present(self) -> set[str]:
                store.remove(key)
                lease.protect("layer", [key])
                return store.present()

            remove = store.remove

        collected = Collector(store.home, store.database, Meanwhile()).collect(Policy())
    assert collected.snapshots == 0
    assert store.checker.check().sound


def test_a_snapshot_that_lost_its_row_to_a_killed_collection_counts(store: Store) -> None:
    store.add_image("x")
    store.blobs.delete(digest_of(LAYER))
    store.layers.remove_snapshot(digest_of(LAYER))
    assert store.checker.check().sound


def test_what_was_evicted_is_remembered_with_its_cause(store: Store) -> None:
    table = CacheTable(store.database)
    evictions = EvictionTable(store.database)
    for key, layers in (("old", "[]"), ("damaged", "["), ("large", f'[["{digest_of(LAYER)}", 100, ""]]')):
        table.put(CacheRow(key, "s", layers, "", "", 1.0))
    store.database.write("UPDATE cache SET used = 1 WHERE key = 'old'")
    store.collector.collect(Policy(cache_age=3600.0, cache_bytes=10), dry_run=True)
    assert evictions.get("old") is None
    store.collector.collect(Policy(cache_age=3600.0, cache_bytes=10))
    found = [evictions.get(key) for key in ("old", "damaged", "large")]
    assert [(one.cause, one.amount) for one in found if one] == [("age", 3600.0), ("damaged", 0.0), ("size", 10.0)]
    assert evictions.get("other") is None


def test_only_the_latest_explanations_stay(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explanations, "KEPT_INPUTS", 2)
    monkeypatch.setattr(explanations, "KEPT_EVICTIONS", 2)
    inputs = InputTable(store.database)
    inputs.put((name, "lines", b"") for name in "abc")
    inputs.put([("a", "lines", b"again")])
    EvictionTable(store.database).put(Eviction(name, float(at), "age") for at, name in enumerate("abc"))
    store.collector.collect(Policy())
    assert inputs.known("abc") == {"a", "c"}
    assert inputs.get("a", "lines") == b"again" and inputs.get("a", "files") is None
    assert [name for name in "abc" if EvictionTable(store.database).get(name)] == ["b", "c"]
