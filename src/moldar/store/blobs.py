"""Immutable bytes named by their digest, in the `blobs/` folder of an OCI image layout.

A blob appears whole or not at all: it is written to `ingest/` and hashed on the way, synced, and renamed into
place. Several processes may write the same blob; the last rename wins and changes nothing. A file in `ingest/` is
locked (flock) by its writer, so that the garbage collector tells a dead writer's leftovers from work in hand.
"""

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import BinaryIO, Self

from moldar.errors import CorruptData, HostTrouble, NotFound, UserMistake
from moldar.image.model import Descriptor, Digest, parse_digest
from moldar.store.home import Home
from moldar.store.running_hash import RunningHash

CHUNK = 1 << 20
PART = ".part"
"""How the name of an interrupted download ends; it is kept for a while, to be resumed."""


class BlobMissing(NotFound):
    """No blob of that digest is in the store."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"blob {digest} is not in the store")
        self.digest = digest


class BlobCorrupt(CorruptData):
    """Bytes do not have the digest or size that they should have. `path` is where they are, or would have been."""

    def __init__(self, path: str, expected: str, found: str) -> None:
        super().__init__(f"corrupt blob {path}: expected {expected}, found {found}")
        self.path = path
        self.expected = expected
        self.found = found


class BlobStore:
    """All blobs of one home. Methods may be called from any thread."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def path(self, digest: str) -> str:
        """Where the blob is, or would be; UserMistake when `digest` is none."""
        algorithm, _, hexadecimal = parse_digest(digest).partition(":")
        return f"{self._home.blobs}/{algorithm}/{hexadecimal}"

    def has(self, digest: str) -> bool:
        """Whether the blob is here, whole. Who will rely on it later asks `claim`."""
        return os.path.exists(self.path(digest))

    def claim(self, digest: str) -> bool:
        """As `has`, and keeps the blob from the garbage collector for as long as this process's lease lasts.

        It does so by making the blob look new: what is newer than the oldest living lease is never collected.
        """
        try:
            os.utime(self.path(digest))
        except FileNotFoundError:
            return False
        except PermissionError:  # a store that we may only read
            return self.has(digest)
        return True

    def size(self, digest: str) -> int:
        """Bytes of the blob; BlobMissing."""
        try:
            return os.stat(self.path(digest)).st_size
        except FileNotFoundError as error:
            raise BlobMissing(digest) from error

    def open(self, digest: str) -> BinaryIO:
        """The blob as an unbuffered file; BlobMissing, HostTrouble."""
        path = self.path(digest)
        try:
            return open(path, "rb", buffering=0)
        except FileNotFoundError as error:
            raise BlobMissing(digest) from error
        except OSError as error:
            raise HostTrouble(f"cannot read {path}: {error.strerror}") from error

    def read(self, digest: str, limit: int = 16 << 20) -> bytes:
        """The verified bytes of a small blob (a manifest or config); BlobMissing, BlobCorrupt, HostTrouble."""
        path = self.path(digest)
        with self.open(digest) as file, _reading(path):
            data = file.read(limit + 1)
        if len(data) > limit:
            raise BlobCorrupt(path, f"at most {limit} bytes", "more")
        algorithm = digest.partition(":")[0]
        found = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
        if found != digest:
            raise BlobCorrupt(path, digest, found)
        return data

    def put(self, data: bytes) -> Digest:
        """Store `data` and return its sha256 digest; HostTrouble."""
        digest = Digest("sha256:" + hashlib.sha256(data).hexdigest())
        if not self.claim(digest):
            with self.writer() as writer:
                writer.write(data)
                writer.commit()
        return digest

    def writer(self, expected: Descriptor | None = None) -> "BlobWriter":
        """A writer for a new blob, which must turn out to be `expected` when that is given; HostTrouble."""
        return BlobWriter(self._home, self, expected)

    def partial(self, expected: Descriptor) -> "BlobWriter":
        """A writer that goes on where an earlier, interrupted one stopped; `writer.size` bytes are there."""
        return BlobWriter(self._home, self, expected, resumable=True)

    def delete(self, digest: str) -> int:
        """Remove a blob and return the bytes freed; 0 when it is not there."""
        path = self.path(digest)
        try:
            size = os.stat(path).st_size
            os.unlink(path)
        except FileNotFoundError:
            return 0
        return size

    def __iter__(self) -> Iterator[Digest]:
        """The digests of all blobs, in order."""
        for digest, _ in self._names():
            if digest:
                yield digest

    def strays(self) -> Iterator[str]:
        """The paths in the blobs folder that are no blobs by their names."""
        for digest, path in self._names():
            if not digest:
                yield path

    def verify(self, digest: str) -> int:
        """Read the whole blob and return its size; BlobMissing, BlobCorrupt, HostTrouble."""
        path = self.path(digest)
        algorithm = digest.partition(":")[0]
        hasher = hashlib.new(algorithm)
        size = 0
        with self.open(digest) as file, _reading(path):
            while chunk := file.read(CHUNK):
                hasher.update(chunk)
                size += len(chunk)
        found = f"{algorithm}:{hasher.hexdigest()}"
        if found != digest:
            raise BlobCorrupt(path, digest, found)
        return size

    def _names(self) -> Iterator[tuple[Digest | None, str]]:
        for algorithm in sorted(os.listdir(self._home.blobs)):
            folder = f"{self._home.blobs}/{algorithm}"
            if not os.path.isdir(folder):
                yield None, folder
                continue
            for name in sorted(os.listdir(folder)):
                try:
                    yield parse_digest(f"{algorithm}:{name}"), f"{folder}/{name}"
                except UserMistake:
                    yield None, f"{folder}/{name}"


