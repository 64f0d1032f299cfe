"""Where things lie below MOLDAR_HOME.

The root is an OCI image layout (`oci-layout`, `index.json`, `blobs/`) that other tools can read, with our own
folders beside it. Nothing else in the project joins these names.
"""

import os
from typing import NamedTuple

from moldar.errors import HostTrouble, Unsupported

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
EMPTY_INDEX = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
FOLDERS = ("blobs/sha256", "ingest", "snapshots", "containers", "cachemounts", "builds", "leases", "volumes")
_HINT = "set MOLDAR_HOME or use --home"


class Home(NamedTuple):
    """The store's root directory and the paths within."""

    root: str

    @classmethod
    def open(cls, root: str) -> "Home":
        """The home at `root`, made when it is not there.

        HostTrouble when it cannot be made or read, Unsupported when it is an image layout of another version.
        """
        home = cls(os.path.abspath(root))
        try:
            with open(home.layout, "rb") as file:
                layout = file.read(1 << 16)
        except FileNotFoundError:
            home._create()
            return home
        except OSError as error:
            raise HostTrouble(f"cannot read the store {home.root}: {error.strerror}", hint=_HINT) from error
        if layout.translate(None, b" \t\r\n") != LAYOUT:
            raise Unsupported(f"{home.layout} is not of an image layout of version 1.0.0", hint=_HINT)
        return home

    def _create(self) -> None:
        """Folders first and `oci-layout` last, so that whoever finds that file finds all the rest."""
        try:
            for folder in FOLDERS:
                os.makedirs(os.path.join(self.root, folder), mode=0o711, exist_ok=True)
            if not os.path.exists(self.index_json):
                self.replace(self.index_json, EMPTY_INDEX, keep=True)
            self.replace(self.layout, LAYOUT)
        except OSError as error:
            raise HostTrouble(f"cannot make the store {self.root}: {error.strerror}", hint=_HINT) from error

    def replace(self, path: str, data: bytes, *, keep: bool = False) -> None:
        """Give the file at `path` (within the home) new content in one step; `keep` leaves one that is there.

        Raises OSError.
        """
        staged = f"{self.ingest}/{os.getpid()}-{os.urandom(8).hex()}"
        try:
            with open(staged, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if keep:
                os.link(staged, path)
            else:
                os.replace(staged, path)
        except FileExistsError:
            pass  # somebody else was quicker, and `keep` says to leave theirs
        finally:
            if os.path.exists(staged):
                os.unlink(staged)

    @property
    def layout(self) -> str:
        return self.root + "/oci-layout"

    @property
    def index_json(self) -> str:
        return self.root + "/index.json"

    @property
    def blobs(self) -> str:
        return self.root + "/blobs"

    @property
    def ingest(self) -> str:
        return self.root + "/ingest"

    @property
    def snapshots(self) -> str:
        return self.root + "/snapshots"

    @property
    def containers(self) -> str:
        return self.root + "/containers"

    @property
    def creation_lock(self) -> str:
        """What creators of containers share."""
        return self.root + "/containers.lock"

    @property
    def cachemounts(self) -> str:
        return self.root + "/cachemounts"

    @property
    def builds(self) -> str:
        return self.root + "/builds"

    @property
    def leases(self) -> str:
        return self.root + "/leases"

    @property
    def volumes(self) -> str:
        return self.root + "/volumes"

    @property
    def database(self) -> str:
        return self.root + "/moldar.db"
