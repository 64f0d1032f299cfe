"""Blobs as objects in an S3 bucket, which several hubs share.

    PREFIX/blobs/sha256/ab/abcdef…     finished blobs, named by their digest
    PREFIX/uploads/<id>/state          what an upload session holds so far: its segments, in order, and their hash
    PREFIX/uploads/<id>/<segment>      the bytes that one request brought, written by a multipart upload

Any hub may go on with a session: the state says where and, as long as nothing is added, what the hash is. So a blob
that came in one request (all that docker and most others send) is never read again: it is copied to its digest by the
storage. One of several segments is put together through the hub, and hashed once more on the way. Bytes count when
the request that brought them has ended; a hub that is killed meanwhile leaves the session as it was before.

Which request may write to a session is agreed on through the database (`Database.try_hold`).
"""

import contextlib
import hashlib
import json
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

from moldar.errors import HostTrouble, NotFound, UserMistake
from moldar.hub.data.database import Database
from moldar.hub.refusals import Refusal, Unavailable
from moldar.hub.storage.contract import CHUNK, RunningHash, check_upload_name
from moldar.hub.storage.place import S3Place
from moldar.hub.waiting import aside
from moldar.image.model import Digest, parse_digest

_PART = 8 * 1024 * 1024
_PARTS_AT_ONCE = 3
_MOST_PARTS = 9000  # S3 takes 10,000
_COPY_LIMIT = 5 * 1024**3
_BATCH = 2 * 1024 * 1024
_THREADS = 32
_REMEMBERED_HASHES = 1024
T = TypeVar("T")


class Segment(NamedTuple):
    """One object of a session."""

    name: str
    size: int


class State(NamedTuple):
    """What a session holds. `digest`: the hex hash of all its bytes by `algorithm`, empty before the first byte."""

    algorithm: str = ""
    digest: str = ""
    segments: tuple[Segment, ...] = ()

    @property
    def size(self) -> int:
        return sum(segment.size for segment in self.segments)


