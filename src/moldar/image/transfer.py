"""Copying an image from one place to another: pull, push, save and load are all `copy(source, sink)`.

A place to read from is an `ImageSource`, a place to write to an `ImageSink`; registries, archives and the local
store implement one or both. Upload order is the distribution-spec's: blobs first, then what refers to them.
"""

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple, Protocol

from moldar.errors import CorruptData, NotFound
from moldar.image.model import Descriptor, Digest, Index, Manifest, Platform, parse_manifest

JOBS = 4
MANIFEST_LIMIT = 4 * 1024 * 1024
"""Largest manifest that we read, in bytes (distribution-spec, "Pushing Manifests")."""

_DEEPEST = 8
_CHUNK = 1 << 20
_STRIDE = 16 << 20  # bytes that the kernel may copy before anybody is told, or can stop it
_NO_WAY = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ESPIPE}
)

BlobReader = Callable[[int], AbstractContextManager[Iterator[bytes]]]
"""Opens a blob's bytes from an offset on; may be called again, to retry or to resume."""


class ImageSource(Protocol):
    """One image (or index of images) to read. Methods may be called from several threads at once."""

    def resolve(self) -> Descriptor:
        """The image's manifest or index; NotFound when there is none."""
        ...

    def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """The bytes of a manifest or index. The caller verifies them."""
        ...

    def open_blob(self, descriptor: Descriptor, offset: int = 0) -> AbstractContextManager[Iterator[bytes]]:
        """The bytes of a layer or config from `offset` on, in chunks. The caller verifies them.

        A `BlobFile` instead of any other iterator says that the source hashed these bytes itself when they came to
        it; then the caller need not do it again.
        """
        ...


class ImageSink(Protocol):
    """A place that takes one image. Methods may be called from several threads at once."""

    @property
    def verifies(self) -> bool:
        """Whether `put_blob` itself refuses bytes that do not match the descriptor; else `copy` hashes them."""
        ...

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there already, so that nothing has to be sent."""
        ...

    def put_blob(self, descriptor: Descriptor, read: BlobReader) -> None:
        """Take a blob whole. `read(offset)` gives its bytes; an offset above 0 resumes an earlier attempt.

        They may come as a `BlobFile`, which a sink that writes a file may ask to do so.
        """
        ...

    def put_manifest(self, descriptor: Descriptor, raw: bytes, *, root: bool) -> None:
        """Take a manifest or index whose blobs are all there; `root` marks the one that the name points to."""
        ...


class Progress(Protocol):
    """Told from any thread how far each blob is. Done with `current` 0: the sink had it already."""

    def __call__(self, descriptor: Descriptor, current: int, total: int, done: bool) -> None: ...


class Copied(NamedTuple):
    """What `copy` put: the root that the name now points to, every image manifest beneath it, and what the
    source's name pointed to (an index, when a platform was chosen from it)."""

    root: Descriptor
    manifests: tuple[Manifest, ...]
    resolved: Descriptor


class _Node(NamedTuple):
    descriptor: Descriptor
    document: Manifest | Index


class WrongBytes(CorruptData):
    """A source served bytes that are not those of the descriptor."""

    def __init__(self, descriptor: Descriptor, got: str) -> None:
        super().__init__(f"content of {descriptor.digest} ({descriptor.size} bytes) is wrong: got {got}")
        self.descriptor = descriptor


class BlobFile:
    """A blob's bytes in a file of a source that hashed them when it took them in: chunks, or `copy_to` another file.

    Both give exactly the blob's size, else they raise WrongBytes; nothing is hashed here. `watch` is told how many
    bytes have just gone, and may raise to stop. The descriptor stays the source's, who closes it.
    """

    def __init__(self, descriptor: int, blob: Descriptor, offset: int = 0) -> None:
        self._descriptor = descriptor
        self._blob = blob
        self._left = blob.size - offset
        self._ways = [_by_range, _by_sendfile, _by_hand]
        self.watch: Callable[[int], object] = lambda count: None
        size = os.fstat(descriptor).st_size
        if size != blob.size:
            raise WrongBytes(blob, f"{size} bytes")
        os.lseek(descriptor, offset, os.SEEK_SET)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._left:
            raise StopIteration
        data = os.read(self._descriptor, min(self._left, _CHUNK))
        self._gone(len(data))
        return data

    def copy_to(self, descriptor: int) -> None:
        """Append what is left to another file or pipe, in the kernel where it can; OSError."""
        while self._left:
            try:
                count = self._ways[0](self._descriptor, descriptor, min(self._left, _STRIDE))
            except OSError as error:
                if len(self._ways) == 1 or error.errno not in _NO_WAY:
                    raise
                count = 0
            if not count and len(self._ways) > 1:
                del self._ways[0]  # not between these two files
                continue
            self._gone(count)

    def _gone(self, count: int) -> None:
        if not count:
            raise WrongBytes(self._blob, f"{self._blob.size - self._left} bytes")
        self._left -= count
        self.watch(count)


