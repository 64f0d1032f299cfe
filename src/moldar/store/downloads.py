"""What is known of files that were downloaded by URL: which blob holds them and how to ask whether they changed."""

from typing import NamedTuple

from moldar.image.model import Digest
from moldar.store.database import Database


class Download(NamedTuple):
    """One file. `etag` and `last_modified` as the server said them, empty when it did not."""

    url: str
    digest: Digest
    etag: str = ""
    last_modified: str = ""


class DownloadTable:
    """The last download of each URL. Whether its blob is still here is the blob store's to say."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, url: str) -> Download | None:
        """The last download of `url`."""
        row = self._database.row("SELECT url, digest, etag, last_modified FROM downloads WHERE url = ?", (url,))
        return Download(*row) if row else None

    def record(self, download: Download) -> None:
        """Remember a download in place of an earlier one of its URL."""
        self._database.write("INSERT OR REPLACE INTO downloads VALUES (?, ?, ?, ?)", download)
