"""Several processes on one store, and processes that are killed: what is there afterwards is sound and works."""

import random
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from moldar.store.check import Checker
from moldar.store.database import Database
from moldar.store.gc import Policy
from moldar.store.leases import living

WORKER = Path(__file__).with_name("worker.py")
KILLS = 36


def start(root: Path, seed: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(WORKER), str(root / "home"), str(seed)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "begun\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    _, complaint = process.communicate()
    assert not complaint


def assert_sound(worker: Any) -> None:
    report = Checker(worker.home, worker.database, worker).check()
    assert report.sound, "\n".join(map(str, report.findings))


def test_a_killed_process_leaves_only_garbage(root: Path, worker: ModuleType) -> None:
    """At each of KILLS random moments two processes that write and collect are killed at once."""
    chance = random.Random(1)
    mine = worker.Worker(str(root / "home"), 0)
    for moment in range(KILLS):
        children = [start(root, 2 * moment + child) for child in range(2)]
        time.sleep(chance.uniform(0.01, 0.3))
        for child in children:
            kill(child)
        assert_sound(mine)
        image = mine.build()  # the next command works
        assert mine.images.resolve(image) == image
        mine.images.config(image)
    mine.collector.collect(Policy(cache_bytes=0, images="unused"))
    assert_sound(mine)
    assert not living(mine.home)[1]


def test_processes_at_work_do_not_lose_each_others_things(root: Path, worker: ModuleType) -> None:
    """While others build and prune, whatever is named, leased or used by a container stays whole."""
    mine = worker.Worker(str(root / "home"), 0)
    children = [start(root, 100 + child) for child in range(3)]
    end = time.monotonic() + 4
    while time.monotonic() < end:
        for child in children:
            assert child.poll() is None, child.communicate()
        mine.work()
        assert_sound(mine)
    for child in children:
        kill(child)
    assert_sound(mine)


def test_many_processes_make_one_store_at_once(root: Path) -> None:
    program = """
import sys, threading
from moldar.store.home import Home
from moldar.store.database import Database
from moldar.image.reference import parse_reference
from moldar.store.blobs import BlobStore
from moldar.store.images import ImageTable
sys.stdin.read(1)
home = Home.open(sys.argv[1])
images = ImageTable(Database(home), BlobStore(home))
def work(number):
    for count in range(10):
        images.tag(parse_reference(f"p{sys.argv[2]}-{number}:{count}"), "sha256:" + "ab" * 32)
threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(root / "home"), str(child)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for child in range(6)
    ]
    time.sleep(0.5)
    for child in children:
        assert child.stdin
        child.stdin.write("x")
        child.stdin.flush()
    for child in children:
        assert child.communicate()[1] == ""
        assert child.returncode == 0
    database = Database(_home(root))
    assert database.row("SELECT count(*) FROM tags") == (6 * 3 * 10,)


def _home(root: Path) -> Any:
    from moldar.store.home import Home

    return Home.open(str(root / "home"))
