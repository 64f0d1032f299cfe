"""A registry and its images: the room's public face.

`Registry` is one registry with its mirrors and our identity there; `RegistryImage` is one image of it, to read
(pull) and to write (push) through `image.transfer.copy`. Source: distribution-spec 1.1.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from moldar.errors import MoldarError, RegistryRefused
from moldar.image.model import DOCKER_LAYER_FOREIGN_GZIP, OCI_LAYER_NONDISTRIBUTABLE, Descriptor, Digest, parse_digest
from moldar.image.reference import Reference
from moldar.image.transfer import BlobReader
from moldar.remote.config import RegistryConfig
from moldar.remote.credentials import Credential, Finder
from moldar.remote.download import FALLS_BACK, open_blob
from moldar.remote.endpoint import Peer
from moldar.remote.failures import AccessDenied, LyingRegistry, MissingAtRegistry, UnexpectedAnswer
from moldar.remote.session import Answer, RetryPolicy, Session
from moldar.remote.upload import BlobUpload, blob_exists
from moldar.remote.wire import (
    CATALOG_SCOPE,
    DIGEST_HEADER,
    MANIFEST_ACCEPT,
    MANIFEST_LIMIT,
    Scope,
    base_path,
    catalog_path,
    manifest_path,
    parse_links,
    repository_scope,
    tags_path,
)

_LIST_LIMIT = 64 * 1024 * 1024
_PAGE = 1000


def no_credentials(host: str) -> Credential | None:
    """The finder of somebody who is logged in nowhere."""
    return None


class Registry:
    """One registry. `host`: its name in references (`docker.io`, `127.0.0.1:5050`). Safe for threads.

    A context manager: leaving it closes the connections.
    """

    def __init__(
        self,
        host: str,
        find: Finder = no_credentials,
        config: RegistryConfig | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        config = config or RegistryConfig()
        self.host = host
        self._session = Session(config, retry)
        self.peers = tuple(Peer(self._session, endpoint, find) for endpoint in config.endpoints(host))

    @property
    def origin(self) -> Peer:
        """The registry itself, not a mirror."""
        return self.peers[-1]

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> "Registry":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def check_login(self) -> None:
        """Return when the registry takes our credentials (or wants none); AccessDenied when it refuses them."""
        with self.origin.request("GET", base_path(), ()) as answer:
            if answer.status == 200:
                return
            if answer.status == 404:
                raise UnexpectedAnswer(f"{self.host} is not a registry: it has no /v2/", status=404)
            error = self.origin.refusal(answer, f"logging in to {self.host}")
        if isinstance(error, AccessDenied):
            error.hint = "check the user name and the password (or access token)"
        raise error

    def tags(self, repository: str) -> Iterator[str]:
        """The tags of `repository`, page after page, in the registry's order."""
        scope = repository_scope(repository, "pull")
        what = f"listing the tags of {self.host}/{repository}"
        return self._pages(tags_path(repository, limit=_PAGE), scope, "tags", what)

    def catalog(self) -> Iterator[str]:
        """The repositories of the registry, where it lists them."""
        return self._pages(catalog_path(limit=_PAGE), CATALOG_SCOPE, "repositories", f"listing {self.host}")

    def delete_manifest(self, repository: str, digest: Digest) -> None:
        """Delete a manifest and so every tag on it; MissingAtRegistry, or UnexpectedAnswer where not allowed."""
        scope = repository_scope(repository, "delete", "pull", "push")
        with self.origin.request("DELETE", manifest_path(repository, digest), (scope,)) as answer:
            if answer.status not in (200, 202):
                raise self.origin.refusal(answer, f"deleting {self.host}/{repository}@{digest}")

    def _pages(self, path: str, scope: Scope, key: str, what: str) -> Iterator[str]:
        first = url = self.origin.url(path)
        visited: set[str] = set()
        while url:
            visited.add(url)
            with self.origin.request("GET", url, (scope,)) as answer:
                if answer.status != 200:
                    raise self.origin.refusal(answer, what)
                document = _json_object(answer)
                following = parse_links(answer.header("Link")).get("next", "")
                url = self._session.joined(url, following) if following else ""
            if url and (url in visited or not url.startswith(self.origin.url("/"))):
                raise UnexpectedAnswer(f"{self.host} continues the list {first} at {url}", status=200)
            names = document.get(key) or []
            if not isinstance(names, list):
                raise UnexpectedAnswer(f"{self.host} gave a list that is none", status=200)
            yield from map(str, names)