class BlobWriter:
    """One blob on its way in; a context manager that leaves nothing behind unless committed.

    A resumable writer keeps what it has when it is left without a commit, for the next attempt. `size` counts the
    bytes so far, in a resumable writer those of earlier attempts too.
    """

    def __init__(self, home: Home, blobs: BlobStore, expected: Descriptor | None, *, resumable: bool = False) -> None:
        self._home = home
        self._blobs = blobs
        self._expected = expected
        self._resumable = resumable
        self._algorithm = expected.digest.partition(":")[0] if expected else "sha256"
        self._hasher = RunningHash(self._algorithm)
        self.size = 0
        self._committed = False
        try:
            self._path, self._fd = self._open_part(expected) if resumable and expected else self._open_new()
        except OSError as error:
            raise _trouble(error, home.ingest) from error

    def _open_new(self) -> tuple[str, int]:
        path = f"{self._home.ingest}/{os.getpid()}-{os.urandom(8).hex()}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        _lock(fd)
        return path, fd

    def _open_part(self, expected: Descriptor) -> tuple[str, int]:
        path = f"{self._home.ingest}/{expected.digest.replace(':', '-')}{PART}"
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            if not _lock(fd):  # somebody else downloads the same blob: start afresh beside it
                os.close(fd)
                self._resumable = False
                return self._open_new()
            if _is_at(fd, path):
                break
            os.close(fd)  # it became a blob, or was collected, between opening and locking
        while chunk := os.read(fd, CHUNK):
            self._hasher.update(chunk)
            self.size += len(chunk)
        if self.size > expected.size:
            self._reset(fd)
        return path, fd

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append; HostTrouble when the disk is full. `data` may change again once this returns."""
        self._hasher.update(data)
        length = len(data)
        self.size += length
        try:
            written = os.write(self._fd, data)
            while written < length:
                written += os.write(self._fd, memoryview(data)[written:])
        except OSError as error:
            if error.errno == errno.ENOSPC:
                self._resumable = False  # half a blob must not keep the disk full
            raise _trouble(error, self._path) from error

    def restart(self) -> None:
        """Forget what was written so far."""
        self._reset(self._fd)

    def _reset(self, fd: int) -> None:
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        self._hasher.close()
        self._hasher = RunningHash(self._algorithm)
        self.size = 0

    @property
    def digest(self) -> Digest:
        """The digest of what was written so far."""
        return Digest(f"{self._algorithm}:{self._hasher.hexdigest()}")

    def commit(self) -> Digest:
        """Make the blob appear. BlobCorrupt, and nothing is kept, when it is not what was expected; HostTrouble."""
        digest = self.digest
        path = self._blobs.path(digest)
        expected = self._expected
        if expected and (digest != expected.digest or self.size != expected.size):
            self._resumable = False
            wanted = f"{expected.digest} ({expected.size} bytes)"
            raise BlobCorrupt(self._blobs.path(expected.digest), wanted, f"{digest} ({self.size} bytes)")
        try:
            if self._algorithm != "sha256":
                os.makedirs(os.path.dirname(path), mode=0o711, exist_ok=True)
            os.fsync(self._fd)
            os.utime(self._fd)  # a resumed download is as new as its end, for the garbage collector
            os.rename(self._path, path)
        except OSError as error:
            raise _trouble(error, path) from error
        self._committed = True
        return digest

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hasher.close()
        if not self._committed and not (self._resumable and self.size):
            try:
                os.unlink(self._path)
            except FileNotFoundError:
                pass
        os.close(self._fd)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


@contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HostTrouble(f"cannot read {path}: {error.strerror}") from error


def _trouble(error: OSError, path: str) -> HostTrouble:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = "free some space: `moldar system df` shows what the store holds" if full else ""
    return HostTrouble(f"cannot write {path}: {error.strerror}", hint=hint)