def _by_range(source: int, target: int, count: int) -> int:
    return os.copy_file_range(source, target, count)


def _by_sendfile(source: int, target: int, count: int) -> int:
    return os.sendfile(target, source, None, count)


def _by_hand(source: int, target: int, count: int) -> int:
    data = os.read(source, min(count, _CHUNK))
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(target, rest) :]
    return len(data)


class NoSuchPlatform(NotFound):
    """An index has no image for the platform that was asked for."""

    def __init__(self, platform: Platform, available: tuple[Platform, ...]) -> None:
        names = ", ".join(sorted({str(candidate) for candidate in available}))
        super().__init__(f"no image for platform {platform}", hint=f"available: {names}" if names else "")
        self.platform = platform


class Cancelled(Exception):
    """Raised inside a worker when another one failed; never leaves `copy`."""


def copy(
    source: ImageSource,
    sink: ImageSink,
    *,
    platform: Platform | None = None,
    jobs: int = JOBS,
    progress: Progress | None = None,
) -> Copied:
    """Copy the image of `source`; only `platform`'s when that is given and the source is an index.

    At most `jobs` blobs travel at once. The first failure cancels the others and is raised when all have stopped.
    Raises WrongBytes, NoSuchPlatform, and whatever source and sink raise.
    """
    report = progress or _silent
    resolved = source.resolve()
    tree = _read_tree(source, resolved, platform)
    layers: dict[Digest, Descriptor] = {}
    configs: dict[Digest, Descriptor] = {}
    images = tuple(node.document for node in tree if isinstance(node.document, Manifest))
    for manifest in images:
        layers |= {layer.digest: layer for layer in manifest.layers}
        configs[manifest.config.digest] = manifest.config
    transfer = _Transfer(source, sink, report)
    transfer.run([layer for digest, layer in layers.items() if digest not in configs], jobs)
    transfer.run(list(configs.values()), jobs)
    for node in tree:
        sink.put_manifest(node.descriptor, node.document.raw, root=node is tree[-1])
    return Copied(tree[-1].descriptor, images, resolved)


def fetch_document(source: ImageSource, descriptor: Descriptor) -> Manifest | Index:
    """The verified manifest or index that `descriptor` names; WrongBytes, CorruptData."""
    if descriptor.size > MANIFEST_LIMIT:
        raise CorruptData(f"manifest {descriptor.digest} is too large: {descriptor.size} bytes")
    raw = source.fetch_manifest(descriptor)
    algorithm = descriptor.digest.partition(":")[0]
    digest = f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}"
    if digest != descriptor.digest or len(raw) != descriptor.size:
        raise WrongBytes(descriptor, f"{digest} ({len(raw)} bytes)")
    return parse_manifest(raw, descriptor.media_type)


def select_platform(index: Index, platform: Platform) -> Descriptor:
    """The manifest of `index` for `platform`; without a variant asked for, the first of any variant.

    An arm64 image without a variant serves arm64/v8 and the other way round. Raises NoSuchPlatform.
    """
    offered = [entry for entry in index.manifests if entry.platform and entry.platform.os != "unknown"]
    best = [entry for entry in offered if entry.platform and _normal(entry.platform) == _normal(platform)]
    if best:
        return best[0]
    for entry in offered:
        if entry.platform and entry.platform[:2] == platform[:2] and not platform.variant:
            return entry
    unnamed = [entry for entry in index.manifests if not entry.platform]
    if not offered and len(unnamed) == 1:
        return unnamed[0]
    raise NoSuchPlatform(platform, tuple(entry.platform for entry in offered if entry.platform))


