"""Garbage collection: what no image, container, lease or fresh cache record reaches goes, while builds go on.

It works in two write transactions: the first forgets (rows of images, records, snapshots), the second marks again
what is reachable and takes the rest away. A process that wants to rely on something old first writes a lease row, so
it comes either before the second (and the thing is marked) or after (and sees that the thing is gone). What is newer
than the oldest living lease is in somebody's hands and stays. Killed anywhere, the collector leaves no row whose
files are gone, only files without a row. Blobs are renamed into `ingest/` and deleted after the transaction, to keep
it short.

The leases of the calling process do not count as somebody's hands, for it would then never give up what it has just
made; the rows that they hold do count.
"""

import os
import time
from collections.abc import Iterable
from typing import NamedTuple

from moldar.errors import CorruptData, NotFound
from moldar.image.model import Digest, Index, chain_ids, parse_manifest
from moldar.store.blobs import BlobStore
from moldar.store.builds import BuildTable, sweep_logs
from moldar.store.cache import TOUCH_SECONDS, CachedLayer, CacheTable, layers_of
from moldar.store.database import Database
from moldar.store.explanations import Eviction, EvictionTable, InputTable
from moldar.store.home import Home
from moldar.store.images import ImageTable
from moldar.store.layers import LayerTable, SnapshotDirectories
from moldar.store.layout import write_index
from moldar.store.leases import FOREVER, Leases, survey
from moldar.store.stat_index import StatIndex
from moldar.store.sweeping import Trash, sweep_ingest

STAT_SECONDS = 30 * 86400
_HELD_SECONDS = 0.2
_LONGEST_BUILD = 86400


class Policy(NamedTuple):
    """What counts as fresh. `cache_age` in seconds and `cache_bytes` limit the build cache; None means no limit.

    `images`: none, dangling (those without a name) or unused (those without a container); `spared` ones stay.
    """

    cache_age: float | None = None
    cache_bytes: int | None = None
    images: str = "none"
    spared: frozenset[str] = frozenset()


class Collected(NamedTuple):
    """What a collection removed (or would remove). `freed` in bytes."""

    images: tuple[str, ...]
    cache_records: int
    blobs: int
    snapshots: int
    freed: int


class Reachable(NamedTuple):
    """What must stay: images, the digests of blobs, the diff IDs of layers, the hexadecimal ends of snapshot keys."""

    images: frozenset[str]
    blobs: frozenset[str]
    layers: frozenset[str]
    snapshots: frozenset[str]


class _Record(NamedTuple):
    key: str
    used: float
    layers: tuple[CachedLayer, ...]


class _Snapshot(NamedTuple):
    key: str
    size: int
    created: float


class _Garbage(NamedTuple):
    images: tuple[str, ...]
    records: tuple[Eviction, ...]
    blobs: tuple[tuple[Digest, int], ...]
    snapshots: tuple[_Snapshot, ...]
    leases: Leases
    oldest: int
    reachable: Reachable

    def counted(self) -> Collected:
        freed = sum(size for _, size in self.blobs) + sum(snapshot.size for snapshot in self.snapshots)
        return Collected(self.images, len(self.records), len(self.blobs), len(self.snapshots), freed)


