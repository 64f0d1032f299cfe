"""Which read sets serve, and what is kept of them, over layers in memory."""

from pathlib import Path

import pytest

from moldar.builder.graph import RunOp
from moldar.builder.keys import make_key
from moldar.builder.read_sets import LentReadSets, ReadSet, ReadSets, TracedStep
from moldar.builder.solver import BELOW, Key, Record, Result
from moldar.image.model import Digest, digest_of
from moldar.sandbox.readset.observations import CONTENT, ENTRY, NAMES, Question
from moldar.store.database import Database
from moldar.store.home import Home
from moldar.store.read_sets import KEPT, ReadSetRow, ReadSetTable

BASE, OTHER = digest_of(b"base"), digest_of(b"another base")
RUN = RunOp(("sh", "-c", "pip install"), (), "", "/")
READ = Question(CONTENT, "requirements.txt")
LISTED = Question(NAMES, "app")


class Layer:
    """A layer that answers with what it was given."""

    def __init__(self, **answers: str) -> None:
        self.answers = answers
        self.files = len(answers)

    def answer(self, question: Question) -> str:
        return self.answers.get(f"{question.kind}_{question.path}".replace(".", "_"), "-")


class World:
    """A builder's memory: layers and records by digest, and read sets in a database."""

    def __init__(self, root: Path) -> None:
        self.layers: dict[Digest, Layer] = {}
        self.records: dict[Digest, Record] = {}
        self.table = ReadSetTable(Database(Home.open(str(root))))

    def tree(self, stack: tuple[Digest, ...], position: int) -> Layer | None:
        return self.layers.get(stack[position])

    def step(self, *stack: Digest, copied: tuple[int, ...], command: str = "pip install") -> TracedStep:
        below = Result(
            tuple((diff_id, 10) for diff_id in stack), digest_of(repr(stack).encode()), 0.0, frozenset(copied)
        )
        key = make_key("RUN", [(BELOW, below.identity), ("the command", command)], f"RUN {command}")
        traced = ReadSets(self.table, lambda key: self.records.get(key.digest), self).trace(RUN, key, below)
        assert traced is not None
        return traced

    def copied(self, **answers: str) -> Digest:
        diff_id = digest_of(repr(answers).encode())
        self.layers[diff_id] = Layer(**answers)
        return diff_id

    def ran(self, step: TracedStep, *questions: Question) -> Record:
        """The step ran and asked `questions` of each copied layer."""
        record = Record(((digest_of(b"made by it"), 5),), digest_of(b"identity"), 7.0)
        step.keep(dict.fromkeys(step.positions, frozenset(questions)))
        self.records[step.key.digest] = record
        return record


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_run_serves_while_what_it_read_is_the_same(world: World) -> None:
    old = world.copied(content_requirements_txt="flask", content_app_py="1")
    record = world.ran(world.step(BASE, old, copied=(1,)), READ)
    new = world.copied(content_requirements_txt="flask", content_app_py="2")
    found = world.step(BASE, new, copied=(1,)).find()
    assert found is not None
    assert found.record.layers == record.layers
    assert found.sentence == "reused: read 1 of 2 copied files, none changed"
    changed = world.copied(content_requirements_txt="quart", content_app_py="1")
    assert world.step(BASE, changed, copied=(1,)).find() is None


def test_a_missing_name_is_an_observation(world: World) -> None:
    world.ran(world.step(BASE, world.copied(), copied=(1,)), Question(ENTRY, "pip"))
    assert world.step(BASE, world.copied(other="x"), copied=(1,)).find() is not None
    assert world.step(BASE, world.copied(entry_pip="a file"), copied=(1,)).find() is None


def test_everything_else_must_be_equal(world: World) -> None:
    copied = world.copied(content_a="1")
    world.ran(world.step(BASE, copied, copied=(1,)), READ)
    assert world.step(BASE, copied, copied=(1,), command="pip download").find() is None
    assert world.step(OTHER, copied, copied=(1,)).find() is None
    assert world.step(BASE, copied, copied=(0, 1)).find() is None
    assert world.step(BASE, copied, OTHER, copied=(1,)).find() is None


def test_each_copied_layer_is_asked_what_was_asked_of_it(world: World) -> None:
    one, two = world.copied(names_app="a"), world.copied(names_app="b")
    world.ran(world.step(BASE, one, two, copied=(1, 2)), LISTED)
    assert world.step(BASE, one, two, copied=(1, 2)).find() is not None
    assert world.step(BASE, two, one, copied=(1, 2)).find() is None


