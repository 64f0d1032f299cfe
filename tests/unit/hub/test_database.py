"""Transactions, and noticing what other connections and processes commit."""

import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import insert, select

from moldar.errors import HostTrouble
from moldar.hub.data.connecting import connect
from moldar.hub.data.remembering import Remembered
from moldar.hub.data.schema import BLOBS
from moldar.hub.registry.repositories import Audience
from moldar.hub.services import Hub, open_database
from moldar.hub.settings import HubSettings, parse_listen

from .hubs import wait_for

ROW = {"digest": "sha256:" + "0" * 64, "size": 1, "created": 1}


def test_a_failed_transaction_leaves_nothing(hub: Hub) -> None:
    with pytest.raises(ZeroDivisionError), hub.database.writing() as connection:
        connection.execute(insert(BLOBS).values(ROW))
        raise ZeroDivisionError
    with hub.database.reading() as connection:
        assert connection.execute(select(BLOBS)).all() == []


def test_the_generation_moves_with_every_commit(hub: Hub) -> None:
    """As told to a thread; on the event loop the tests of two hubs ask."""
    before = hub.database.generation()
    assert hub.database.generation() == before
    with hub.database.writing(durable=False) as connection:
        connection.execute(insert(BLOBS).values(ROW))
    own = hub.database.generation()
    assert own != before
    url = hub.database.url.replace("+psycopg", "")
    other = psycopg.connect(url) if hub.database.is_remote else sqlite3.connect(hub.settings.path("hub.db"))
    other.execute("DELETE FROM blobs")
    other.commit()
    other.close()
    assert hub.database.generation() != own


def test_answers_are_remembered_until_something_changes() -> None:
    moment = [1]
    answers: Remembered[str, str] = Remembered(lambda: moment[0], 2)
    generation = answers.current()
    answers.put("a", "1", generation)
    assert answers.get("a") == "1"
    moment[0] = 2
    answers.put("b", "read before the change", generation)
    answers.current()
    assert answers.get("a") is None
    answers.put("b", "read before the change", generation)
    assert answers.get("b") is None
    for name in "xyz":
        answers.put(name, name, answers.current())
    assert [answers.get(name) for name in "xyz"] == [None, "y", "z"]


@pytest.mark.parametrize(("first", "second"), [(True, True), (True, False), (False, True)])
def test_writers_take_turns(hub: Hub, first: bool, second: bool) -> None:
    """Also those that need not be alone, when one of the two is."""
    done = threading.Event()

    def write() -> None:
        with hub.database.writing(alone=second) as connection:
            assert len(connection.execute(select(BLOBS)).all()) == 1  # sees what the other one wrote
        done.set()

    thread = threading.Thread(target=write)
    with hub.database.writing(alone=first) as connection:
        connection.execute(insert(BLOBS).values(ROW))
        thread.start()
        assert not done.wait(0.2)
    thread.join()
    assert done.is_set()


def test_holds(hub: Hub) -> None:
    other = connect(hub.database.url)
    assert hub.database.try_hold("one")
    assert not hub.database.try_hold("one")
    assert other.try_hold("two")
    if hub.database.is_remote:  # on SQLite one process has all uploads
        assert not other.try_hold("one")
    hub.database.let_go("one")
    assert hub.database.try_hold("one")
    other.close()
    wait_for(lambda: hub.database.try_hold("two") or not hub.database.is_remote)


def test_text_that_postgres_cannot_keep(hub: Hub) -> None:
    assert hub.accounts.find("a\0b") is None
    assert hub.repositories.names(Audience(everything=True), last="\0") == []


def test_two_openings_upgrade_once(tmp_path: Path, either: dict[str, Any]) -> None:
    settings = HubSettings(str(tmp_path), **either)
    pids = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            try:
                open_database(settings).close()
            except BaseException:
                os._exit(1)
            os._exit(0)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0, 0]


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    database = open_database(HubSettings(str(tmp_path)))
    with pytest.raises(HostTrouble, match="space"), database.writing() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1")
        for number in range(1000):
            connection.execute(insert(BLOBS).values({**ROW, "digest": f"sha256:{number:064d}"}))
    database.close()


def test_addresses() -> None:
    assert parse_listen("127.0.0.1:5050") == ("127.0.0.1", 5050)
    assert parse_listen(":80") == ("0.0.0.0", 80)
    assert parse_listen("[::1]:80") == ("::1", 80)
