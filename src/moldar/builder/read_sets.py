"""Reuse of a RUN over copied files that changed, by what it read: the builder's side of read sets.

A RUN's exact key names all files below it. Its *step name* names everything but the content of the copied layers: the
command, environment, mounts, and the native layers by their diff IDs. Under the step name the store keeps what the
step looked at in each copied layer, and which cache record it made. When an exact key misses, and every observation
of one of these read sets holds in the copied layers of today, the process would do the same again: the record's
layers are right, whatever else was copied.
"""

import json
import threading
import zlib
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import NamedTuple, Protocol

from moldar.builder.graph import RunOp
from moldar.builder.keys import make_key
from moldar.builder.ops import Stack, identity_of, stack_of
from moldar.builder.solver import BELOW, Key, Record, Result, Reuse
from moldar.errors import CorruptData
from moldar.image.model import Digest, encode_json
from moldar.sandbox.readset.observations import (
    CONTENT,
    LayerTree,
    Observation,
    Question,
    first_difference,
    observe,
)
from moldar.store.read_sets import ReadSetRow

_LARGEST = 2 << 30
_MANY = 4000

Lookup = Callable[[Key], Record | None]
"""Finds a cache record by its key."""


class CountedTree(LayerTree, Protocol):
    """A layer that also knows how many files it has."""

    @property
    def files(self) -> int: ...


class Trees(Protocol):
    """Gives the layers of a stack to be asked."""

    def tree(self, stack: Stack, position: int) -> CountedTree | None:
        """The layer at `position`; None when it is here in no form that can be asked."""
        ...


class Kept(Protocol):
    """Where read sets are kept, by the step's name; `store.read_sets.ReadSetTable` is one."""

    def of(self, step: str) -> list[ReadSetRow]: ...

    def put(self, step: str, row: ReadSetRow) -> None: ...

    def renew(self, step: str, record: str, row: ReadSetRow) -> None: ...


class LentReadSets:
    """A store's own read sets, and those of other caches, which `foreign` finds by the step's name."""

    def __init__(self, own: Kept, foreign: Callable[[str], list[ReadSetRow]]) -> None:
        self._own = own
        self._foreign = foreign

    def of(self, step: str) -> list[ReadSetRow]:
        return [*self._own.of(step), *self._foreign(step)]

    def put(self, step: str, row: ReadSetRow) -> None:
        self._own.put(step, row)

    def renew(self, step: str, record: str, row: ReadSetRow) -> None:
        self._own.renew(step, record, row)


class ReadSet(NamedTuple):
    """What one run observed: for each copied layer, from the lowest, its observations."""

    layers: tuple[tuple[Observation, ...], ...]

    def encode(self) -> bytes:
        document = [[[*seen.question, seen.answer] for seen in layer] for layer in self.layers]
        return zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 1)

    @staticmethod
    def decode(data: bytes) -> "ReadSet | None":
        """None when another version wrote it."""
        try:
            document = json.loads(zlib.decompress(data))
            return ReadSet(
                tuple(
                    tuple(Observation(Question(kind, path), answer) for kind, path, answer in layer)
                    for layer in document
                )
            )
        except (ValueError, TypeError, zlib.error):
            return None

    @property
    def files_read(self) -> int:
        return sum(seen.question.kind == CONTENT for layer in self.layers for seen in layer)

    @property
    def size(self) -> int:
        return sum(map(len, self.layers))


class SavedReadSet:
    """A read set as it is kept, with the key of what its run made; decoded when it is first asked for."""

    def __init__(self, row: ReadSetRow) -> None:
        self.key = Key(Digest(row.record))
        self.data = row.data

    @cached_property
    def read_set(self) -> ReadSet | None:
        """None when another version wrote it."""
        return ReadSet.decode(self.data)


