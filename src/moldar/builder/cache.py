"""The build cache over the store's records: finds steps done before, and has it explained why one was not found."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from moldar.builder.solver import Explanation, Key, Record
from moldar.image.model import Digest, encode_json
from moldar.store.blobs import BlobStore
from moldar.store.cache import CacheRow, CacheTable
from moldar.store.layers import LayerTable


class Explains(Protocol):
    """Says why a step runs, and keeps what is needed to say it of later ones (`builder/explain.py`)."""

    def explain(
        self, key: Key, *, ignored: bool = False, foreign: Mapping[str, str] | None = None
    ) -> Explanation: ...

    def remember(self, key: Key) -> None: ...


class BuildCache:
    """The solver's Cache. A record counts only while every layer of it is still here, as blob or snapshot.

    `protect` keeps layers from the garbage collector (kind `layer`, diff IDs). It is called for everything found as
    soon as a step runs, which may take long; a fully cached build is over at once and writes nothing. `explainer` is
    called when a step runs; without it there are no explanations.
    """

    def __init__(
        self,
        records: CacheTable,
        layers: LayerTable,
        blobs: BlobStore,
        protect: Callable[[str, Iterable[str]], None] | None = None,
        explainer: Callable[[], Explains] | None = None,
    ) -> None:
        self._explainer = explainer
        self._records = records
        self._layers = layers
        self._blobs = blobs
        self._protect = protect
        self._lock = threading.Lock()
        self._found: set[Digest] = set()
        self._running = False

    def lookup(self, key: Key) -> Record | None:
        record = self._find(key)
        if record is None or not record.layers:
            return record
        self._found.update(diff_id for diff_id, _ in record.layers)
        if self._running:
            self._protect_found()
            return self._find(key)  # it may have gone just before
        return record

    def _find(self, key: Key) -> Record | None:
        row = self._records.get(key.digest)
        if row is None:
            return None
        try:
            layers = [
                (Digest(diff_id), int(size), str(snapshot)) for diff_id, size, snapshot in json.loads(row.layers)
            ]
        except (ValueError, TypeError):
            return None  # written by a version that kept something else
        if not all(self._is_here(diff_id, snapshot) for diff_id, _, snapshot in layers):
            return None
        return Record(
            tuple((diff_id, size) for diff_id, size, _ in layers),
            Digest(row.identity),
            row.created,
            tuple(snapshot for _, _, snapshot in layers),
        )

    def store(self, key: Key, record: Record) -> None:
        snapshots = record.snapshots or ("",) * len(record.layers)
        layers = [
            [diff_id, size, snapshot] for (diff_id, size), snapshot in zip(record.layers, snapshots, strict=True)
        ]
        created = record.created or time.time()
        self._records.put(CacheRow(key.digest, key.step, _text(layers), record.identity, _text(key.parts), created))
        if self._explainer is not None:
            self._explainer().remember(key)

    def begin(self) -> None:
        """A step is about to run: whatever was found must stay until the build ends."""
        self._running = True
        self._protect_found()

    def _protect_found(self) -> None:
        with self._lock:
            found, self._found = self._found, set()
        if found and self._protect is not None:
            self._protect("layer", sorted(found))

    def explain(self, key: Key, *, ignored: bool = False, foreign: Mapping[str, str] | None = None) -> Explanation:
        """Why nothing was found. `foreign` are the parts of a record in a cache from elsewhere."""
        if self._explainer is None:
            return Explanation()
        return self._explainer().explain(key, ignored=ignored, foreign=foreign)

    def holds(self, record: Record) -> bool:
        """Whether all layers of a record are here."""
        snapshots = record.snapshots or ("",) * len(record.layers)
        return all(self._is_here(layer[0], key) for layer, key in zip(record.layers, snapshots, strict=True))

    def _is_here(self, diff_id: Digest, snapshot: str) -> bool:
        if self._blobs.has(diff_id) or self._layers.has_snapshot(snapshot or diff_id):
            return True
        return any(self._blobs.has(blob.descriptor.digest) for blob in self._layers.blobs(diff_id))


def _text(value: object) -> str:
    return encode_json(value).decode(errors="surrogateescape")
