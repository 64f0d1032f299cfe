"""Streams between a blob and what is made of it: hashed on the way, read ahead by a thread."""

import hashlib
import queue
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from moldar.image.decompression import open_decompressed
from moldar.image.layer_entry import LayerEntry
from moldar.image.layer_read import Readable, read_entries
from moldar.image.layer_write import Opener, write_layer
from moldar.image.model import Digest

_CHUNK = 1 << 20
_AHEAD = 4


class Hashing:
    """A stream that knows the sha256 digest and size of what was read through it."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._hasher = hashlib.sha256()
        self.size = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self._hasher.update(data)
        self.size += len(data)
        return data

    @property
    def digest(self) -> Digest:
        return Digest("sha256:" + self._hasher.hexdigest())


class Prefetched:
    """A stream read ahead by a thread of its own, so that decompressing and using its content overlap.

    A context manager: on leaving, the thread has ended. Errors of the stream are raised from `read`.
    """

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._queue: queue.Queue[bytes | BaseException] = queue.Queue(_AHEAD)
        self._stop = False
        self._ended = False
        self._rest = b""
        self._thread = threading.Thread(target=self._fetch, daemon=True)

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes (about a megabyte for -1), none at the end."""
        if not self._rest and not self._ended:
            item = self._queue.get()
            if isinstance(item, BaseException):
                self._ended = True
                raise item
            self._rest, self._ended = item, not item
        if size < 0 or size >= len(self._rest):
            data, self._rest = self._rest, b""
        else:
            data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def _fetch(self) -> None:
        try:
            while not self._stop:
                data = self._stream.read(_CHUNK)
                self._queue.put(data)
                if not data:
                    return
        except BaseException as error:
            self._queue.put(error)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop = True
        while self._thread.is_alive() and not self._ended:  # it may be waiting for room in the queue
            try:
                self._queue.get(timeout=0.02)
            except queue.Empty:
                pass
        self._thread.join()


class Meter:
    """The diff ID and tar size of a layer blob whose bytes are fed in as they arrive; a thread decompresses.

    A context manager: on leaving, the thread has ended.
    """

    def __init__(self) -> None:
        self._queue: queue.Queue[bytes] = queue.Queue(_AHEAD)
        self._measured: tuple[Digest, int] | None = None
        self._error: BaseException | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._work, daemon=True)

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the blob, not empty."""
        self._queue.put(chunk)

    def result(self) -> tuple[Digest, int]:
        """After the last bytes; raises BadCompression and BadLayer when they are not what they should be."""
        self._finish()
        if self._error or not self._measured:
            raise self._error or RuntimeError("nothing was measured")
        return self._measured

    def read(self, size: int = -1, /) -> bytes:
        """For the thread: what was fed, piece by piece."""
        data = b"" if self._ended else self._queue.get()
        self._ended = not data
        return data

    def _work(self) -> None:
        try:
            self._measured = measure(self)
        except BaseException as error:
            self._error = error
            while self.read():
                pass  # whoever feeds must not wait for a reader that has given up

    def _finish(self) -> None:
        if self._thread.is_alive():
            self._queue.put(b"")
            self._thread.join()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish()


def measure(stream: Readable) -> tuple[Digest, int]:
    """The diff ID and tar size of a layer from its blob's bytes; BadCompression, BadLayer for a bad tar."""
    plain = Hashing(open_decompressed(stream))
    for _ in read_entries(plain, contents=False):
        pass
    return plain.digest, plain.size


class WrittenTar(Prefetched):
    """The tar that a thread writes from entries, as a stream to read."""

    def __init__(self, entries: Iterable[tuple[LayerEntry, Opener | None]]) -> None:
        super().__init__(_Nothing())
        self._entries = entries

    def _fetch(self) -> None:
        try:
            write_layer(self._entries, self._take)
            self._queue.put(b"")
        except BaseException as error:
            self._queue.put(error)

    def _take(self, data: bytes | memoryview) -> None:
        if self._stop:
            raise _NobodyReads
        self._queue.put(bytes(data))


class _NobodyReads(Exception):
    """The reader left before the end."""


class _Nothing:
    def read(self, size: int = -1, /) -> bytes:
        return b""