class ReadSets:
    """Looks for reusable records of RUNs and keeps what they read. Safe for threads.

    `lookup` finds a cache record by key, and keeps its layers from the collector.
    """

    def __init__(self, table: Kept, lookup: Lookup, trees: Trees) -> None:
        self._table = table
        self._lookup = lookup
        self._source = trees
        self._lock = threading.Lock()
        self._trees: dict[tuple[Digest, int], CountedTree | None] = {}
        self._steps: dict[Digest, TracedStep] = {}

    def find(self, op: RunOp, key: Key, below: Result | None) -> Reuse | None:
        """What an earlier run made that read nothing which is different now."""
        step = self.trace(op, key, below)
        return step.find() if step else None

    def trace(self, op: RunOp, key: Key, below: Result | None) -> "TracedStep | None":
        """A step with that exact key over `below`; None when it cannot be traced, or nothing is to be gained by it.

        A step with the powers of the host could look past the view.
        """
        if below is None or not below.copied or op.security == "insecure":
            return None
        stack = stack_of(below)
        positions = tuple(sorted(below.copied))
        if sum(below.layers[position][1] for position in positions) > _LARGEST:
            return None
        with self._lock:
            if key.digest in self._steps:
                return self._steps[key.digest]
        step = TracedStep(self, key, stack, positions, _step_name(key, stack, below.copied))
        with self._lock:
            return self._steps.setdefault(key.digest, step)

    def saved(self, step: Digest) -> list[SavedReadSet]:
        """The read sets of a step, the latest used first."""
        return [SavedReadSet(row) for row in self._table.of(step)]

    def record(self, key: Key) -> Record | None:
        """The cache record of `key`."""
        return self._lookup(key)

    def renew(self, step: Digest, old: SavedReadSet, new: Key) -> None:
        """A read set served a step whose exact key is `new`."""
        self._table.renew(step, old.key.digest, ReadSetRow(new.digest, old.data))

    def put(self, step: Digest, key: Key, read_set: ReadSet) -> None:
        self._table.put(step, ReadSetRow(key.digest, read_set.encode()))

    def tree(self, stack: Stack, position: int) -> CountedTree | None:
        """The layer at `position`, opened once in a build; None when it cannot be asked."""
        name = (stack[position], position)
        with self._lock:
            if name in self._trees:
                return self._trees[name]
        tree = self._source.tree(stack, position)
        with self._lock:
            return self._trees.setdefault(name, tree)


class TracedStep:
    """One RUN over copied layers, at `positions` of its `stack`. `step` names it without their content."""

    def __init__(self, read_sets: ReadSets, key: Key, stack: Stack, positions: tuple[int, ...], step: Digest) -> None:
        self.stack = stack
        self.positions = positions
        self._read_sets = read_sets
        self.key = key
        self.name = step

    @cached_property
    def _saved(self) -> list[SavedReadSet]:
        return self._read_sets.saved(self.name)

    def find(self) -> Reuse | None:
        """What an earlier run made that read nothing which is different now."""
        for saved in self._saved:
            read_set = saved.read_set
            if read_set is not None and self._holds(read_set):
                record = self._read_sets.record(saved.key)
                if record is not None:
                    self._read_sets.renew(self.name, saved, self.key)
                    identity = identity_of(self.key.digest, *(diff_id for diff_id, _ in record.layers))
                    return Reuse(record._replace(identity=identity), self._sentence(read_set))
        return None

    def worthwhile(self) -> bool:
        """Whether to trace: not when the latest run looked at so much that tracing costs and is unlikely to help."""
        latest = next((read_set for saved in self._saved if (read_set := saved.read_set) is not None), None)
        return latest is None or latest.size < _MANY

    def keep(self, questions: Mapping[int, frozenset[Question]]) -> None:
        """Remember what a run asked of the layers, by position; the solver stores its record under the exact key."""
        layers: list[tuple[Observation, ...]] = []
        for position in self.positions:
            tree = self._read_sets.tree(self.stack, position)
            if tree is None:
                return
            layers.append(observe(tree, questions[position]))
        self._read_sets.put(self.name, self.key, ReadSet(tuple(layers)))

    def _holds(self, read_set: ReadSet) -> bool:
        if len(read_set.layers) != len(self.positions):
            return False
        try:
            for position, observations in zip(self.positions, read_set.layers, strict=True):
                tree = self._read_sets.tree(self.stack, position)
                if tree is None or first_difference(tree, observations) is not None:
                    return False
        except CorruptData:  # a layer that means something only together with those beneath it
            return False
        return True

    def _sentence(self, read_set: ReadSet) -> str:
        trees = [self._read_sets.tree(self.stack, position) for position in self.positions]
        total = sum(tree.files for tree in trees if tree is not None)
        return f"reused: read {read_set.files_read} of {total} copied files, none changed"


def _step_name(key: Key, stack: Stack, copied: frozenset[int]) -> Digest:
    """The digest of all that decides the step's result, the content of the copied layers apart."""
    shape = ["" if position in copied else diff_id for position, diff_id in enumerate(stack)]
    parts = [(name, value) for name, value in key.parts if name != BELOW]
    return make_key("RUN over copied layers", [(BELOW, encode_json(shape).decode()), *parts], key.step).digest
