"""Images of the store: which there are, what they are called, and which manifests are known for them.

An image is named by its ID, the digest of its config blob. A tag points to an image and, when it is known, to the
manifest that it was pulled or pushed with, so that the same bytes go back. Names are stored in full
(`docker.io/library/my-server:latest`).
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

from moldar.errors import NotFound, UserMistake
from moldar.image.config import ImageConfig, parse_image_config
from moldar.image.model import Descriptor, Digest
from moldar.image.reference import Reference, parse_reference
from moldar.store.blobs import BlobStore
from moldar.store.database import Database

_HEX = frozenset("0123456789abcdef")


class ImageNotFound(NotFound):
    """No image of that name or ID is in the store."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no such image: {name}", hint="`moldar image ls` lists the images")
        self.name = name


class Tag(NamedTuple):
    """A name of an image. `name` is the full reference; `manifest` its manifest's digest, None when not made yet."""

    name: str
    repository: str
    tag: str
    image: Digest
    manifest: Digest | None


class StoredImage(NamedTuple):
    """An image's row; `size` is the sum of its layers' tars in bytes, `created` when it came here."""

    id: Digest
    created: float
    size: int


class ImageTable:
    """Images, tags and manifests."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    # Images

    def add(self, image: Digest, size: int) -> None:
        """Record an image whose config blob is stored.

        One that is here without a name counts as come anew, lest a collection takes it before it gets one.
        """
        row = self._database.row(
            "SELECT EXISTS (SELECT 1 FROM tags WHERE image = id) FROM images WHERE id = ?", (image,)
        )
        if row is None or not row[0]:
            self._database.write("INSERT OR REPLACE INTO images VALUES (?, ?, ?)", (image, time.time(), size))

    def get(self, image: str) -> StoredImage | None:
        row = self._database.row("SELECT id, created, size FROM images WHERE id = ?", (image,))
        return StoredImage(*row) if row else None

    def all(self) -> list[StoredImage]:
        """Every image, the newest first."""
        return [
            StoredImage(*row)
            for row in self._database.rows("SELECT id, created, size FROM images ORDER BY created DESC")
        ]

    def config(self, image: str) -> ImageConfig:
        """The image's parsed config; BlobMissing, CorruptData."""
        return parse_image_config(self._blobs.read(image))

    def remove(self, image: str) -> None:
        """Forget an image, its tags and manifests; its blobs are the garbage collector's."""
        with self._database.transaction():
            for table in ("tags", "manifests", "repository_digests"):
                self._database.write(f"DELETE FROM {table} WHERE image = ?", (image,))
            self._database.write("DELETE FROM images WHERE id = ?", (image,))

    # Names

    def tag(self, reference: Reference, image: str, manifest: str | None = None) -> None:
        """Let the name point to `image` from now on. Writes nothing when it does already."""
        known = self.find_tag(reference)
        if known and (known.image, known.manifest) == (image, manifest):
            return
        self._database.write(
            "INSERT OR REPLACE INTO tags VALUES (?, ?, ?, ?, ?, ?)",
            (f"{reference.name}:{reference.tag}", reference.name, reference.tag, image, manifest, time.time()),
        )

    def untag(self, name: str) -> bool:
        """Remove a full name; whether it was there."""
        return self._database.write("DELETE FROM tags WHERE name = ?", (name,)) > 0

    def tags(self, image: str | None = None) -> list[Tag]:
        """All tags, or those of one image, by name."""
        where, parameters = ("WHERE image = ?", (image,)) if image else ("", ())
        rows = self._database.rows(
            f"SELECT name, repository, tag, image, manifest FROM tags {where} ORDER BY name", parameters
        )
        return [Tag(*row) for row in rows]

    def tags_of_repository(self, repository: str) -> list[Tag]:
        """The tags of a full repository name."""
        rows = self._database.rows(
            "SELECT name, repository, tag, image, manifest FROM tags WHERE repository = ? ORDER BY tag", (repository,)
        )
        return [Tag(*row) for row in rows]

    def find_tag(self, reference: Reference) -> Tag | None:
        """The tag of exactly this name."""
        row = self._database.row(
            "SELECT name, repository, tag, image, manifest FROM tags WHERE name = ?",
            (f"{reference.name}:{reference.tag}",),
        )
        return Tag(*row) if row else None

    def resolve(self, text: str) -> Digest:
        """The image that a person means by a name, `name@digest`, ID or unique beginning of an ID.

        Raises ImageNotFound, or UserMistake when the beginning fits several images.
        """
        algorithm, colon, prefix = text.partition(":")
        if not colon or algorithm not in ("sha256", "sha512"):
            algorithm, prefix = "sha256", text
        is_hexadecimal = bool(prefix) and _HEX.issuperset(prefix)
        if is_hexadecimal and len(prefix) >= 64 and self.get(f"{algorithm}:{prefix}"):
            return Digest(f"{algorithm}:{prefix}")
        found = self._by_name(text)
        if found is None and is_hexadecimal:
            found = self._by_prefix(f"{algorithm}:{prefix}", text)
        if found is None:
            raise ImageNotFound(text)
        return found

    def _by_name(self, text: str) -> Digest | None:
        try:
            reference = parse_reference(text)
        except UserMistake:
            if _HEX.issuperset(text.removeprefix("sha256:").removeprefix("sha512:")):
                return None  # 64 digits are no name
            raise
        if reference.digest:
            row = self._database.row(
                "SELECT image FROM repository_digests WHERE repository = ? AND digest = ?",
                (reference.name, reference.digest),
            )
            return Digest(row[0]) if row else None
        tag = self.find_tag(reference)
        return tag.image if tag else None

    def _by_prefix(self, prefix: str, text: str) -> Digest | None:
        rows = self._database.rows("SELECT id FROM images WHERE id >= ? AND id < ? LIMIT 2", (prefix, f"{prefix}g"))
        if len(rows) > 1:
            raise UserMistake(f"{text!r} is the beginning of several image IDs", hint="write more digits")
        return Digest(rows[0][0]) if rows else None

    # Manifests

    def add_manifest(self, manifest: Descriptor, image: str) -> None:
        """Remember a manifest of the image."""
        self._database.write(
            "INSERT OR REPLACE INTO manifests VALUES (?, ?, ?, ?)",
            (manifest.digest, image, manifest.media_type, manifest.size),
        )

    def manifests(self, image: str) -> list[Descriptor]:
        """The known manifests of an image."""
        rows = self._database.rows("SELECT media_type, digest, size FROM manifests WHERE image = ?", (image,))
        return [Descriptor(media_type, Digest(digest), size) for media_type, digest, size in rows]

    def add_repository_digest(self, repository: str, digest: str, image: str) -> None:
        """The image is (or was) in `repository` under this manifest or index digest."""
        self._database.write(
            "INSERT OR REPLACE INTO repository_digests VALUES (?, ?, ?)", (repository, digest, image)
        )

    def repository_digests(self, image: str) -> list[tuple[str, Digest]]:
        rows = self._database.rows(
            "SELECT repository, digest FROM repository_digests WHERE image = ? ORDER BY repository, digest", (image,)
        )
        return [(repository, Digest(digest)) for repository, digest in rows]

    def layers(self, image: str) -> Sequence[Digest]:
        """The diff IDs of the image, lowest first."""
        return self.config(image).diff_ids
