"""Blobs coming in: streamed, resumed by Range after a break, from the first place that serves them.

The bytes are counted here and hashed by whoever takes them (`image.transfer`: "the caller verifies").
Source: distribution-spec 1.1, "Pulling blobs", and RFC 9110 sections 13.1.5 and 14 for If-Range and Range.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager

from moldar.errors import CorruptData, MoldarError, NotFound, RegistryRefused
from moldar.image.model import Descriptor
from moldar.remote.endpoint import Peer
from moldar.remote.failures import LyingRegistry, TruncatedBlob, Unreachable
from moldar.remote.session import Answer
from moldar.remote.wire import blob_path, format_byte_range, parse_content_range, repository_scope

FALLS_BACK = (RegistryRefused, NotFound, CorruptData)
"""Errors of one place after which another one may still serve us."""


@contextmanager
def open_blob(
    peers: Sequence[Peer], repository: str, descriptor: Descriptor, offset: int = 0
) -> Iterator[Iterator[bytes]]:
    """The bytes of a blob from `offset` on, from the first of `peers` that has it, else from its own URLs.

    Raises what the last peer said: RegistryRefused, MissingAtRegistry, LyingRegistry, TruncatedBlob.
    """
    with closing(_Download(peers, repository, descriptor, offset).chunks()) as chunks:
        yield chunks


class _Download:
    """One blob on its way; remembers how far it is and where from."""

    def __init__(self, peers: Sequence[Peer], repository: str, descriptor: Descriptor, offset: int) -> None:
        self._peers = peers
        self._repository = repository
        self._blob = descriptor
        self._position = offset
        self._entity_tag = ""

    def chunks(self) -> Generator[bytes, None, None]:
        """The rest of the blob. Goes to the next peer when one fails, and keeps what has come so far."""
        for peer in self._peers[:-1]:
            try:
                yield from self._from_peer(peer)
                return
            except FALLS_BACK:
                self._entity_tag = ""
        try:
            yield from self._from_peer(self._peers[-1])
        except NotFound:
            if not self._blob.urls:
                raise
            yield from self._from_urls(self._peers[-1])

    def _from_peer(self, peer: Peer) -> Iterator[bytes]:
        path = blob_path(peer.endpoint.repository(self._repository), self._blob.digest)
        return self._with_retries(peer, peer.url(path))

    def _from_urls(self, peer: Peer) -> Iterator[bytes]:
        """A layer that its maker serves himself (image-spec, descriptor.md, `urls`)."""
        for number, url in enumerate(self._blob.urls):
            peer.session.check_url(url)
            try:
                yield from self._with_retries(peer, url)
                return
            except FALLS_BACK:
                if number == len(self._blob.urls) - 1:
                    raise

    def _with_retries(self, peer: Peer, url: str) -> Iterator[bytes]:
        """Tries again while passing troubles last; getting further starts the count anew."""
        retry = peer.session.retry
        failures = 0
        while True:
            before = self._position
            try:
                yield from self._attempt(peer, url)
                return
            except (Unreachable, TruncatedBlob) as error:
                if isinstance(error, Unreachable) and not error.passing:
                    raise
                failures = 1 if self._position > before else failures + 1
                if failures >= retry.attempts:
                    raise self._final(error) from error
                retry.wait(failures - 1)

    def _attempt(self, peer: Peer, url: str) -> Iterator[bytes]:
        headers = {}
        if self._position:
            headers["Range"] = format_byte_range(self._position)
            if self._entity_tag:
                headers["If-Range"] = self._entity_tag
        scope = repository_scope(peer.endpoint.repository(self._repository), "pull")
        with peer.request("GET", url, (scope,), headers) as answer:
            skip = self._check(peer, answer)
            for chunk in answer.chunks():
                if skip >= len(chunk):
                    skip -= len(chunk)
                    continue
                fresh = chunk[skip:] if skip else chunk
                skip = 0
                self._position += len(fresh)
                if self._position > self._blob.size:
                    raise LyingRegistry(f"{answer.host} sends more than the {self._blob.size} bytes of {self._name}")
                yield fresh
            if self._position < self._blob.size:
                raise TruncatedBlob(f"{self._name} ended after {self._position} of {self._blob.size} bytes")

    def _check(self, peer: Peer, answer: Answer) -> int:
        """How many bytes of the answer to drop because we have them: all before our position if Range was ignored."""
        if answer.status == 200:
            if answer.length is not None and answer.length > self._blob.size:
                raise LyingRegistry(
                    f"{answer.host} serves {answer.length} bytes for {self._name}, which has {self._blob.size}"
                )
            tag = answer.header("ETag")
            self._entity_tag = tag if tag.startswith('"') else ""
            return self._position
        if answer.status == 206:
            content = parse_content_range(answer.header("Content-Range"))
            if content is None or content[0].start != self._position:
                raise LyingRegistry(f"{answer.host} answered another range of {self._name} than we asked for")
            return 0
        if answer.status == 416:
            raise TruncatedBlob(f"{answer.host} has fewer than the {self._blob.size} bytes of {self._name}")
        raise peer.refusal(answer, f"pulling {peer.account}/{self._repository}, {self._name}")

    def _final(self, error: MoldarError) -> MoldarError:
        """A break that comes back each time is a truncated blob, whatever the transport called it."""
        if isinstance(error, Unreachable) and self._position:
            return TruncatedBlob(f"{self._name} ended after {self._position} of {self._blob.size} bytes, each time")
        return error

    @property
    def _name(self) -> str:
        return f"blob {self._blob.digest}"
