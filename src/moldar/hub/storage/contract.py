"""What every place for the bytes of blobs must do: the interface that the registry stands on.

An upload is hashed while it is written. A blob appears under its digest when it is published, whole or not at all,
wherever the process dies. A session outlives the process: its offset is where the client may go on, and its hash is
computed anew when no process remembers it. `tests/contracts/test_hub_storage.py` holds every implementation to this.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

from moldar.errors import NotFound
from moldar.image.model import Digest

CHUNK = 1024 * 1024
ALGORITHMS = ("sha256", "sha512")


class RunningHash(Protocol):
    """A hash that grows with its bytes."""

    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


class BlobReader(Protocol):
    """An open blob."""

    size: int

    def chunks(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` up to `end`, not included."""

    def close(self) -> None: ...


class UploadWriter(Protocol):
    """One request's hold on an upload session; no other request writes to the session meanwhile."""

    @property
    def offset(self) -> int:
        """How many bytes the session holds."""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None:
        """Lets go; the session stays."""

    def seal(self, digest: Digest) -> int:
        """Brings the bytes to the disk and gives their number. Refusal DIGEST_INVALID when they are not `digest`."""

    def publish(self, digest: Digest) -> None:
        """Makes the sealed bytes a blob and ends the session. FileNotFoundError when it was cancelled."""


class BlobStorage(Protocol):
    """What the registry needs of a place for blobs. Every name that comes in is a checked digest or session.

    `is_remote`: its calls wait for a network, and publishing may take long: no transaction should wait for it.
    """

    is_remote: bool

    def size(self, digest: Digest) -> int | None: ...

    def open(self, digest: Digest) -> BlobReader:
        """Raises NotFound."""

    def url(self, digest: Digest, seconds: int) -> str:
        """Where a client may fetch the blob by itself for a while; empty when it cannot."""

    def delete(self, digest: Digest) -> bool: ...

    def delete_all(self, digests: Sequence[Digest]) -> None:
        """Deletes those of `digests` that are there."""

    def digests(self) -> Iterator[Digest]: ...

    def begin(self, upload: str) -> None: ...

    def resume(self, upload: str, algorithm: str) -> UploadWriter:
        """Raises NotFound, and Refusal BLOB_UPLOAD_INVALID while another request writes."""

    def offset(self, upload: str) -> int | None: ...

    def discard(self, upload: str) -> bool: ...

    def uploads(self) -> Iterator[str]: ...

    def close(self) -> None: ...


def check_upload_name(upload: str) -> str:
    """`upload`, when it can be the name of a session; NotFound when it cannot."""
    if not upload.replace("-", "").isalnum() or not upload.isascii() or len(upload) > 64:
        raise NotFound("no such upload")
    return upload
