"""Layers over one base in real overlays, and commands run over them: what the tests of read sets experiment with."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.readset.trees import TIME, Tree, write

from moldar.image.layer_entry import LayerEntry, Whiteouts
from moldar.image.model import Digest
from moldar.image.ownership import ownership
from moldar.image.unpack import unpack
from moldar.sandbox.overlay import OverlaySnapshots, OverlayWorkspace
from moldar.sandbox.readset.observations import Observation, first_difference, observe
from moldar.sandbox.readset.trees import DirectoryTree, TarTree, directory_root

BASE = Digest("sha256:" + "0" * 64)
ENTER = """
set -e
for name in usr dev; do mount --rbind /$name "$0/$name"; done
mount -t proc proc "$0/proc"
exec timeout 60 chroot "$0" /bin/sh -c "$1"
"""
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin", "HOME": "/root", "LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": "1000000000",
    "PIP_NO_CACHE_DIR": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore",
    "PYTHONHASHSEED": "0", "npm_config_cache": "/dev/null/none", "npm_config_update_notifier": "false",
}  # fmt: skip


class Table:
    """A snapshot table that forgets."""

    def add_snapshot(self, key: str, size: int) -> None: ...
    def has_snapshot(self, key: str) -> bool:
        return True

    def adopt_snapshot(self, key: str, size: int, exists: Callable[[], bool]) -> None: ...
    def remove_snapshot(self, key: str) -> None: ...


class Made(NamedTuple):
    """What a command did: its exit status, and its changes without times."""

    status: int
    changes: tuple[tuple[LayerEntry, str], ...]


def servers(place: Path) -> list[int]:
    """The processes that serve views of layers below `place`."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                line = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue
            if b"server.main()" in line and os.fsencode(place) in line:
                found.append(int(name))
    return found


class Looked(NamedTuple):
    """A command over a view: its exit status, what it printed, and what it observed of the layer."""

    status: int
    printed: str
    observations: tuple[Observation, ...]

    @property
    def asked(self) -> set[tuple[str, str]]:
        return {(seen.question.kind, seen.question.path) for seen in self.observations}


class Laboratory:
    """Layers over one base, and commands run over them."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._style: Whiteouts = "userxattr" if ownership().in_namespace else "overlay"
        self._snapshots = OverlaySnapshots(str(place / "snapshots"), Table(), self._style)
        self._snapshots.unpack((BASE,), _fill_base)
        self._root = directory_root(self._snapshots.directories((BASE,))[0])
        self._count = 0

    def layer(self, tree: Tree, time: int = TIME) -> tuple[Digest, str]:
        """Write the layer; its stack's top and its tar."""
        self._count += 1
        digest = Digest(f"sha256:{self._count:064x}")
        tar = str(self._place / f"{self._count}.tar")
        with open(tar, "wb") as file:
            write(tree, file.write, time)
        return digest, tar

    def unpack(self, layer: Digest, tar: str) -> str:
        def fill(directory: str) -> int:
            with open(tar, "rb") as file:
                return unpack(file, directory, whiteouts=self._style, missing_parents="refuse").size

        self._snapshots.unpack((BASE, layer), fill)
        return self._snapshots.directories((BASE, layer))[1]

    def workspace(self, layer: Digest, *, viewed: bool) -> OverlayWorkspace:
        return self._snapshots.prepare((BASE, layer), [1] if viewed else [])

    def tar_tree(self, tar: str) -> TarTree:
        return TarTree(tar, self._root)

    def look(self, tree: Tree, command: str) -> "Looked":
        """Run the command over a view of the layer; what it printed and observed."""
        layer, tar = self.layer(tree)
        directory = self.unpack(layer, tar)
        with self.workspace(layer, viewed=True) as workspace:
            assert workspace.has_views
            status = run(workspace, command)
            printed = Path(workspace.path, "printed").read_text()
            asked = workspace.questions()
        assert asked is not None, f"{command!r} gave no usable log"
        observations = observe(DirectoryTree(directory), asked[1])
        assert first_difference(self.tar_tree(tar), observations) is None, "the tar answers other than its directory"
        self.remove(layer, tar)
        return Looked(status, printed, observations)

    def reusable(self, looked: "Looked", tree: Tree, time: int = TIME) -> bool:
        """Whether all that was observed is still so in `tree`."""
        layer, tar = self.layer(tree, time)
        self.unpack(layer, tar)
        holds = [
            first_difference(form, looked.observations) is None
            for form in (self.tar_tree(tar), DirectoryTree(self._snapshots.directories((BASE, layer))[1]))
        ]
        self.remove(layer, tar)
        assert holds[0] == holds[1]
        return holds[0]

    def remove(self, layer: Digest, tar: str) -> None:
        os.unlink(tar)
        self._snapshots.remove(layer)


def _fill_base(directory: str) -> int:
    """A root whose programs are the host's."""
    root = Path(directory)
    for name in ("usr", "dev", "proc", "etc", "root", "tmp", "base/sub", "app/sub", "opt"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        if Path("/", name).is_symlink():
            (root / name).symlink_to(os.readlink(f"/{name}"))
    shutil.copytree("/etc/alternatives", root / "etc/alternatives", symlinks=True)
    shutil.copy("/etc/ld.so.cache", root / "etc/ld.so.cache")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    for name in ("base/one", "base/sub/inner", "app/base.txt", "app/sub/inner"):
        (root / name).write_text(f"{name} of the base\n")
    return 0


def run(workspace: OverlayWorkspace, command: str) -> int:
    """Run the command there as a RUN would, with what it prints in /printed."""
    script = f"cd /app && ( {command}\n) > /printed 2>&1"
    enter = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", ENTER, workspace.path, script]
    done = subprocess.run(enter, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.returncode


def made(workspace: OverlayWorkspace, status: int) -> Made:
    changes = []
    for entry, opener in workspace.changes():
        digest = ""
        if opener is not None and entry.size:
            with open(opener(), "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        changes.append((entry._replace(mtime=0), digest))
    return Made(status, tuple(changes))
