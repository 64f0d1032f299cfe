"""The store's own build cache as something to export: its records, and what lies beneath each of their layers."""

import hashlib
import json
from collections.abc import Mapping, Sequence

from moldar.app.cache_export import Contents, stacks_of
from moldar.app.engine import Engine
from moldar.builder.keys import ENVIRONMENT
from moldar.builder.solver import BELOW
from moldar.errors import MoldarError
from moldar.export.build_cache import SharedRecord
from moldar.image.model import Digest, parse_digest
from moldar.sandbox.unpacked import Stack
from moldar.store.cache import CacheRow, CacheTable, layers_of

_DEEPEST = 500


def same_results(table: CacheTable, records: Sequence[SharedRecord]) -> list[SharedRecord]:
    """`records`, and those that the store has of the same results under other keys."""
    found = {record.key: record for record in records}
    results = {(record.identity, record.layers) for record in records}
    for row in table.all():
        shared = _shared(row)
        if shared and shared.key not in found and (shared.identity, shared.layers) in results:
            found[shared.key] = shared
    return list(found.values())


def stored_contents(engine: Engine, images: Sequence[Digest]) -> Contents:
    """All records of the store; with `images` only those whose layers are in one of them."""
    records = [shared for row in CacheTable(engine.database).all() if (shared := _shared(row))]
    roots = _image_roots(engine)
    if images:
        allowed = {diff_id for image in images for diff_id in engine.images.config(image).diff_ids}
        records = [record for record in records if record.layers and allowed.issuperset(record.layers)]
    stacks = stacks_of(roots) | stacks_of(_Roots(records, roots).all())
    sizes = {diff_id: engine.layers.size(diff_id) or 0 for record in records for diff_id in record.layers}
    return Contents(tuple(record for record in records if _can_leave(engine, record, stacks)), sizes, stacks)


def _can_leave(engine: Engine, record: SharedRecord, stacks: Mapping[Digest, Stack]) -> bool:
    """Whether all layers are here, with what lies beneath those that are no blobs."""
    return all(
        engine.has_layer(diff_id) and (diff_id in stacks or engine.blobs.has(diff_id)) for diff_id in record.layers
    )


def _image_roots(engine: Engine) -> list[Stack]:
    roots = []
    for image in engine.images.all():
        try:
            roots.append(engine.images.config(image.id).diff_ids)
        except MoldarError:
            continue  # `system check` tells of it
    return roots


class _Roots:
    """Root file systems by their identity, found by following records down to images or nothing."""

    def __init__(self, records: Sequence[SharedRecord], images: Sequence[Stack]) -> None:
        self._records = {record.identity: record for record in records}
        self._known: dict[str, Stack] = {_identity(root): root for root in [*images, ()]}

    def all(self) -> list[Stack]:
        return [root for identity in self._records if (root := self._root(identity)) is not None]

    def _root(self, identity: str, depth: int = 0) -> Stack | None:
        if identity in self._known:
            return self._known[identity]
        record = self._records.get(Digest(identity))
        below = dict(record.parts).get(BELOW, "") if record else ""
        if record is None or depth > _DEEPEST:
            return None
        root = self._root(below, depth + 1) if below else ()
        if root is None:
            return None
        self._known[identity] = (*root, *record.layers)
        return self._known[identity]


def _identity(root: Stack) -> str:
    """As the build names the root file system of an image."""
    return "sha256:" + hashlib.sha256(" ".join(root).encode()).hexdigest()


def _shared(row: CacheRow) -> SharedRecord | None:
    layers = layers_of(row)
    if layers is None:
        return None
    try:
        parts = tuple((str(name), str(value)) for name, value in json.loads(row.parts) if name != ENVIRONMENT)
        key, identity = parse_digest(row.key), parse_digest(row.identity)
    except (ValueError, TypeError, MoldarError):
        return None  # written by a version that kept something else
    return SharedRecord(key, row.step, identity, row.created, parts, tuple(layer.diff_id for layer in layers))
