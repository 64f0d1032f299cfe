"""File hashes are remembered only when a later change would show."""

from pathlib import Path

import pytest

from moldar.store.database import Database
from moldar.store.home import Home
from moldar.store.stat_index import FileStat, StatIndex

HASHED_AT = 1_000_000_000_000_000_000
LONG_AGO = HASHED_AT - 10**9
NOW = HASHED_AT - 1_000_000
DIGEST = b"d" * 32


@pytest.fixture
def index(root: Path) -> StatIndex:
    return StatIndex(Database(Home.open(str(root / "home"))))


def test_an_unchanged_file_is_known(index: StatIndex) -> None:
    stat = FileStat(1, 2, 3, LONG_AGO, LONG_AGO)
    index.put([(stat, DIGEST)], HASHED_AT)
    assert index.get(stat) == DIGEST
    assert index.load(1) == {2: (3, LONG_AGO, LONG_AGO, DIGEST)}


@pytest.mark.parametrize(
    "changed",
    [
        FileStat(9, 2, 3, LONG_AGO, LONG_AGO),
        FileStat(1, 9, 3, LONG_AGO, LONG_AGO),
        FileStat(1, 2, 9, LONG_AGO, LONG_AGO),
        FileStat(1, 2, 3, LONG_AGO + 1, LONG_AGO),
        FileStat(1, 2, 3, LONG_AGO, LONG_AGO + 1),
    ],
)
def test_a_changed_file_is_not(index: StatIndex, changed: FileStat) -> None:
    index.put([(FileStat(1, 2, 3, LONG_AGO, LONG_AGO), DIGEST)], HASHED_AT)
    assert index.get(changed) is None


@pytest.mark.parametrize("times", [(NOW, NOW), (LONG_AGO, NOW), (NOW, LONG_AGO), (HASHED_AT + 1, LONG_AGO)])
def test_a_file_changed_while_it_was_hashed_is_not_remembered(index: StatIndex, times: tuple[int, int]) -> None:
    stat = FileStat(1, 2, 3, *times)
    index.put([(stat, DIGEST)], HASHED_AT)
    assert index.get(stat) is None


def test_numbers_that_sqlite_cannot_hold_do_no_harm(index: StatIndex) -> None:
    stat = FileStat(1, 1 << 63, 3, LONG_AGO, LONG_AGO)
    index.put([(stat, DIGEST)], HASHED_AT)
    assert index.get(stat) is None
    assert index.load(1) == {}


def test_what_was_not_seen_for_long_is_forgotten(index: StatIndex) -> None:
    index.put([(FileStat(1, 2, 3, LONG_AGO, LONG_AGO), DIGEST)], HASHED_AT)
    assert index.trim(0) == 0
    assert index.trim(1 << 40) == 1
    assert index.load(1) == {}
