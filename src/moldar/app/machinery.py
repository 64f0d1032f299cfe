"""The heavier machinery of an engine: snapshots, layer forms, images. Loaded when something must move or run."""

import os
import shutil
from collections.abc import Sequence
from functools import cached_property

from moldar.app.engine import Engine
from moldar.export.layer_forms import Fetch, LayerForms
from moldar.export.store_image import ImageStore, StoreImage
from moldar.image.model import Digest
from moldar.image.reference import Reference
from moldar.sandbox.runtime import Runtime
from moldar.sandbox.snapshots import Snapshots


class Machinery:
    """What moves layers and runs processes, for one engine; each part is made once, when first needed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._fetch: Fetch | None = None

    @cached_property
    def snapshots(self) -> Snapshots:
        """The layers as directories, by the driver that works on this file system."""
        from moldar.sandbox.choosing import choose_snapshots

        return choose_snapshots(self._engine.home.snapshots, self._engine.layers)

    @cached_property
    def runtime(self) -> Runtime:
        """The OCI runtime of this host."""
        from moldar.sandbox.choosing import NotRoot, choose_runtime

        if self._engine.settings.unprivileged:
            raise NotRoot(self._engine.settings.unprivileged)
        return choose_runtime(self._engine.home.root + "/run")

    @cached_property
    def forms(self) -> LayerForms:
        """Layers as blobs and as snapshots."""
        engine = self._engine
        return LayerForms(engine.blobs, engine.layers, self.snapshots, engine.lease.protect, self._bring)

    def lend(self, fetch: Fetch | None) -> None:
        """Ask `fetch` for layers that are not in the store, from now on."""
        self._fetch = fetch

    def _bring(self, diff_ids: Sequence[Digest]) -> None:
        if self._fetch is not None:
            self._fetch(diff_ids)

    @cached_property
    def store(self) -> ImageStore:
        """The parts of the store that images live in."""
        engine = self._engine
        return ImageStore(engine.blobs, engine.images, engine.layers, engine.lease.protect)

    def source(self, reference: Reference) -> StoreImage:
        """The image of that name, to be copied elsewhere; ImageNotFound."""
        engine = self._engine
        tag = engine.images.find_tag(reference)
        image = tag.image if tag else engine.images.resolve(str(reference))
        return StoreImage(self.store, self.forms, image, manifest=tag.manifest if tag else None)

    def remove_cache_mounts(self) -> int:
        """Delete what RUN --mount=type=cache kept; bytes freed."""
        freed = 0
        root = self._engine.home.cachemounts
        for name in os.listdir(root):
            path = os.path.join(root, name)
            for directory, _, files in os.walk(path):
                freed += sum(os.lstat(os.path.join(directory, file)).st_size for file in files)
            shutil.rmtree(path, ignore_errors=True)
        return freed


def machinery(engine: Engine) -> Machinery:
    """The machinery of `engine`."""
    if engine.machinery is None:
        engine.machinery = Machinery(engine)
    assert isinstance(engine.machinery, Machinery)
    return engine.machinery