def verified(chunks: Iterator[bytes], descriptor: Descriptor) -> Iterator[bytes]:
    """The same chunks of a whole blob; raises WrongBytes as soon as there are too many, or at the end."""
    algorithm, _, expected = descriptor.digest.partition(":")
    hasher = hashlib.new(algorithm, usedforsecurity=False)
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > descriptor.size:
            raise WrongBytes(descriptor, f"more than {descriptor.size} bytes")
        hasher.update(chunk)
        yield chunk
    if total != descriptor.size or hasher.hexdigest() != expected:
        raise WrongBytes(descriptor, f"{algorithm}:{hasher.hexdigest()} ({total} bytes)")


def _normal(platform: Platform) -> tuple[str, str, str]:
    variant = "" if (platform.architecture, platform.variant) == ("arm64", "v8") else platform.variant
    return platform.os, platform.architecture, variant


def _read_tree(source: ImageSource, root: Descriptor, platform: Platform | None, depth: int = 0) -> list[_Node]:
    """Every document to copy, each after those that it refers to; the root comes last."""
    if depth > _DEEPEST:
        raise CorruptData(f"image indexes within indexes, more than {_DEEPEST} deep")
    document = fetch_document(source, root)
    if isinstance(document, Manifest):
        return [_Node(root, document)]
    if platform:
        return _read_tree(source, select_platform(document, platform), platform, depth + 1)
    below: dict[Digest, _Node] = {}
    for entry in document.manifests:
        below |= {node.descriptor.digest: node for node in _read_tree(source, entry, None, depth + 1)}
    return [*below.values(), _Node(root, document)]


def _silent(descriptor: Descriptor, current: int, total: int, done: bool) -> None:
    pass


class _Transfer:
    """Blobs on their way from one source to one sink, several at once."""

    def __init__(self, source: ImageSource, sink: ImageSink, progress: Progress) -> None:
        self._source = source
        self._sink = sink
        self._progress = progress
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._error: BaseException | None = None

    def run(self, blobs: list[Descriptor], jobs: int) -> None:
        """Copy all `blobs`; raises the first error once every worker has stopped."""
        waiting = iter(blobs)
        if len(blobs) <= 1 or jobs <= 1:
            self._work(waiting)
        else:
            names = range(min(jobs, len(blobs)))
            workers = [threading.Thread(target=self._work, args=(waiting,), daemon=True) for _ in names]
            try:
                for worker in workers:
                    worker.start()
                for worker in workers:
                    worker.join()
            except BaseException:
                self._stop.set()
                raise
        if self._error:
            raise self._error

    def _work(self, waiting: Iterator[Descriptor]) -> None:
        while not self._stop.is_set():
            with self._lock:
                blob = next(waiting, None)
            if blob is None:
                return
            try:
                self._copy_blob(blob)
            except BaseException as error:
                with self._lock:
                    if not self._error and not isinstance(error, Cancelled):
                        self._error = error
                self._stop.set()

    def _copy_blob(self, blob: Descriptor) -> None:
        if self._sink.has_blob(blob):
            self._progress(blob, 0, blob.size, True)
            return

        @contextmanager
        def read(offset: int) -> Iterator[Iterator[bytes]]:
            with self._source.open_blob(blob, offset) as chunks:
                if isinstance(chunks, BlobFile):
                    self._watch(chunks, blob, offset)
                    yield chunks
                else:
                    counted = self._counted(chunks, blob, offset)
                    yield counted if offset or self._sink.verifies else verified(counted, blob)

        self._progress(blob, 0, blob.size, False)
        self._sink.put_blob(blob, read)
        self._progress(blob, blob.size, blob.size, True)

    def _watch(self, chunks: BlobFile, blob: Descriptor, offset: int) -> None:
        """As `_counted`, for bytes that may go without anybody seeing them."""
        current = offset

        def watch(count: int) -> None:
            nonlocal current
            if self._stop.is_set():
                raise Cancelled
            current += count
            self._progress(blob, current, blob.size, False)

        chunks.watch = watch

    def _counted(self, chunks: Iterator[bytes], blob: Descriptor, offset: int) -> Iterator[bytes]:
        for chunk in chunks:
            if self._stop.is_set():
                raise Cancelled
            yield chunk
            offset += len(chunk)
            self._progress(blob, offset, blob.size, False)