class S3Storage:
    """Blobs in a bucket. Threads and processes may share it.

    Opening it asks the bucket once: Unavailable when it does not answer, UserMistake when it says no.
    """

    is_remote = True

    def __init__(self, place: S3Place, database: Database) -> None:
        import obstore

        self._library: Any = obstore
        self._store = _open_store(place)
        self._database = database
        self._threads = ThreadPoolExecutor(_THREADS, "hub-s3")
        self._hashes: dict[str, tuple[State, RunningHash]] = {}
        self._lock = threading.Lock()
        self._ask_bucket(place)

    def size(self, digest: Digest) -> int | None:
        return self._size(_blob_path(digest))

    def open(self, digest: Digest) -> "S3Reader":
        path = _blob_path(digest)
        try:
            return S3Reader(self, path, *self.call(self._beginning, path))
        except FileNotFoundError as error:
            raise NotFound(f"no blob {digest}") from error

    def url(self, digest: Digest, seconds: int) -> str:
        return str(self.call(self._library.sign, self._store, "GET", _blob_path(digest), timedelta(seconds=seconds)))

    def delete(self, digest: Digest) -> bool:
        if self.size(digest) is None:
            return False
        self.delete_all([digest])
        return True

    def delete_all(self, digests: Sequence[Digest]) -> None:
        self._delete([_blob_path(digest) for digest in digests])

    def digests(self) -> Iterator[Digest]:
        for path in self._paths("blobs"):
            algorithm, _, name = path.split("/")[-3:]
            with contextlib.suppress(UserMistake):  # somebody else's object
                yield parse_digest(f"{algorithm}:{name}")

    def begin(self, upload: str) -> None:
        self.save(check_upload_name(upload), State())

    def resume(self, upload: str, algorithm: str) -> "S3Upload":
        if not self._database.try_hold(_hold_name(check_upload_name(upload))):
            raise Refusal("BLOB_UPLOAD_INVALID", "another request is writing to this upload", status=409)
        try:
            state = self.state(upload)
            if state is None:
                raise NotFound(f"no upload {upload}")
            return S3Upload(self, upload, algorithm, state)
        except BaseException:
            self.let_go(upload)
            raise

    def offset(self, upload: str) -> int | None:
        state = self.state(check_upload_name(upload))
        return None if state is None else state.size

    def discard(self, upload: str) -> bool:
        paths = list(self._paths(f"uploads/{check_upload_name(upload)}"))
        self._delete(paths)
        with self._lock:
            self._hashes.pop(upload, None)
        return bool(paths)

    def uploads(self) -> Iterator[str]:
        found = self.call(self._library.list_with_delimiter, self._store, "uploads")
        yield from sorted(str(path).rpartition("/")[2] for path in found["common_prefixes"])

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    # --- What readers and uploads need ------------------------------------------------------------------------

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Asks the storage, aside from the event loop. FileNotFoundError; Unavailable, HostTrouble."""
        result: T = aside(self._threads, _asked, function, *args)
        return result

    def stream(self, path: str, start: int, end: int) -> Iterator[bytes]:
        """The bytes of an object from `start` up to `end`."""
        if start >= end:
            return
        chunks = self.call(self._start_stream, path, start, end)
        while data := self.call(_next_chunk, chunks):
            yield data
            start += len(data)
        if start != end:
            raise HostTrouble("the hub's storage sent less than it should")

    def joined(self, upload: str, segments: Sequence[Segment]) -> Iterator[bytes]:
        """The bytes of a session."""
        for segment in segments:
            yield from self.stream(_upload_path(upload, segment.name), 0, segment.size)

    def writer(self, upload: str, segment: str) -> Any:
        path = _upload_path(upload, segment)
        options = {"buffer_size": _PART, "max_concurrency": _PARTS_AT_ONCE}
        writer: Any = self.call(lambda: self._library.open_writer(self._store, path, **options))
        return writer

    def state(self, upload: str) -> State | None:
        try:
            raw = self.call(lambda: bytes(self._library.get(self._store, _upload_path(upload, "state")).bytes()))
        except FileNotFoundError:
            return None
        try:
            document = json.loads(raw)
            segments = tuple(Segment(str(name), int(size)) for name, size in document["segments"])
            return State(str(document["algorithm"]), str(document["digest"]), segments)
        except (ValueError, KeyError, TypeError) as error:
            raise HostTrouble(f"the state of upload {upload} is damaged") from error

    def save(self, upload: str, state: State) -> None:
        raw = json.dumps(state._asdict()).encode()
        self.call(self._library.put, self._store, _upload_path(upload, "state"), raw)

    def publish(self, upload: str, state: State, digest: Digest) -> None:
        """Makes a session's bytes, which were found to be `digest`, a blob, and ends the session."""
        if self.state(upload) is None:
            raise FileNotFoundError(upload)
        path = _blob_path(digest)
        if self._size(path) != state.size:
            if len(state.segments) == 1 and state.size <= _COPY_LIMIT:
                source = _upload_path(upload, state.segments[0].name)
                self.call(self._library.copy, self._store, source, path)
            else:
                self.call(self._join, upload, state, digest)
        self.discard(upload)

    def let_go(self, upload: str) -> None:
        aside(self._threads, self._database.let_go, _hold_name(upload))

    def remember(self, upload: str, state: State, running: RunningHash) -> None:
        with self._lock:
            self._hashes[upload] = (state, running)
            while len(self._hashes) > _REMEMBERED_HASHES:
                self._hashes.pop(next(iter(self._hashes)))

    def recall(self, upload: str, state: State) -> RunningHash | None:
        with self._lock:
            remembered = self._hashes.pop(upload, None)
        return remembered[1] if remembered and remembered[0] == state else None

    def _join(self, upload: str, state: State, digest: Digest) -> None:
        options = {"buffer_size": max(_PART, state.size // _MOST_PARTS), "max_concurrency": _PARTS_AT_ONCE}
        writer = self._library.open_writer(self._store, _blob_path(digest), **options)
        running = hashlib.new(digest.partition(":")[0])
        for data in self.joined(upload, state.segments):
            running.update(data)
            writer.write(data)
        if running.hexdigest() != digest.partition(":")[2]:  # never closed, it never becomes an object
            raise HostTrouble("the hub's storage gave other bytes back than it was given")
        writer.close()

    def _beginning(self, path: str) -> tuple[int, bytes]:
        """How large an object is and its first bytes, which are all of a small one: in one question."""
        try:
            found = self._library.get(self._store, path, options={"range": (0, CHUNK)})
            return int(found.meta["size"]), bytes(found.bytes())
        except self._library.exceptions.GenericError as error:
            if "416" in _first_line(error):  # S3 cannot begin to send an empty object
                return int(self._library.head(self._store, path)["size"]), b""
            raise

    def _start_stream(self, path: str, start: int, end: int) -> Iterator[Any]:
        found = self._library.get(self._store, path, options={"range": (start, end)})
        return iter(found.stream(min_chunk_size=CHUNK))

    def _size(self, path: str) -> int | None:
        try:
            return int(self.call(self._library.head, self._store, path)["size"])
        except FileNotFoundError:
            return None

    def _paths(self, prefix: str) -> Iterator[str]:
        pages = iter(self._library.list(self._store, prefix))
        while page := self.call(_next_page, pages):
            yield from (str(entry["path"]) for entry in page)

    def _delete(self, paths: Sequence[str]) -> None:
        if paths:
            self.call(self._library.delete, self._store, list(paths))

    def _ask_bucket(self, place: S3Place) -> None:
        try:
            self.call(self._library.list_with_delimiter, self._store, "blobs")
        except Unavailable:
            raise
        except HostTrouble as error:
            raise UserMistake(f"cannot use the bucket {place.bucket!r}: {error.message}", hint=error.hint) from error


class S3Reader:
    """An object, whose first bytes are here already; see BlobReader."""

    def __init__(self, storage: S3Storage, path: str, size: int, beginning: bytes) -> None:
        self._storage = storage
        self._path = path
        self._beginning = beginning
        self.size = size

    def chunks(self, start: int, end: int) -> Iterator[bytes]:
        if data := self._beginning[start:end]:
            yield data
        yield from self._storage.stream(self._path, start + len(data), end)

    def close(self) -> None:
        """Nothing is open between requests."""


class S3Upload:
    """A held session; see UploadWriter."""

    def __init__(self, storage: S3Storage, upload: str, algorithm: str, state: State) -> None:
        self._storage = storage
        self._upload = upload
        self._algorithm = algorithm
        self._state = state
        self._hash: RunningHash | None = None
        self._segment = ""
        self._writer: Any = None
        self._pending: list[bytes] = []
        self._waiting = self._written = 0
        self._is_open = True
        self._is_saved = True

    @property
    def offset(self) -> int:
        return self._state.size + self._written

    def write(self, data: bytes) -> None:
        running = self._running()
        if self._writer is None:
            self._segment = secrets.token_hex(8)
            self._writer = self._storage.writer(self._upload, self._segment)
        self._pending.append(data)
        self._waiting += len(data)
        self._written += len(data)
        running.update(data)
        if self._waiting >= _BATCH:
            self._hand_over(self._writer.write)

    def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        try:
            self._end_segment()
            if self._is_saved:
                return
            if self._storage.state(self._upload) is None:  # cancelled meanwhile: do not bring it back
                self._storage.discard(self._upload)
                return
            self._storage.save(self._upload, self._state)
            self._storage.remember(self._upload, self._state, self._running())
        finally:
            self._storage.let_go(self._upload)

    def seal(self, digest: Digest) -> int:
        self._end_segment()
        algorithm, _, wanted = digest.partition(":")
        if self._digest(algorithm) != wanted:
            raise Refusal("DIGEST_INVALID", detail={"digest": digest})
        return self.offset

    def publish(self, digest: Digest) -> None:
        state = self._state if self._state.segments else self._empty()
        self._storage.publish(self._upload, state, digest)
        self._is_open = False
        self._storage.let_go(self._upload)

    def _empty(self) -> State:
        self._storage.writer(self._upload, "empty").close()
        return self._state._replace(segments=(Segment("empty", 0),))

    def _digest(self, algorithm: str) -> str:
        if algorithm != self._algorithm:
            return self._read(algorithm).hexdigest()
        if self._hash is None and self._state.algorithm == algorithm and self._state.digest:
            return self._state.digest
        return self._running().hexdigest()

    def _running(self) -> RunningHash:
        """The hash of all bytes so far: remembered, or computed from what is stored."""
        if self._hash is None:
            self._hash = self._storage.recall(self._upload, self._state) or self._read(self._algorithm)
        return self._hash

    def _read(self, algorithm: str) -> RunningHash:
        running: RunningHash = hashlib.new(algorithm)
        for data in self._storage.joined(self._upload, self._state.segments):
            running.update(data)
        return running

    def _end_segment(self) -> None:
        if self._writer is None:
            return
        self._hand_over(self._finish)
        segments = (*self._state.segments, Segment(self._segment, self._written))
        self._state = State(self._algorithm, self._running().hexdigest(), segments)
        self._written = 0
        self._writer = None
        self._is_saved = False

    def _finish(self, data: bytes) -> None:
        if data:
            self._writer.write(data)
        self._writer.close()

    def _hand_over(self, take: Callable[[bytes], Any]) -> None:
        """Gives the storage what has gathered. When that fails, the session is again as the last request left it."""
        data = b"".join(self._pending)
        self._pending.clear()
        self._waiting = 0
        try:
            self._storage.call(take, data)
        except BaseException:
            self._writer = None
            self._hash = None
            self._written = 0
            raise


def _open_store(place: S3Place) -> Any:
    from obstore.store import S3Store

    given = {
        "endpoint": place.endpoint,
        "region": place.region,
        "access_key_id": place.key_id,
        "secret_access_key": place.secret,
        "session_token": place.session_token,
    }
    return S3Store(
        place.bucket,
        prefix=place.prefix or None,
        client_options={
            "allow_http": True,
            "connect_timeout": timedelta(seconds=5),
            "read_timeout": timedelta(seconds=120),
            "timeout": timedelta(hours=12),  # of a whole request: a slow client may take long over a large blob
        },
        retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=15)},
        **{name: value for name, value in given.items() if value},  # type: ignore[arg-type]
    )


def _asked(function: Callable[..., T], *args: Any) -> T:
    from obstore import exceptions

    try:
        return function(*args)
    except exceptions.NotFoundError as error:
        raise FileNotFoundError(_first_line(error)) from error
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, PermissionError) as error:
        raise HostTrouble(f"the hub's storage says no: {_first_line(error)}") from error
    except exceptions.BaseError as error:
        text = _first_line(error)
        if "non-2xx" in text and " 4" in text:
            raise HostTrouble(f"the hub's storage says no: {text}") from error
        raise Unavailable("the hub's storage does not answer") from error


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:300]


def _next_chunk(chunks: Iterator[Any]) -> bytes:
    return bytes(next(chunks, b""))


def _next_page(pages: Iterator[Any]) -> Any:
    return next(pages, None)


def _blob_path(digest: Digest) -> str:
    algorithm, _, name = parse_digest(digest).partition(":")
    return f"blobs/{algorithm}/{name[:2]}/{name}"


def _upload_path(upload: str, name: str) -> str:
    return f"uploads/{upload}/{name}"


def _hold_name(upload: str) -> str:
    return f"upload {upload}"
