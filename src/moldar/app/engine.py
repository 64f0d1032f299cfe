"""The machinery of one store, put together: every part is made when it is first asked for, and only once.

The parts that every command needs are imported here; the others (sandbox, compression, network) in
`app.machinery`, which loads when a step must really run.
"""

import os
from typing import NamedTuple

from moldar.image.model import Digest, Platform
from moldar.store.blobs import BlobStore
from moldar.store.database import Database
from moldar.store.home import Home
from moldar.store.images import ImageTable
from moldar.store.layers import LayerTable
from moldar.store.leases import Lease

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


class Settings(NamedTuple):
    """What an engine is told of its surroundings; the command line reads it from the environment.

    `home` is the store's directory, `docker_config` the directory of Docker's config.json, `configuration_files`
    the moldar.toml files, the strongest last; proxies as in the environment variables. `unprivileged` says why this
    process could not become root in a user namespace; empty when it is root.
    """

    home: str
    docker_config: str = ""
    configuration_files: tuple[str, ...] = ()
    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""
    unprivileged: str = ""


def default_home() -> str:
    """Where the store is when nobody says: /var/lib/moldar for root, else below the user's home directory."""
    return "/var/lib/moldar" if os.geteuid() == 0 else os.path.expanduser("~/.local/share/moldar")


def host_platform() -> Platform:
    """The platform of this machine."""
    machine = os.uname().machine
    architecture = _ARCHITECTURES.get(machine, machine)
    return Platform("linux", architecture, "v7" if architecture == "arm" else "")


class Engine:
    """One store and the means to work with it; a context manager that gives back what it holds."""

    def __init__(self, settings: Settings | None = None) -> None:
        settings = settings or Settings(default_home(), os.path.expanduser("~/.docker"))
        self.settings = settings
        self.home = Home.open(settings.home)
        self.database = Database(self.home)
        self.blobs = BlobStore(self.home)
        self.images = ImageTable(self.database, self.blobs)
        self.layers = LayerTable(self.database)
        self._lease: Lease | None = None
        self.machinery: object | None = None

    @property
    def lease(self) -> Lease:
        """The lease of this process, taken when first needed."""
        if self._lease is None:
            self._lease = Lease(self.home, self.database)
        return self._lease

    @property
    def platform(self) -> Platform:
        """The platform of this machine."""
        return host_platform()

    def has_layer(self, diff_id: Digest) -> bool:
        """Whether a layer is here, as a snapshot or as a blob."""
        if self.layers.has_snapshot(diff_id) or self.blobs.has(diff_id):
            return True
        return any(self.blobs.has(blob.descriptor.digest) for blob in self.layers.blobs(diff_id))

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up the lease and the database connection."""
        if self._lease is not None:
            self._lease.release()
            self._lease = None
        self.database.close()
