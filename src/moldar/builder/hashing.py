"""Fingerprints of file contents: read once, remembered by stat, split over two processes when there is much to read.

A fingerprint is the SHA-256 of a file's content; a file that carries capabilities has them hashed in as well, so that
whoever knows the fingerprint need not ask for extended attributes (setting one changes ctime, which the stat index
watches).
"""

import _thread
import os
import time
from collections.abc import Sequence
from hashlib import sha256

from moldar.builder.entry import Entry, Place
from moldar.errors import HostTrouble
from moldar.store.stat_index import FileStat, StatIndex

CAPABILITY = "security.capability"
_PIECE = 1 << 20
_SIGKILL = 9  # importing `signal` makes Enums, at a cost for every cached build
_COST_OF_A_FILE = 8192  # bytes that could be hashed in the time that opening and closing one takes
_WORTH_A_FORK = 24 << 20
_WORTH_A_THREAD = 128 << 10  # bytes of a file on average; below, two threads only fight for the interpreter's lock
_WORTH_A_LOAD = 400  # files; below, asking for each is faster than reading the index in bulk
_DIGEST_SIZE = 32


class SourceChanged(HostTrouble):
    """A file changed while the build read it. `path` as on the host."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path!r} changed while the build read it",
            hint="run the build again, or exclude the file in .dockerignore",
        )
        self.path = path


class UnreadableSource(HostTrouble):
    """A file of a copy's source cannot be read. `path` as on the host."""

    def __init__(self, path: str, error: OSError) -> None:
        super().__init__(f"cannot read {path!r}: {error.strerror}")
        self.path = path


def open_unchanged(path: str) -> int:
    """A descriptor of the file `path`, which must not be a link; UnreadableSource when that fails.

    O_NONBLOCK means nothing to files, but keeps us from waiting for a pipe that took a file's place.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UnreadableSource(path, error) from error


def check_unchanged(descriptor: int, path: str, key: FileStat) -> None:
    """SourceChanged when the open file is not, or no longer, the one that `key` describes."""
    now = os.fstat(descriptor)
    if (now.st_mtime_ns, now.st_ctime_ns, now.st_size, now.st_ino) != (key.mtime, key.ctime, key.size, key.inode):
        raise SourceChanged(path)


def read_capability(descriptor: int) -> bytes:
    """The file's capabilities as stored, empty when it has none."""
    try:
        return os.getxattr(descriptor, CAPABILITY) if CAPABILITY in os.listxattr(descriptor) else b""
    except OSError:  # a file system without extended attributes
        return b""


def fingerprint(place: Place) -> bytes:
    """The fingerprint of one file; SourceChanged when it is not what `place` says, UnreadableSource."""
    path, key = place
    descriptor = open_unchanged(path)
    try:
        digest = _hash_content(descriptor, path, key.size)
        check_unchanged(descriptor, path, key)
        capability = read_capability(descriptor)
    finally:
        os.close(descriptor)
    return sha256(b"capability\0" + capability + digest).digest() if capability else digest


def _hash_content(descriptor: int, path: str, size: int) -> bytes:
    try:
        if size < _PIECE:
            return sha256(os.read(descriptor, size + 1)).digest()
        running = sha256()
        buffer = bytearray(_PIECE)
        view = memoryview(buffer)
        while count := os.readv(descriptor, [buffer]):
            running.update(view[:count])
        return running.digest()
    except OSError as error:
        raise UnreadableSource(path, error) from error


def fingerprint_files(root: str, entries: Sequence[Entry], index: StatIndex | None) -> list[bytes]:
    """The fingerprint of every file, `entries` being below the directory `root`, from `index` where it knows them."""
    known: list[bytes | None] = _remembered(entries, index) if index else [None] * len(entries)
    missing = [position for position, value in enumerate(known) if value is None]
    if missing:
        places = [Place(f"{root}/{entries[position].path}", entries[position].key) for position in missing]
        started = time.time_ns()
        made = _hash_all(places)
        for position, value in zip(missing, made, strict=True):
            known[position] = value
        if index:
            index.put([(place.key, value) for place, value in zip(places, made, strict=True)], started)
    return [value for value in known if value is not None]


def _remembered(entries: Sequence[Entry], index: StatIndex) -> list[bytes | None]:
    if len(entries) < _WORTH_A_LOAD:
        return [index.get(entry.key) for entry in entries]
    tables: dict[int, dict[int, tuple[int, int, int, bytes]]] = {}
    for device in {entry.device for entry in entries}:
        inodes = [entry.inode for entry in entries if entry.device == device]
        tables[device] = index.load(device, min(inodes), max(inodes))
    found: list[bytes | None] = []
    for _, _, _, _, _, size, mtime, ctime, device, inode, _, _ in entries:
        row = tables[device].get(inode)
        found.append(row[3] if row and row[1] == mtime and row[2] == ctime and row[0] == size else None)
    return found


def _hash_all(files: Sequence[Place]) -> list[bytes]:
    costs = [key.size + _COST_OF_A_FILE for _, key in files]
    total = sum(costs)
    if total < _WORTH_A_FORK:
        return [fingerprint(place) for place in files]
    done = 0
    middle = 0
    while middle < len(files) - 1 and done + costs[middle] / 2 < total / 2:
        done += costs[middle]
        middle += 1
    if not middle:
        return [fingerprint(place) for place in files]
    if _thread._count():  # a forked child must not meet a lock that another thread holds
        if total < len(files) * _WORTH_A_THREAD:
            return [fingerprint(place) for place in files]
        return _with_a_thread(files, middle)
    return _with_a_child(files, middle)


def _with_a_child(files: Sequence[Place], middle: int) -> list[bytes]:
    """A forked child hashes what comes after `middle`, this process the rest (and what the child did not)."""
    receiver, sender = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if not child:
        _be_child(files[middle:], receiver, sender)
    os.close(sender)
    try:
        own = [fingerprint(place) for place in files[:middle]]
        answer = _receive(receiver)
    except BaseException:
        os.kill(child, _SIGKILL)
        raise
    finally:
        os.close(receiver)
        os.waitpid(child, 0)
    theirs = [answer[at : at + _DIGEST_SIZE] for at in range(0, len(answer) - _DIGEST_SIZE + 1, _DIGEST_SIZE)]
    rest = files[middle + len(theirs) :]
    return own + theirs + [fingerprint(place) for place in rest]


def _be_child(files: Sequence[Place], receiver: int, sender: int) -> None:
    """Hash until the first trouble, which the parent then meets itself and reports."""
    made = bytearray()
    try:
        os.close(receiver)
        try:
            for place in files:
                made += fingerprint(place)
        finally:
            view = memoryview(made)
            while view:
                view = view[os.write(sender, view) :]
    finally:
        os._exit(0)


def _receive(receiver: int) -> bytes:
    parts = []
    while part := os.read(receiver, _PIECE):
        parts.append(part)
    return b"".join(parts)


def _with_a_thread(files: Sequence[Place], middle: int) -> list[bytes]:
    """A second thread hashes what comes after `middle`; worth it for large files, whose hashing releases the GIL."""
    theirs: list[bytes] = []
    troubles: list[BaseException] = []
    finished = _thread.allocate_lock()
    finished.acquire()

    def work() -> None:
        try:
            theirs.extend(fingerprint(place) for place in files[middle:])
        except BaseException as error:  # raised by the caller below
            troubles.append(error)
        finally:
            finished.release()

    _thread.start_new_thread(work, ())
    try:
        own = [fingerprint(place) for place in files[:middle]]
    finally:
        finished.acquire()
    for trouble in troubles:
        raise trouble
    return own + theirs
