"""Blobs as files.

    DATA/blobs/sha256/ab/abcdef…   finished blobs, named by their digest, never changed
    DATA/uploads/<id>              unfinished uploads, named by their session

An upload is hashed while it is written. A blob appears under its digest by a rename, after its bytes are on the
disk: a reader sees a whole blob or none, wherever the process dies. A session's file outlives the process; its
length is the offset at which the client may go on, and its hash is computed anew when no process remembers it.
"""

import contextlib
import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator, Sequence

from moldar.errors import HostTrouble, NotFound
from moldar.hub.data.database import make_private_directory
from moldar.hub.refusals import Refusal
from moldar.hub.storage.contract import ALGORITHMS, CHUNK, RunningHash, check_upload_name
from moldar.image.model import Digest, parse_digest

_REMEMBERED_HASHES = 1024


class FileStorage:
    """Blobs as files below `root`. Threads and processes may share it."""

    is_remote = False

    def __init__(self, root: str) -> None:
        self.root = root
        self._blobs = os.path.join(root, "blobs")
        self._uploads = os.path.join(root, "uploads")
        self._hashes: dict[tuple[str, str], tuple[int, RunningHash]] = {}
        self._lock = threading.Lock()
        self._known: set[str] = set()
        make_private_directory(self._uploads)
        for algorithm in ALGORITHMS:
            make_private_directory(os.path.join(self._blobs, algorithm))

    def size(self, digest: Digest) -> int | None:
        try:
            return os.stat(self.path(digest)).st_size
        except FileNotFoundError:
            return None

    def open(self, digest: Digest) -> "FileReader":
        try:
            return FileReader(os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError as error:
            raise NotFound(f"no blob {digest}") from error

    def delete(self, digest: Digest) -> bool:
        try:
            os.unlink(self.path(digest))
        except FileNotFoundError:
            return False
        return True

    def url(self, digest: Digest, seconds: int) -> str:
        return ""

    def delete_all(self, digests: Sequence[Digest]) -> None:
        for digest in digests:
            self.delete(digest)

    def digests(self) -> Iterator[Digest]:
        for algorithm in ALGORITHMS:
            top = os.path.join(self._blobs, algorithm)
            for prefix in sorted(os.listdir(top)):
                for name in sorted(os.listdir(os.path.join(top, prefix))):
                    yield parse_digest(f"{algorithm}:{name}")

    def begin(self, upload: str) -> None:
        os.close(os.open(self._upload_path(upload), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    def resume(self, upload: str, algorithm: str) -> "FileUpload":
        try:
            fd = os.open(self._upload_path(upload), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotFound(f"no upload {upload}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink == 0:  # it was committed or cancelled between open and lock
                raise NotFound(f"no upload {upload}")
            return FileUpload(self, upload, algorithm, fd)
        except BlockingIOError as error:
            os.close(fd)
            raise Refusal("BLOB_UPLOAD_INVALID", "another request is writing to this upload", status=409) from error
        except BaseException:
            os.close(fd)
            raise

    def offset(self, upload: str) -> int | None:
        try:
            return os.stat(self._upload_path(upload)).st_size
        except FileNotFoundError:
            return None

    def discard(self, upload: str) -> bool:
        self._forget(upload)
        try:
            os.unlink(self._upload_path(upload))
        except FileNotFoundError:
            return False
        return True

    def uploads(self) -> Iterator[str]:
        yield from sorted(os.listdir(self._uploads))

    def close(self) -> None:
        """Nothing stays open."""

    def path(self, digest: Digest) -> str:
        algorithm, _, name = parse_digest(digest).partition(":")
        return os.path.join(self._blobs, algorithm, name[:2], name)

    def _upload_path(self, upload: str) -> str:
        return os.path.join(self._uploads, check_upload_name(upload))

    def _place(self, upload: str, digest: Digest) -> None:
        """Renames the session's file to the blob's, so that it is there after a loss of power too."""
        target = self.path(digest)
        parent = os.path.dirname(target)
        if parent not in self._known:
            os.makedirs(parent, mode=0o700, exist_ok=True)
            _sync_directory(os.path.dirname(parent))
            self._known.add(parent)
        os.replace(self._upload_path(upload), target)
        _sync_directory(parent)

    def _recall(self, upload: str, algorithm: str, fd: int) -> tuple[int, RunningHash]:
        """Offset and running hash of a session: remembered, or computed from its file."""
        size = os.fstat(fd).st_size
        with self._lock:
            remembered = self._hashes.pop((upload, algorithm), None)
        if remembered and remembered[0] == size:  # else another process went on with it
            return remembered
        return size, hash_file(fd, algorithm, size)

    def _remember(self, upload: str, algorithm: str, offset: int, running: RunningHash) -> None:
        with self._lock:
            self._hashes[(upload, algorithm)] = (offset, running)
            while len(self._hashes) > _REMEMBERED_HASHES:
                self._hashes.pop(next(iter(self._hashes)))

    def _forget(self, upload: str) -> None:
        with self._lock:
            for algorithm in ALGORITHMS:
                self._hashes.pop((upload, algorithm), None)


class FileReader:
    """An open file; see BlobReader."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.size = os.fstat(fd).st_size

    def chunks(self, start: int, end: int) -> Iterator[bytes]:
        if end - start > CHUNK:
            os.posix_fadvise(self._fd, start, end - start, os.POSIX_FADV_SEQUENTIAL)
        while start < end:
            data = os.pread(self._fd, min(CHUNK, end - start), start)
            if not data:
                raise HostTrouble("a stored blob is shorter than it was")
            start += len(data)
            yield data

    def close(self) -> None:
        os.close(self._fd)


class FileUpload:
    """A locked session file; see UploadWriter. The lock is the file descriptor's: it goes with the process."""

    def __init__(self, storage: FileStorage, upload: str, algorithm: str, fd: int) -> None:
        self._storage = storage
        self._upload = upload
        self._algorithm = algorithm
        self._fd = fd
        self._offset, self._hash = storage._recall(upload, algorithm, fd)
        self._open = True
        os.lseek(fd, self._offset, os.SEEK_SET)

    @property
    def offset(self) -> int:
        return self._offset

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._offset)
                os.lseek(self._fd, self._offset, os.SEEK_SET)
            raise
        self._hash.update(data)
        self._offset += len(data)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._storage._remember(self._upload, self._algorithm, self._offset, self._hash)
            os.close(self._fd)

    def seal(self, digest: Digest) -> int:
        if self._digest(digest.partition(":")[0]) != digest:
            raise Refusal("DIGEST_INVALID", detail={"digest": digest})
        os.fsync(self._fd)
        return self._offset

    def publish(self, digest: Digest) -> None:
        self._storage._place(self._upload, digest)
        self._open = False
        os.close(self._fd)

    def _digest(self, algorithm: str) -> str:
        if algorithm == self._algorithm:
            return f"{algorithm}:{self._hash.hexdigest()}"
        return f"{algorithm}:{hash_file(self._fd, algorithm, self._offset).hexdigest()}"


def hash_file(fd: int, algorithm: str, size: int) -> RunningHash:
    """The running hash of the first `size` bytes of `fd`."""
    running = hashlib.new(algorithm)
    offset = 0
    while offset < size:
        data = os.pread(fd, min(CHUNK, size - offset), offset)
        if not data:
            raise HostTrouble("an upload's file is shorter than it was")
        running.update(data)
        offset += len(data)
    return running


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
