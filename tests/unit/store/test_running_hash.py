"""Hashes beside the writing: the same digests, whatever the sizes, and no thread that stays."""

import hashlib
import os
from pathlib import Path

import pytest

from moldar.errors import HostTrouble
from moldar.store.blobs import BlobStore
from moldar.store.home import Home
from moldar.store.running_hash import RunningHash

DATA = os.urandom(12_345_678)
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize("step", [10_000, 300_000, 1 << 20, 20 << 20])
@pytest.mark.usefixtures("no_new_threads")
def test_chunks_of_any_size_from_a_buffer_that_is_used_again(step: int) -> None:
    running = RunningHash("sha256")
    buffer = bytearray(step)
    for start in range(0, len(DATA), step):
        piece = DATA[start : start + step]
        buffer[: len(piece)] = piece
        running.update(memoryview(buffer)[: len(piece)])
        buffer[:] = bytes(step)
    assert running.hexdigest() == SHA
    running.close()


@pytest.mark.usefixtures("no_new_threads")
def test_a_digest_on_the_way_and_large_among_small() -> None:
    running = RunningHash("sha512")
    middle = 9_000_000
    for start in range(0, middle, 1 << 20):
        running.update(DATA[start : min(start + (1 << 20), middle)])
        running.update(b"")
    assert running.hexdigest() == hashlib.sha512(DATA[:middle]).hexdigest()
    running.update(DATA[middle : middle + 7])
    running.update(DATA[middle + 7 :])
    assert running.hexdigest() == hashlib.sha512(DATA).hexdigest()
    running.close()


@pytest.mark.usefixtures("no_new_threads")
def test_a_writer_leaves_no_thread(tmp_path: Path) -> None:
    store = BlobStore(Home.open(str(tmp_path / "home")))
    with store.writer() as writer:
        for start in range(0, len(DATA), 1 << 20):
            writer.write(DATA[start : start + (1 << 20)])
        assert writer.digest == "sha256:" + SHA
        assert writer.commit() == "sha256:" + SHA
    assert store.verify("sha256:" + SHA) == len(DATA)
    with pytest.raises(HostTrouble, match="stop"), store.writer() as writer:
        for _ in range(9):
            writer.write(DATA[: 1 << 20])
        raise HostTrouble("stop")
    with store.writer() as writer:
        writer.write(DATA)
        writer.restart()
        writer.write(b"fresh")
        assert writer.commit() == "sha256:" + hashlib.sha256(b"fresh").hexdigest()