def test_a_record_that_is_gone_does_not_serve(world: World) -> None:
    copied = world.copied(content_a="1")
    step = world.step(BASE, copied, copied=(1,))
    world.ran(step, READ)
    world.records.clear()
    assert world.step(BASE, copied, copied=(1,)).find() is None


def test_a_layer_that_cannot_be_asked_keeps_and_reuses_nothing(world: World) -> None:
    copied = world.copied(content_a="1")
    world.ran(world.step(BASE, copied, copied=(1,)), READ)
    del world.layers[copied]
    step = world.step(BASE, copied, copied=(1,))
    assert step.find() is None
    world.ran(step, LISTED)
    assert len(world.table.of(step.name)) == 1


def test_what_served_is_kept_under_the_new_record(world: World) -> None:
    world.ran(world.step(BASE, world.copied(content_requirements_txt="flask", a="1"), copied=(1,)), READ)
    again = world.step(BASE, world.copied(content_requirements_txt="flask", a="2"), copied=(1,))
    assert again.find() is not None
    assert [row.record for row in world.table.of(again.name)] == [again.key.digest]


def test_only_some_read_sets_of_a_step_are_kept(world: World) -> None:
    for number in range(KEPT + 3):
        step = world.step(BASE, world.copied(content_requirements_txt=str(number)), copied=(1,))
        world.ran(step, READ)
    rows = world.table.of(step.name)
    assert len(rows) == KEPT
    assert rows[0].record == step.key.digest


def test_a_step_that_looks_at_nearly_everything_is_not_traced_again(world: World) -> None:
    copied = world.copied(content_a="1")
    assert world.step(BASE, copied, copied=(1,)).worthwhile()
    world.ran(world.step(BASE, copied, copied=(1,)), *(Question(CONTENT, str(number)) for number in range(5000)))
    assert not world.step(BASE, copied, copied=(1,)).worthwhile()


def test_nothing_is_traced_where_nothing_is_copied(world: World) -> None:
    read_sets = ReadSets(world.table, lambda key: None, world)
    key = Key(digest_of(b"key"))
    below = Result(((BASE, 1),), BASE, 0.0, frozenset({0}))
    assert read_sets.trace(RUN, key, below) is not None
    assert read_sets.trace(RUN._replace(security="insecure"), key, below) is None
    assert read_sets.trace(RUN, key, None) is None
    assert read_sets.trace(RUN, key, Result(((BASE, 1),), BASE)) is None
    assert read_sets.trace(RUN, key, Result(((BASE, 1 << 40),), BASE, 0.0, frozenset({0}))) is None


def test_damaged_data_does_not_serve(world: World) -> None:
    copied = world.copied(content_a="1")
    step = world.step(BASE, copied, copied=(1,))
    world.ran(step, READ)
    for data in (b"", b"x", ReadSet(()).encode()):
        world.table.put(step.name, ReadSetRow(step.key.digest, data))
        assert world.step(BASE, copied, copied=(1,)).find() is None


def test_read_sets_of_other_caches_serve_and_become_ours(world: World, tmp_path: Path) -> None:
    copied = world.copied(content_requirements_txt="flask")
    step = world.step(BASE, copied, copied=(1,))
    world.ran(step, READ)
    rows = world.table.of(step.name)
    own = ReadSetTable(Database(Home.open(str(tmp_path / "other"))))
    lent = LentReadSets(own, lambda name: rows if name == step.name else [])
    assert lent.of(step.name) == rows
    lent.renew(step.name, rows[0].record, rows[0])
    assert own.of(step.name) == rows


def test_read_sets_are_decoded_one_after_another(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The latest one serves, so that no other is decoded; asked again, none is."""
    for number in range(KEPT):
        step = world.step(BASE, world.copied(content_requirements_txt=str(number)), copied=(1,))
        world.ran(step, READ)
    decoded: list[bytes] = []
    decode = ReadSet.decode
    monkeypatch.setattr(ReadSet, "decode", staticmethod(lambda data: decoded.append(data) or decode(data)))
    again = world.step(BASE, world.copied(content_requirements_txt=str(KEPT - 1), a="new"), copied=(1,))
    assert again.find() is not None
    assert again.worthwhile()
    assert len(decoded) == 1
    other = world.step(BASE, world.copied(content_requirements_txt="other"), copied=(1,))
    assert other.find() is None
    assert other.worthwhile()
    assert len(decoded) == 1 + KEPT
