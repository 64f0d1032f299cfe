"""ADD from the web: fetched once, asked again whether it changed, kept as a blob of the store."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from email.utils import mktime_tz, parsedate_tz
from typing import Protocol

from moldar.builder.graph import GitOp, HttpOp
from moldar.builder.tree import FileTree
from moldar.errors import CorruptData, NotFound, Unsupported
from moldar.image.model import Digest, parse_digest
from moldar.store.blobs import BlobStore
from moldar.store.downloads import Download, DownloadTable


class WebAnswer(Protocol):
    """A response whose body has not been read yet."""

    @property
    def status(self) -> int: ...

    def header(self, name: str) -> str: ...

    def chunks(self) -> Iterator[bytes]: ...


class Web(Protocol):
    """Sends a request, following redirects; raises MoldarError when no answer can be had."""

    def send(
        self, method: str, url: str, headers: Mapping[str, str] | None = None
    ) -> AbstractContextManager[WebAnswer]: ...


class DownloadRefused(NotFound):
    """A server did not serve a file. `status` is HTTP's."""

    def __init__(self, url: str, status: int) -> None:
        super().__init__(f"cannot download {url}: invalid response status {status}")
        self.url = url
        self.status = status


class WrongChecksum(CorruptData):
    """A downloaded file is not what `--checksum` says."""

    def __init__(self, url: str, expected: str, found: str) -> None:
        super().__init__(f"{url}: digest mismatch {found}: {expected}")
        self.expected = expected
        self.found = found


class WebFiles:
    """Files from the web as trees. `web` is called only when a server must be asked.

    `protect` keeps a blob from the garbage collector while this process runs.
    """

    def __init__(
        self,
        web: Callable[[], Web],
        blobs: BlobStore,
        table: DownloadTable,
        protect: Callable[[str, Iterable[str]], None],
    ) -> None:
        self._web = web
        self._blobs = blobs
        self._table = table
        self._protect = protect

    def tree(self, op: HttpOp | GitOp) -> FileTree:
        """The file that `op` names. Raises DownloadRefused, WrongChecksum, UserMistake for a bad checksum."""
        if isinstance(op, GitOp):
            raise Unsupported(f"ADD from a git repository is not possible yet: {op.url}")
        checksum = parse_digest(op.checksum) if op.checksum else None
        known = self._known(op.url)
        if known is None or checksum != known.digest:
            known = self._fetch(op.url, known, checksum)
        fingerprint = bytes.fromhex(known.digest.partition(":")[2])
        mtime = _seconds(known.last_modified)
        return FileTree(op.name, self._blobs.path(known.digest), mtime=mtime, known=fingerprint)

    def _known(self, url: str) -> Download | None:
        """The last download of `url`, if its blob is still here."""
        known = self._table.find(url)
        if known is None:
            return None
        self._protect("blob", [known.digest])
        return known if self._blobs.has(known.digest) else None

    def _fetch(self, url: str, known: Download | None, checksum: Digest | None) -> Download:
        """Download `url` unless the server says that `known` is still right."""
        headers = {"Accept-Encoding": "identity"}
        if known and known.etag:
            headers["If-None-Match"] = known.etag
        elif known and known.last_modified:
            headers["If-Modified-Since"] = known.last_modified
        with self._web().send("GET", url, headers) as answer:
            if answer.status == 304 and known:
                if checksum:
                    _check(url, checksum, self._digest(known.digest, checksum))
                return known
            if answer.status != 200:
                raise DownloadRefused(url, answer.status)
            digest = self._store(url, answer, checksum)
            fetched = Download(url, digest, answer.header("ETag"), answer.header("Last-Modified"))
        self._table.record(fetched)
        return fetched

    def _store(self, url: str, answer: WebAnswer, checksum: Digest | None) -> Digest:
        hasher = hashlib.new(checksum.partition(":")[0]) if checksum else None
        with self._blobs.writer() as writer:
            for chunk in answer.chunks():
                writer.write(chunk)
                if hasher:
                    hasher.update(chunk)
            if checksum and hasher:
                _check(url, checksum, hasher.hexdigest())
            self._protect("blob", [writer.digest])
            return writer.commit()

    def _digest(self, blob: Digest, like: Digest) -> str:
        """The blob's digest in hexadecimal by the algorithm of `like`."""
        with self._blobs.open(blob) as file:
            return hashlib.file_digest(file, like.partition(":")[0]).hexdigest()  # type: ignore[arg-type]


def _check(url: str, expected: Digest, found: str) -> None:
    algorithm, _, hexadecimal = expected.partition(":")
    if hexadecimal != found:
        raise WrongChecksum(url, expected, f"{algorithm}:{found}")


def _seconds(date: str) -> int:
    """An HTTP date as seconds since the epoch, 0 when there is none."""
    parsed = parsedate_tz(date) if date else None
    return max(0, int(mktime_tz(parsed))) if parsed else 0
