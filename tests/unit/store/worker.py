"""A process that works on a store as builds, pulls and prunes do, until it is killed. Not a test itself.

    python worker.py HOME SEED

It prints a line once it has begun. Every image that it names is complete at every moment.
"""

import json
import os
import random
import shutil
import sys

from moldar.errors import NotFound
from moldar.image.config import ImageConfig, encode_image_config
from moldar.image.model import (
    OCI_CONFIG,
    OCI_LAYER,
    Descriptor,
    Digest,
    digest_of,
    make_manifest,
)
from moldar.image.reference import parse_reference
from moldar.store.blobs import BlobStore
from moldar.store.cache import CacheRow, CacheTable
from moldar.store.containers import ContainerRow, ContainerTable
from moldar.store.database import Database
from moldar.store.gc import Collector, Policy
from moldar.store.home import Home
from moldar.store.images import ImageTable
from moldar.store.layers import LayerTable
from moldar.store.layout import write_index
from moldar.store.leases import Lease
from moldar.store.stat_index import FileStat, StatIndex


class Worker:
    """All the tables of one home, and the things that commands do with them."""

    def __init__(self, root: str, seed: int) -> None:
        self.random = random.Random(seed)
        self.home = Home.open(root)
        self.database = Database(self.home)
        self.blobs = BlobStore(self.home)
        self.images = ImageTable(self.database, self.blobs)
        self.layers = LayerTable(self.database)
        self.cache = CacheTable(self.database)
        self.containers = ContainerTable(self.database)
        self.collector = Collector(self.home, self.database, self)

    def snapshot_path(self, key: str) -> str:
        return f"{self.home.snapshots}/{key}"

    def present(self) -> set[str]:
        return {name for name in os.listdir(self.home.snapshots) if ":" in name}

    def remove(self, key: str) -> None:
        """As the sandbox does it: the directory vanishes by a rename."""
        trash = f"{self.home.snapshots}/.{os.getpid()}-{self.random.random()}"
        try:
            os.rename(self.snapshot_path(key), trash)
        except FileNotFoundError:
            return
        self.layers.remove_snapshot(key)
        shutil.rmtree(trash)

    def build(self) -> Digest:
        """Add an image of a few layers, some of them old ones, as blobs or snapshots, and give it a name."""
        with Lease(self.home, self.database) as lease:
            tars = [b"layer %d" % self.random.randrange(12) * 500 for _ in range(self.random.randint(1, 4))]
            layers = [self.layer(lease, tar) for tar in tars]
            raw = encode_image_config(ImageConfig(author=str(self.random.random()), diff_ids=tuple(layers)))
            image = self.blobs.put(raw)
            self.images.add(image, sum(map(len, tars)))
            manifest = None
            if self.random.random() < 0.5:
                descriptors = [Descriptor(OCI_LAYER, self.blobs.put(tar), len(tar)) for tar in tars]
                made = make_manifest(Descriptor(OCI_CONFIG, image, len(raw)), descriptors)
                manifest = self.blobs.put(made.raw)
                self.images.add_manifest(made.descriptor, image)
            name = parse_reference(f"project-{self.random.randrange(4)}")
            self.images.tag(name, image, manifest)
            write_index(self.home, self.images, self.blobs)
            return image

    def layer(self, lease: Lease, tar: bytes) -> Digest:
        """One layer in one of its forms, recorded in the build cache."""
        diff_id = digest_of(tar)
        lease.protect("layer", [diff_id])
        self.layers.record(diff_id, len(tar))
        if self.random.random() < 0.5:
            self.blobs.put(tar)
        else:
            staged = f"{self.home.snapshots}/.{os.getpid()}-{self.random.random()}"
            os.mkdir(staged)
            with open(f"{staged}/file", "wb") as file:
                file.write(tar)
            try:
                os.rename(staged, self.snapshot_path(diff_id))
            except OSError:
                shutil.rmtree(staged)
            self.layers.add_snapshot(diff_id, len(tar))
        row = CacheRow(digest_of(diff_id.encode()), "step", json.dumps([[diff_id, len(tar)]]), diff_id, "[]", 1.0)
        self.cache.put(row)
        return diff_id

    def download(self) -> None:
        """Receive half of a blob, and the rest the next time."""
        data = b"%d" % self.random.randrange(3) * 100_000
        with Lease(self.home, self.database), self.blobs.partial(Descriptor("", digest_of(data), len(data))) as part:
            if part.size:
                part.write(data[part.size :])
                part.commit()
            else:
                part.write(data[: len(data) // 2])

    def collect(self) -> None:
        """Prune, in one of the ways that there are."""
        images = self.random.choice(["none", "dangling", "dangling", "unused"])
        self.collector.collect(Policy(cache_bytes=self.random.choice([None, 0, 10_000]), images=images))

    def run_container(self) -> None:
        """Create a container of some image, and remove an old one."""
        with Lease(self.home, self.database) as lease:
            try:
                image = self.images.resolve(f"project-{self.random.randrange(4)}")
                lease.protect("image", [image])
                self.images.config(image)
            except NotFound:
                return  # pruned just now
            name = f"{self.random.getrandbits(128):032x}"
            self.containers.add(ContainerRow(name * 2, name, image, 1.0, "{}"))
        for container in self.containers.all()[3:]:
            self.containers.remove(container.id)

    def remember_files(self) -> None:
        """Put hashes into the stat index."""
        numbers = [self.random.randrange(1000) for _ in range(50)]
        index = StatIndex(self.database)
        index.put([(FileStat(1, number, 1, 1, 1), b"x" * 32) for number in numbers], 10**18)

    def work(self) -> None:
        """Do one of all that, at random."""
        tasks = [self.build, self.build, self.download, self.collect, self.run_container, self.remember_files]
        self.random.choice(tasks)()


if __name__ == "__main__":
    worker = Worker(sys.argv[1], int(sys.argv[2]))
    print("begun", flush=True)
    while True:
        worker.work()
