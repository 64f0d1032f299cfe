"""Blobs going out: mounted from another repository when it has them, else in one PUT, else in chunks.

One PUT costs the fewest round trips. When a registry or a proxy refuses so large a body, or the connection broke,
chunks keep what has arrived. Source: distribution-spec 1.1, "Pushing blobs".
"""

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit, urlunsplit

from moldar.image.model import Descriptor
from moldar.image.transfer import BlobReader, WrongBytes
from moldar.remote.endpoint import Peer
from moldar.remote.failures import AccessDenied, UnexpectedAnswer, Unreachable
from moldar.remote.session import Answer, retry_after
from moldar.remote.wire import (
    CHUNK_MINIMUM_HEADER,
    Scope,
    blob_path,
    format_upload_range,
    parse_upload_range,
    repository_scope,
    uploads_path,
)

_CHUNK = 8 * 1024 * 1024
_LARGEST_CHUNK = 256 * 1024 * 1024
_MOST_MOUNTS = 3
_WANTS_CHUNKS = frozenset((405, 411, 413, 501))
_PASSING = frozenset((404, 408, 416, 429, 500, 502, 503, 504))  # 404 and 416: the upload was lost, start again
_OCTETS = {"Content-Type": "application/octet-stream"}


class BlobUpload:
    """Puts one blob into `repository`. `mount_from`: repositories of this registry that may have it.

    `chunk`: bytes in a chunk, unless the registry asks for more; `chunked`: do not try one PUT first.
    """

    def __init__(
        self,
        peer: Peer,
        repository: str,
        descriptor: Descriptor,
        mount_from: Sequence[str] = (),
        *,
        chunk: int = _CHUNK,
        chunked: bool = False,
    ) -> None:
        self._peer = peer
        self._repository = repository
        self._blob = descriptor
        self._mount_from = mount_from
        self._scope = repository_scope(repository, "pull", "push")
        self._chunk = chunk
        self._chunked = chunked

    def send(self, read: BlobReader) -> None:
        """Raises RegistryRefused (its leaves), and whatever `read` raises."""
        location = self._mount()
        if location is None:
            return
        retry = self._peer.session.retry
        chunked = self._chunked
        for attempt in range(retry.attempts):
            last = attempt == retry.attempts - 1
            asked: float | None = None
            try:
                location = location or self._start()
                answer = self._put_chunks(location, read) if chunked else self._put_whole(location, read)
                if answer is None:
                    return
                with answer:
                    chunked = chunked or answer.status in _WANTS_CHUNKS
                    if last or answer.status not in _PASSING | _WANTS_CHUNKS:
                        raise self._refusal(answer)
                    asked = retry_after(answer)
            except Unreachable as error:
                if last or not error.passing:
                    raise
                chunked = True
            retry.wait(attempt, asked)
            location = ""
            if self._arrived():
                return

    def _mount(self) -> str | None:
        """None when a mount made the blob ours; else the upload that the registry opened instead, maybe ""."""
        opened = ""
        others = [source for source in self._mount_from if source != self._repository]
        for source in others[:_MOST_MOUNTS]:
            path = uploads_path(self._repository, mount=self._blob.digest, source=source)
            try:
                answer = self._peer.request("POST", path, (self._scope, repository_scope(source, "pull")))
            except AccessDenied:  # we may not read there: no reason not to push here
                continue
            with answer:
                if answer.status == 201:
                    return None
                if answer.status == 202:
                    opened = self._opened(answer)
        return opened

    def _start(self) -> str:
        with self._peer.request("POST", uploads_path(self._repository), (self._scope,)) as answer:
            if answer.status != 202:
                raise self._refusal(answer)
            return self._opened(answer)

    def _opened(self, answer: Answer) -> str:
        minimum = answer.header(CHUNK_MINIMUM_HEADER)
        if minimum.isdecimal():
            self._chunk = min(max(self._chunk, int(minimum)), _LARGEST_CHUNK)
        return self._location(answer)

    def _location(self, answer: Answer) -> str:
        if not answer.header("Location"):
            raise UnexpectedAnswer(f"{answer.host} opened an upload without saying where", status=answer.status)
        return self._peer.locate(answer)

    def _put_whole(self, location: str, read: BlobReader) -> Answer | None:
        """One PUT with the whole body; None when it was taken, else the registry's answer."""
        url = _with_digest(location, self._blob.digest)
        shown = self._peer.authorization(url, (self._scope,))
        answer = self._stream(url, shown, read)
        if answer.status == 401:
            better = self._peer.renewed(answer, (self._scope,), shown)
            if better:
                answer.close()
                answer = self._stream(url, better, read)
        if answer.status != 201:
            return answer
        answer.close()
        return None

    def _stream(self, url: str, authorization: str | None, read: BlobReader) -> Answer:
        headers = {**_OCTETS, "Content-Length": str(self._blob.size)}
        if authorization:
            headers["Authorization"] = authorization
        with read(0) as chunks:
            return self._peer.session.send_stream("PUT", url, headers, self._counted(chunks, 0))

    def _counted(self, chunks: Iterator[bytes], total: int) -> Iterator[bytes]:
        """The same chunks, after `total` bytes before them; WrongBytes when the blob has another size."""
        for chunk in chunks:
            total += len(chunk)
            if total > self._blob.size:
                break
            yield chunk
        if total != self._blob.size:
            raise WrongBytes(self._blob, f"{total} bytes or more" if total > self._blob.size else f"{total} bytes")

    def _put_chunks(self, location: str, read: BlobReader) -> Answer | None:
        """PATCH after PATCH, then a PUT that closes; goes on where the registry says that it is."""
        position, stalls = 0, 0
        while position < self._blob.size:
            with read(position) as chunks:
                answer, location, reached = self._patch_on(
                    location, position, _pieces(self._counted(chunks, position), self._chunk)
                )
            if answer is not None:
                return answer
            stalls = stalls + 1 if reached <= position else 0
            if stalls == self._peer.session.retry.attempts:
                raise UnexpectedAnswer(
                    f"{self._peer.account} takes no more than {reached} bytes of a blob", status=202
                )
            position = reached
        answer = self._peer.request("PUT", _with_digest(location, self._blob.digest), (self._scope,))
        if answer.status == 201:
            answer.close()
            return None
        return answer

    def _patch_on(self, location: str, position: int, pieces: Iterator[bytes]) -> tuple[Answer | None, str, int]:
        """Send pieces until the registry kept more or less than was sent: where to go on, from which byte.

        The answer is given when it is an error.
        """
        for piece in pieces:
            end = position + len(piece)
            headers = {**_OCTETS, "Content-Range": format_upload_range(position, end)}
            answer = self._peer.request("PATCH", location, (self._scope,), headers, piece)
            if answer.status not in (202, 416):
                return answer, location, position
            with answer:
                location = self._location(answer) if answer.status == 202 else location
                reached = _reached(answer)
            if reached is None:
                reached = end if answer.status == 202 else self._ask_position(location)
            position = reached
            if position != end:
                break
        return None, location, position

    def _ask_position(self, location: str) -> int:
        with self._peer.request("GET", location, (self._scope,)) as answer:
            reached = _reached(answer)
            if answer.status != 204 or reached is None:
                raise self._refusal(answer)
            return reached

    def _arrived(self) -> bool:
        """Whether the blob is there after all: an answer may get lost where the request did not."""
        return blob_exists(self._peer, self._repository, self._blob, self._scope)

    def _refusal(self, answer: Answer) -> Exception:
        return self._peer.refusal(answer, f"pushing to {self._peer.account}/{self._repository}")


def blob_exists(peer: Peer, repository: str, descriptor: Descriptor, scope: Scope) -> bool:
    """Whether `repository` has the blob (HEAD); raises the refusal for anything but yes or no."""
    with peer.request("HEAD", blob_path(repository, descriptor.digest), (scope,)) as answer:
        if answer.status == 200:
            return True
        if answer.status == 404:
            return False
        raise peer.refusal(answer, f"pushing to {peer.account}/{repository}")


def _reached(answer: Answer) -> int | None:
    reached = parse_upload_range(answer.header("Range"))
    return reached.end if reached else None


def _with_digest(location: str, digest: str) -> str:
    parts = urlsplit(location)
    query = f"{parts.query}&digest={digest}" if parts.query else f"digest={digest}"
    return urlunsplit(parts._replace(query=query))


def _pieces(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of `size`, the last one shorter."""
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        while len(buffer) >= size:
            yield bytes(buffer[:size])
            del buffer[:size]
    if buffer:
        yield bytes(buffer)
