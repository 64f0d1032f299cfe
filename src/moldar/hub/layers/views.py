"""The stacks of images, made apart from everything else and remembered: listings in files, stacks in memory.

One thread reads layers, so that no number of visitors makes the hub do more; those who ask for the same image wait
for the same work. A listing belongs to a digest, so it holds for as long as the blob may be asked for again.
"""

import asyncio
import contextlib
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple

from moldar.errors import CorruptData, HostTrouble
from moldar.hub.data.database import make_private_directory
from moldar.hub.layers.listing import LIMITS, Limits, Listing, decode_listing, encode_listing, read_listing
from moldar.hub.layers.stack import Stack, stack_layers
from moldar.hub.refusals import Refusal
from moldar.hub.services import Hub
from moldar.image.model import Digest

_PATIENCE = 4.0
_WAITING = 32
_KEPT_FILES = 400_000
_KEPT_LISTINGS = 5_000
_IMAGE_FILES = 300_000
_IMAGE_SECONDS = 60
_TRY_AGAIN = 24 * 3600


class LayerKey(NamedTuple):
    """A layer to be listed; `held`: whether the repository has its bytes, so that its visitors may see them."""

    digest: Digest
    held: bool


class LayerViews:
    """Stacks on demand. Belongs to one event loop."""

    def __init__(self, hub: Hub, limits: Limits = LIMITS) -> None:
        self._hub = hub
        self._limits = limits
        self._directory = hub.settings.path("listings")
        self._working: dict[tuple[LayerKey, ...], Future[Stack]] = {}
        self._stacks: dict[tuple[LayerKey, ...], Stack] = {}

    async def stack(self, repository: str, digests: Sequence[str], patience: float = _PATIENCE) -> Stack | None:
        """The layers of an image of `repository`; None when they are not read yet, and one should ask again."""
        sizes = self._hub.blobs
        key = tuple(LayerKey(Digest(name), sizes.size(repository, Digest(name)) is not None) for name in digests)
        known = self._stacks.pop(key, None)
        if known is not None:
            self._stacks[key] = known  # the last one used goes last
            return known
        self._collect()
        work = self._working.get(key)
        if work is None:
            if len(self._working) >= _WAITING:
                return None
            work = self._working[key] = self._hub.layer_thread.submit(self._make, key)
        done, _ = await asyncio.wait([asyncio.wrap_future(work)], timeout=patience)
        if not done and not work.done():
            return None
        self._working.pop(key, None)
        stack = work.result()
        self._keep(key, stack)
        return stack

    def _collect(self) -> None:
        """Takes in what was finished after everybody who asked for it had gone."""
        for key, work in list(self._working.items()):
            if work.done():
                self._keep(key, self._working.pop(key).result())

    def _keep(self, key: tuple[LayerKey, ...], stack: Stack) -> None:
        self._stacks[key] = stack
        while len(self._stacks) > 1 and sum(map(_weight, self._stacks.values())) > _KEPT_FILES:
            self._stacks.pop(next(iter(self._stacks)))

    def _make(self, key: tuple[LayerKey, ...]) -> Stack:
        listings: list[Listing] = []
        end = time.monotonic() + _IMAGE_SECONDS
        left = _IMAGE_FILES
        for layer in key:
            if self._clock() > end:
                listing = Listing((), "time")
            else:
                listing = self._listing(layer.digest) if layer.held else Listing((), "absent")
            if len(listing.items) > left:
                listing = Listing(listing.items[:left], "entries", listing.packages)
            left -= len(listing.items)
            listings.append(listing)
        end += _IMAGE_SECONDS
        return stack_layers(listings, lambda: self._clock() > end)

    def _clock(self) -> float:
        """The time, of which there is none left when the hub closes."""
        return math.inf if self._hub.closing.is_set() else time.monotonic()

    def _listing(self, digest: Digest) -> Listing:
        path = os.path.join(self._directory, digest.replace(":", "-") + ".zst")
        with contextlib.suppress(OSError, CorruptData):
            with open(path, "rb") as file:
                listing = decode_listing(file.read())
            if listing.cut != "time" or self._hub.clock() - os.stat(path).st_mtime < _TRY_AGAIN:
                return listing
        try:
            blob = self._hub.blobs.open(digest)
        except Refusal:
            return Listing((), "absent")
        try:
            listing = read_listing(blob, self._limits, self._clock)
        finally:
            blob.close()
        if self._hub.closing.is_set():
            return listing
        with contextlib.suppress(OSError, HostTrouble):  # a full disk costs the memory of it, not the page
            self._save(path, encode_listing(listing))
        return listing

    def _save(self, path: str, raw: bytes) -> None:
        make_private_directory(self._directory)
        names = os.listdir(self._directory)
        if len(names) >= _KEPT_LISTINGS:
            oldest = sorted(names, key=lambda name: os.stat(os.path.join(self._directory, name)).st_mtime)
            for name in oldest[: _KEPT_LISTINGS // 10]:
                os.unlink(os.path.join(self._directory, name))
        with open(path + ".new", "wb") as file:
            file.write(raw)
        os.replace(path + ".new", path)


def _weight(stack: Stack) -> int:
    return len(stack.merged) + sum(len(layer.files) for layer in stack.layers)
