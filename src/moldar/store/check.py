"""`system check`: every promise of the store, verified. Findings are data; an unsound store is somebody's lost work.

An error is something that a command would trip over; a warning is garbage that the collector will find.
"""

import json
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from moldar.errors import CorruptData, MoldarError
from moldar.image.model import Descriptor, Digest, chain_ids
from moldar.store.blobs import BlobMissing, BlobStore
from moldar.store.cache import CacheTable, layers_of
from moldar.store.database import Database
from moldar.store.home import Home
from moldar.store.images import ImageTable
from moldar.store.layers import LayerTable, SnapshotDirectories
from moldar.store.layout import is_complete
from moldar.store.leases import survey
from moldar.store.sweeping import leftovers


class Finding(NamedTuple):
    """One thing that is not as it should be. `fatal` when it makes the store unsound."""

    text: str
    fatal: bool

    def __str__(self) -> str:
        return f"{'ERROR' if self.fatal else 'warning'}: {self.text}"


class Report(NamedTuple):
    """All findings, and how much was looked at."""

    findings: tuple[Finding, ...]
    images: int
    blobs: int
    snapshots: int

    @property
    def sound(self) -> bool:
        return not any(finding.fatal for finding in self.findings)

    @property
    def summary(self) -> str:
        what = f"{self.images} images, {self.blobs} blobs, {self.snapshots} snapshots"
        return f"The store is {'sound' if self.sound else 'NOT sound'}: {what}"


class Checker:
    """Checks one home. `snapshots` are the directories that the rows are about."""

    def __init__(self, home: Home, database: Database, snapshots: SnapshotDirectories) -> None:
        self._home = home
        self._database = database
        self._blobs = BlobStore(home)
        self._images = ImageTable(database, self._blobs)
        self._layers = LayerTable(database)
        self._snapshots = snapshots

    def check(self, *, contents: bool = True) -> Report:
        """Verify everything; with `contents` the bytes of every blob are read and hashed.

        Others may go on working meanwhile. A damaged database is a finding; HostTrouble when nothing can be read.
        """
        findings: list[Finding] = []
        counts = (0, 0, 0)
        try:
            with self._database.transaction():  # so that no collection gets in between
                for found in (
                    self._check_database(),
                    self._check_images(),
                    self._check_names(),
                    self._check_snapshots(),
                    self._check_records(),
                    self._check_leases(),
                    self._check_layout(),
                ):
                    findings += found
                counts = (len(self._images.all()), sum(1 for _ in self._blobs), len(self._layers.snapshots()))
        except CorruptData as error:
            findings.append(Finding(error.message, fatal=True))
        findings += self._check_blobs(contents)
        return Report(tuple(findings), *counts)

    def _check_database(self) -> Iterator[Finding]:
        for (text,) in self._database.rows("PRAGMA integrity_check"):
            if text != "ok":
                yield Finding(f"database: {text}", fatal=True)

    def _check_blobs(self, contents: bool) -> Iterator[Finding]:
        for path in self._blobs.strays():
            yield Finding(f"{path} is no blob", fatal=False)
        for digest in self._blobs:
            try:
                if contents:
                    self._blobs.verify(digest)
            except BlobMissing:
                continue  # collected meanwhile
            except MoldarError as error:
                yield Finding(error.message, fatal=True)

    def _check_images(self) -> Iterator[Finding]:
        # a killed collection may leave a directory without its row, which somebody uses by now
        unpacked = {key.rpartition(":")[2] for key in self._snapshots.present()}
        for image in self._images.all():
            try:
                diff_ids = self._images.config(image.id).diff_ids
            except MoldarError as error:
                yield Finding(f"image {image.id}: {error.message}", fatal=True)
                continue
            for diff_id, chain_id in zip(diff_ids, chain_ids(diff_ids), strict=True):
                # some snapshots depend on the layers below and are named by the chain
                if not self._has_blob(diff_id) and unpacked.isdisjoint(
                    (diff_id.partition(":")[2], chain_id.partition(":")[2])
                ):
                    yield Finding(f"image {image.id}: layer {diff_id} has neither a blob nor a snapshot", fatal=True)
            for manifest in self._images.manifests(image.id):
                yield from self._check_manifest(image.id, manifest)

    def _has_blob(self, diff_id: Digest) -> bool:
        if self._blobs.has(diff_id):
            return True
        return any(self._blobs.has(blob.descriptor.digest) for blob in self._layers.blobs(diff_id))

    def _check_manifest(self, image: str, manifest: Descriptor) -> Iterator[Finding]:
        try:
            size = len(self._blobs.read(manifest.digest))
        except MoldarError as error:
            yield Finding(f"image {image}: manifest {manifest.digest}: {error.message}", fatal=True)
            return
        if size != manifest.size:
            yield Finding(f"manifest {manifest.digest} has {size} bytes and not {manifest.size}", fatal=True)

    def _check_names(self) -> Iterator[Finding]:
        """Everything that points to an image."""
        for table, column in (("tags", "name"), ("repository_digests", "digest"), ("manifests", "digest")):
            yield from self._dangling(
                f"SELECT {column}, image FROM {table} WHERE image NOT IN (SELECT id FROM images)",
                f"{table.replace('_', ' ')}: {{}} points to {{}}, which is not in the store",
            )
        for container, name, image in self._database.rows("SELECT id, name, image FROM containers"):
            if not self._blobs.has(image):
                text = f"container {name} ({container[:12]}): its image {image} is not in the store"
                yield Finding(text, fatal=True)

    def _dangling(self, sql: str, text: str) -> Iterator[Finding]:
        for row in self._database.rows(sql):
            yield Finding(text.format(*row), fatal=True)

    def _check_snapshots(self) -> Iterator[Finding]:
        present = self._snapshots.present()
        for key, _ in sorted(self._layers.snapshots()):
            if key not in present:
                yield Finding(f"snapshot {key} has no directory", fatal=True)

    def _check_records(self) -> Iterator[Finding]:
        for row in CacheTable(self._database).all():
            if layers_of(row) is None:
                yield Finding(f"the build cache's record {row.key} is damaged and will not be used", fatal=False)

    def _check_leases(self) -> Iterator[Finding]:
        leases = survey(self._home)
        rows = {row[0] for row in self._database.rows("SELECT DISTINCT lease FROM leases")}
        for lease in sorted((rows | leases.dead) - set(leases.alive)):
            yield Finding(f"lease {lease} is left over from a process that is gone", fatal=False)
        for path in leftovers(self._home):
            yield Finding(f"ingest/{os.path.basename(path)} is left over from a process that is gone", fatal=False)

    def _check_layout(self) -> Iterator[Finding]:
        """What other tools read; index.json may lag behind for a moment, but must not promise what is not here."""
        try:
            with open(self._home.index_json, "rb") as file:
                entries = [Descriptor.from_json(entry) for entry in json.load(file)["manifests"]]
        except (OSError, ValueError, LookupError, TypeError, CorruptData) as error:
            yield Finding(f"{self._home.index_json} cannot be read: {error}", fatal=True)
            return
        yield from self._check_entries(entries)

    def _check_entries(self, entries: Iterable[Descriptor]) -> Iterator[Finding]:
        for entry in entries:
            if not is_complete(entry.digest, self._blobs):
                yield Finding(f"index.json lists {entry.digest}, of which not everything is here", fatal=False)
