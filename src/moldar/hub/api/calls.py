"""What the endpoints of the registry share: the call, look-ups that are remembered, paging, references."""

from typing import NamedTuple

from moldar.errors import UserMistake
from moldar.hub.access.audit import Actor
from moldar.hub.access.decisions import PULL, Place, Principal, Verdict, decide
from moldar.hub.data.remembering import Remembered
from moldar.hub.exchange import Exchange, encoded_headers
from moldar.hub.refusals import Refusal
from moldar.hub.registry.blobs import Held
from moldar.hub.registry.manifests import Stored
from moldar.hub.registry.repositories import Repository
from moldar.hub.services import Hub
from moldar.image.model import Digest, parse_digest
from moldar.remote.wire import DIGEST_HEADER

PAGE = 1000
PAGE_LIMIT = 10_000
_KEPT_MANIFEST = 256 * 1024


class Call(NamedTuple):
    """A request that has been allowed. `headers`: what a manifest's answer says besides, encoded."""

    exchange: Exchange
    repository: str
    reference: str
    principal: Principal
    headers: list[tuple[bytes, bytes]] = []  # noqa: RUF012  (nobody changes it)

    def actor(self, external_url: str) -> Actor:
        """Who to name in the audit log."""
        return Actor(self.principal.name, self.exchange.address(external_url))


class Answer(NamedTuple):
    """A manifest with its headers, encoded once."""

    stored: Stored
    etag: str
    headers: list[tuple[bytes, bytes]]


class Lookups:
    """Reads of the database that are repeated all the time, remembered until anything changes."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        generation = hub.database.generation
        self._places: Remembered[str, tuple[Place, Repository | None]] = Remembered(generation, 4096)
        self._held: Remembered[tuple[str, str], Held] = Remembered(generation, 16384)
        self._answers: Remembered[tuple[str, str], Answer] = Remembered(generation, 512)

    def place(self, name: str) -> tuple[Place, Repository | None]:
        generation = self._places.current()
        found = self._places.get(name)
        if found is None:
            found = self._hub.repositories.place(name)
            self._places.put(name, found, generation)
        return found

    def meant(self, repository: str) -> str:
        """The name under which a pull of `repository` finds it: an upstream's in full, or as it is.

        A name that nothing here has, nor an account could give, is the root upstream's.
        """
        upstream, root = self._hub.upstreams.of(repository), self._hub.upstreams.root
        if upstream:
            return upstream.local_name(upstream.remote_name(repository))
        if root is None:
            return repository
        place = self.place(repository)[0]
        return repository if place.exists or place.belongs_to_account else root.local_name(repository)

    def may_pull(self, principal: Principal, name: str) -> bool:
        return decide(principal, PULL, self.place(name)[0], self._hub.policy) is Verdict.ALLOWED

    def blob(self, repository: str, digest: Digest) -> Held:
        """Refusal BLOB_UNKNOWN, or NAME_UNKNOWN when there is no such repository."""
        generation = self._held.current()
        held = self._held.get((repository, digest))
        if held is None:
            held = self._hub.blobs.held(repository, digest)
            if held is None:
                self.require(repository)
                raise Refusal("BLOB_UNKNOWN", detail={"digest": digest})
            self._held.put((repository, digest), held, generation)
        return held

    def manifest(self, repository: str, reference: str) -> Answer | None:
        """The manifest of a tag or digest, ready to be sent."""
        generation = self._answers.current()
        answer = self._answers.get((repository, reference))
        if answer is None:
            stored = self._hub.manifests.get(repository, reference)
            if stored is None:
                return None
            answer = _answer(stored)
            if len(stored.content) <= _KEPT_MANIFEST:
                self._answers.put((repository, reference), answer, generation)
        return answer

    def require(self, repository: str) -> Repository:
        """Refusal NAME_UNKNOWN."""
        found = self.place(repository)[1]
        if found is None:
            raise Refusal("NAME_UNKNOWN", detail={"name": repository})
        return found


def _answer(stored: Stored) -> Answer:
    etag = f'"{stored.digest}"'
    headers = {
        "Content-Type": stored.media_type,
        "Content-Length": str(len(stored.content)),
        DIGEST_HEADER: stored.digest,
        "ETag": etag,
    }
    return Answer(stored, etag, encoded_headers(headers))


def digest_in(text: str) -> Digest:
    """Refusal DIGEST_INVALID."""
    try:
        return parse_digest(text)
    except UserMistake as error:
        raise Refusal("DIGEST_INVALID", "invalid or unsupported digest", detail={"digest": text[:300]}) from error


def page_of(exchange: Exchange) -> tuple[int, str]:
    """How many entries are asked for, and after which."""
    text = exchange.parameter("n")
    last = exchange.parameter("last") or ""
    if text is None:
        return PAGE, last
    if not text.isascii() or not text.isdigit():
        raise Refusal("PAGINATION_NUMBER_INVALID", detail={"n": text[:32]})
    return min(int(text[:9]), PAGE_LIMIT), last