class RegistryImage:
    """One image of a registry: an ImageSource to pull, an ImageSink to push (`image.transfer`).

    `mount_from` names repositories of the same registry that may hold a blob already, the likeliest first.
    """

    def __init__(
        self,
        registry: Registry,
        reference: Reference,
        mount_from: Callable[[Descriptor], Sequence[str]] | None = None,
    ) -> None:
        self.reference = reference
        self._registry = registry
        self._mount_from = mount_from
        self._manifests: dict[Digest, bytes] = {}
        self._resolved: Descriptor | None = None
        self._serving: Peer | None = None
        self._lock = threading.Lock()

    # Reading.

    def resolve(self) -> Descriptor:
        """The manifest that the reference names, from the first mirror that has it, else from the registry.

        Asked once: while this object lives its tag does not move.
        """
        with self._lock:
            if self._resolved:
                return self._resolved
        reference = self.reference.digest or self.reference.tag
        descriptor, raw = self._from_any(lambda peer: self._get_manifest(peer, reference))
        with self._lock:
            self._manifests[descriptor.digest] = raw
            self._resolved = descriptor
        return descriptor

    def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """The bytes of a manifest; LyingRegistry when they are others than its digest names."""
        with self._lock:
            known = self._manifests.get(descriptor.digest)
        if known is not None:
            return known
        return self._from_any(lambda peer: self._get_manifest(peer, descriptor.digest))[1]

    def open_blob(self, descriptor: Descriptor, offset: int = 0) -> AbstractContextManager[Iterator[bytes]]:
        return open_blob(self._peers_in_order(), self.reference.repository, descriptor, offset)

    # Writing.

    @property
    def verifies(self) -> bool:
        """A registry refuses a blob that does not match its digest."""
        return True

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the repository has it. Layers that their maker serves himself count as there."""
        if descriptor.urls and _not_distributable(descriptor.media_type):
            return True
        repository, scope = self._target()
        return blob_exists(self._registry.origin, repository, descriptor, scope)

    def put_blob(self, descriptor: Descriptor, read: BlobReader) -> None:
        mount_from = self._mount_from(descriptor) if self._mount_from else ()
        BlobUpload(self._registry.origin, self.reference.repository, descriptor, mount_from).send(read)

    def put_manifest(self, descriptor: Descriptor, raw: bytes, *, root: bool) -> None:
        """Put a manifest by digest; the root under the reference's tag."""
        repository, scope = self._target()
        name = self.reference.tag if root and self.reference.tag else descriptor.digest
        peer = self._registry.origin
        headers = {"Content-Type": descriptor.media_type}
        with peer.request("PUT", manifest_path(repository, name), (scope,), headers, raw) as answer:
            if answer.status != 201:
                raise peer.refusal(answer, f"pushing {self.reference}")
            kept = answer.header(DIGEST_HEADER)
            if kept and kept.partition(":")[0] == descriptor.digest.partition(":")[0] and kept != descriptor.digest:
                raise LyingRegistry(f"{peer.account} keeps the manifest {descriptor.digest} as {kept}")

    def _target(self) -> tuple[str, Scope]:
        repository = self.reference.repository
        return repository, repository_scope(repository, "pull", "push")

    def _peers_in_order(self) -> tuple[Peer, ...]:
        """The peer that served the manifest, then those after it."""
        peers = self._registry.peers
        with self._lock:
            return peers[peers.index(self._serving) :] if self._serving else peers

    def _from_any(self, get: Callable[[Peer], tuple[Descriptor, bytes]]) -> tuple[Descriptor, bytes]:
        """What the first peer that can gives; the registry's own error when none can, with the mirrors' below."""
        failures: list[str] = []
        peers = self._peers_in_order()
        for peer in peers:
            try:
                found = get(peer)
            except FALLS_BACK as error:
                if peer is peers[-1]:
                    raise _with_mirrors(error, failures) from error
                failures.append(f"mirror {peer.endpoint.host}: {error.message}")
                continue
            with self._lock:
                self._serving = peer
            return found
        raise AssertionError("a registry has at least one endpoint")

    def _get_manifest(self, peer: Peer, reference: str) -> tuple[Descriptor, bytes]:
        repository = peer.endpoint.repository(self.reference.repository)
        scope = repository_scope(repository, "pull")
        path = manifest_path(repository, reference)
        with peer.request("GET", path, (scope,), {"Accept": MANIFEST_ACCEPT}) as answer:
            if answer.status != 200:
                raise self._pull_refusal(peer, answer, reference)
            raw = answer.read(MANIFEST_LIMIT)
            promised = reference if ":" in reference else answer.header(DIGEST_HEADER)
            media_type = answer.header("Content-Type").partition(";")[0].strip()
        if len(raw) > MANIFEST_LIMIT:
            raise LyingRegistry(f"{peer.account} serves a manifest of more than {MANIFEST_LIMIT} bytes")
        return Descriptor(media_type, _checked_digest(peer, raw, promised), len(raw)), raw

    def _pull_refusal(self, peer: Peer, answer: Answer, reference: str) -> MoldarError:
        """Registries do not tell strangers apart from missing repositories, so neither can the words."""
        own = self.reference.familiar_name
        error = peer.refusal(answer, f"pulling {own}")
        said = error.message.removeprefix(f"pulling {own}: ")
        if isinstance(error, MissingAtRegistry):
            separator = "@" if ":" in reference else ":"
            return MissingAtRegistry(f"manifest for {own}{separator}{reference} not found: {said}")
        if isinstance(error, AccessDenied):
            words = f"pull access denied for {own}, repository does not exist or needs a login: {said}"
            return AccessDenied(words, hint=error.hint)
        return error


def _checked_digest(peer: Peer, raw: bytes, promised: str) -> Digest:
    """The digest of `raw` in the algorithm promised; LyingRegistry when it is another one."""
    algorithm = promised.partition(":")[0]
    if algorithm not in ("sha256", "sha512"):
        promised, algorithm = "", "sha256"
    actual = f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}"
    if promised and promised != actual:
        raise LyingRegistry(f"{peer.account} serves a manifest as {promised} whose content is {actual}")
    return parse_digest(actual)


def _with_mirrors(error: MoldarError, failures: list[str]) -> MoldarError:
    if failures:
        error.excerpt = "\n".join(filter(None, [error.excerpt, *failures]))
    return error


def _not_distributable(media_type: str) -> bool:
    return media_type.startswith(OCI_LAYER_NONDISTRIBUTABLE) or media_type == DOCKER_LAYER_FOREIGN_GZIP


def _json_object(answer: Answer) -> dict[str, Any]:
    raw = answer.read(_LIST_LIMIT)
    try:
        document = json.loads(raw)
    except ValueError as error:
        raise UnexpectedAnswer(f"{answer.host} gave a list that is not JSON", status=answer.status) from error
    if not isinstance(document, dict):
        raise RegistryRefused(f"{answer.host} gave a list that is not a JSON object")
    return document