class Collector:
    """Collects the garbage of one home. `snapshots` are the directories that the rows are about."""

    def __init__(self, home: Home, database: Database, snapshots: SnapshotDirectories) -> None:
        self._home = home
        self._database = database
        self._blobs = BlobStore(home)
        self._images = ImageTable(database, self._blobs)
        self._layers = LayerTable(database)
        self._cache = CacheTable(database)
        self._snapshots = snapshots

    def collect(self, policy: Policy, *, dry_run: bool = False) -> Collected:
        """Remove what `policy` gives up and everything that nothing reaches; with `dry_run` only count it.

        Raises HostTrouble.
        """
        if not dry_run:
            sweep_ingest(self._home)  # first, because on a full disk the rest needs some room
        with self._database.transaction():
            garbage = self._find(policy)
            if not dry_run:
                self._forget(garbage)
        if dry_run:
            return garbage.counted()
        with Trash(self._home) as trash, self._database.transaction():
            left = self._find(Policy())
            for digest, _ in left.blobs:
                trash.take_blob(self._blobs.path(digest), left.oldest)
            if left.oldest == FOREVER:  # the layers of a running build may not be recorded anywhere else yet
                self._forget_layers(left.reachable)
        snapshots = self._take_snapshots(garbage.snapshots)
        self._tidy(images_removed=bool(garbage.images))
        return left._replace(images=garbage.images, records=garbage.records, snapshots=snapshots).counted()

    def _find(self, policy: Policy) -> "_Garbage":
        leases = survey(self._home)
        oldest = self._oldest_of_others(leases)
        images = self._images_to_remove(policy, leases, oldest)
        records, kept = self._split_records(policy, oldest)
        reachable = self._mark(leases, set(images), kept)
        return _Garbage(
            tuple(images),
            tuple(records),
            tuple(self._idle_blobs(reachable, oldest)),
            tuple(self._idle_snapshots(reachable, oldest)),
            leases,
            oldest,
            reachable,
        )

    def _oldest_of_others(self, leases: Leases) -> int:
        others = [began for name, began in leases.began.items() if not name.startswith(f"{os.getpid()}-")]
        return min(others, default=FOREVER)

    # What to give up

    def _images_to_remove(self, policy: Policy, leases: Leases, oldest: int) -> list[str]:
        if policy.images == "none":
            return []
        used = {row[0] for row in self._database.rows("SELECT image FROM containers")}
        used |= self._leased("image", leases) | policy.spared
        if policy.images == "dangling":
            used |= {tag.image for tag in self._images.tags()}
        candidates = [image for image in self._images.all() if image.id not in used]
        return [image.id for image in candidates if image.created * 1e9 < oldest]

    def _split_records(self, policy: Policy, oldest: int) -> tuple[list[Eviction], list[_Record]]:
        """The records that are too old, and the least recently used while the rest is too large; and the rest.

        A running process may rely on any record that it has looked up, and looking up marks it as used at most
        TOUCH_SECONDS late.
        """
        needed = oldest / 1e9 - TOUCH_SECONDS if oldest != FOREVER else float("inf")
        limit = min(time.time() - policy.cache_age, needed) if policy.cache_age is not None else 0.0
        now = time.time()
        gone: list[Eviction] = []
        kept: list[_Record] = []
        for row in self._cache.all():
            layers = layers_of(row)
            if layers is None:
                gone.append(Eviction(row.key, now, "damaged"))
            elif row.used < limit:
                gone.append(Eviction(row.key, now, "age", policy.cache_age or 0.0))
            else:
                kept.append(_Record(row.key, row.used, layers))
        if policy.cache_bytes is None:
            return gone, kept
        over = _over(kept, policy.cache_bytes, needed)
        size = float(policy.cache_bytes)
        return gone + [Eviction(record.key, now, "size", size) for record in kept[:over]], kept[over:]

    def _idle_blobs(self, reachable: Reachable, oldest: int) -> Iterable[tuple[Digest, int]]:
        for digest in self._blobs:
            if digest not in reachable.blobs:
                try:
                    status = os.stat(self._blobs.path(digest))
                except FileNotFoundError:
                    continue
                if status.st_mtime_ns < oldest:
                    yield digest, status.st_size

    def _idle_snapshots(self, reachable: Reachable, oldest: int) -> Iterable["_Snapshot"]:
        for row in self._database.rows("SELECT key, bytes, created FROM snapshots"):
            snapshot = _Snapshot(*row)
            if _hexadecimal(snapshot.key) not in reachable.snapshots and snapshot.created * 1e9 < oldest:
                yield snapshot

    # What must stay

    def _leased(self, kind: str, leases: Leases) -> set[str]:
        rows = self._database.rows("SELECT lease, key FROM leases WHERE kind = ?", (kind,))
        return {key for lease, key in rows if lease in leases.alive}

    def _mark(self, leases: Leases, images_gone: set[str], records: list[_Record]) -> Reachable:
        images: set[str] = {image.id for image in self._images.all() if image.id not in images_gone}
        images |= {row[0] for row in self._database.rows("SELECT image FROM containers")}
        images |= self._leased("image", leases)
        blobs: set[str] = images | self._leased("blob", leases)
        layers: set[str] = self._leased("layer", leases)
        chains: set[str] = set()
        for image in images:
            diff_ids = self._diff_ids(image)
            layers.update(diff_ids)
            chains.update(chain_ids(diff_ids))
            names = {manifest.digest for manifest in self._images.manifests(image)}
            names |= {digest for _, digest in self._images.repository_digests(image)}
            for manifest in names:
                blobs |= self._blobs_of(manifest)
        for record in records:
            layers.update(layer.diff_id for layer in record.layers)
            chains.update(layer.snapshot for layer in record.layers if layer.snapshot)
        for digest in set(blobs):
            if held := self._layers.diff_id_of(digest):
                layers.add(held)
        blobs |= layers  # an uncompressed layer's blob has the diff ID as its digest
        for diff_id in layers:
            blobs.update(blob.descriptor.digest for blob in self._layers.blobs(Digest(diff_id)))
        snapshots = {_hexadecimal(key) for key in layers | chains | self._leased("snapshot", leases)}
        return Reachable(frozenset(images), frozenset(blobs), frozenset(layers), frozenset(snapshots))

    def _diff_ids(self, image: str) -> tuple[Digest, ...]:
        try:
            return self._images.config(image).diff_ids
        except (NotFound, CorruptData):  # `system check` tells of it; collecting goes on with the rest
            return ()

    def _blobs_of(self, manifest: str) -> set[str]:
        """A manifest or index with all that it refers to, as far as it is here."""
        try:
            document = parse_manifest(self._blobs.read(manifest))
        except (NotFound, CorruptData):
            return {manifest}
        if isinstance(document, Index):
            return {manifest}.union(*(self._blobs_of(entry.digest) for entry in document.manifests))
        return {manifest, document.config.digest, *(layer.digest for layer in document.layers)}

    # Removing

    def _forget(self, garbage: _Garbage) -> None:
        for (lease,) in self._database.rows("SELECT DISTINCT lease FROM leases"):
            if lease not in garbage.leases.alive:
                self._database.write("DELETE FROM leases WHERE lease = ?", (lease,))
        for lease in garbage.leases.dead:
            _unlink(f"{self._home.leases}/{lease}")
        for image in garbage.images:
            self._images.remove(image)
        for record in garbage.records:
            self._cache.remove(record.key)
        EvictionTable(self._database).put(garbage.records)
        for snapshot in garbage.snapshots:
            self._layers.remove_snapshot(snapshot.key)

    def _take_snapshots(self, snapshots: Iterable[_Snapshot]) -> tuple[_Snapshot, ...]:
        """Remove snapshots that have no row any more; one that somebody wants now gets its row back.

        Deleting takes a while, so the write lock is given up every now and then. Gives those that went.
        """
        waiting = list(snapshots)
        taken: list[_Snapshot] = []
        while waiting:
            with self._database.transaction():
                present = self._snapshots.present()  # another collection may have been quicker
                reachable = self._find(Policy()).reachable.snapshots
                until = time.monotonic() + _HELD_SECONDS
                while waiting and time.monotonic() < until:
                    snapshot = waiting.pop()
                    if snapshot.key not in present or self._layers.has_snapshot(snapshot.key):
                        continue
                    if _hexadecimal(snapshot.key) in reachable:
                        self._layers.add_snapshot(snapshot.key, snapshot.size)
                        continue
                    self._snapshots.remove(snapshot.key)
                    taken.append(snapshot)
        return tuple(taken)

    def _forget_layers(self, reachable: Reachable) -> None:
        for table in ("layers", "layer_blobs"):
            for (diff_id,) in self._database.rows(f"SELECT DISTINCT diff_id FROM {table}"):
                if diff_id not in reachable.layers:
                    self._database.write(f"DELETE FROM {table} WHERE diff_id = ?", (diff_id,))

    def _tidy(self, *, images_removed: bool) -> None:
        builds = BuildTable(self._database)
        builds.trim(time.time() - _LONGEST_BUILD)
        sweep_logs(self._home, builds)
        EvictionTable(self._database).trim()
        InputTable(self._database).trim()
        StatIndex(self._database).trim(int(time.time()) - STAT_SECONDS)
        if images_removed:
            write_index(self._home, self._images, self._blobs)


def _over(records: list[_Record], limit: int, needed: float) -> int:
    """How many records, the least recently used first, must go until the layers of the rest are within `limit`."""
    uses: dict[Digest, int] = {}
    total = 0
    for record in records:
        for diff_id, size, _ in record.layers:
            total += 0 if diff_id in uses else size
            uses[diff_id] = uses.get(diff_id, 0) + 1
    for count, record in enumerate(records):
        if total <= limit or record.used >= needed:
            return count
        for diff_id, size, _ in record.layers:
            uses[diff_id] -= 1
            total -= 0 if uses[diff_id] else size
    return len(records)


def _hexadecimal(key: str) -> str:
    return key.rpartition(":")[2]


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
