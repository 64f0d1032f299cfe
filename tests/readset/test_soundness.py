"""What a step made may be reused over another layer only where running it there makes the same.

Random layers, commands and edits: the command runs over a layer's view, the layer is edited, the command runs over
the edited layer, natively; when every observation still holds, it must have made the same changes. READSET_TRIALS
says how many edits are tried, READSET_SEED where to begin; READSET_REPORT is a file for the figures.
"""

import hashlib
import json
import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.readset.commands import COMMANDS
from tests.readset.trees import Tree, edit, random_tree, write

from moldar.image.layer_entry import LayerEntry
from moldar.image.model import Digest
from moldar.image.unpack import unpack
from moldar.sandbox.overlay import OverlaySnapshots, OverlayWorkspace
from moldar.sandbox.readset.observations import first_difference, observe
from moldar.sandbox.readset.trees import DirectoryTree, TarTree, directory_root

TRIALS = int(os.environ.get("READSET_TRIALS", "100"))
SEED = int(os.environ.get("READSET_SEED", "1"))
EDITS_OF_EACH = 4
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


class Laboratory:
    """Layers over one base, and commands run over them."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._snapshots = OverlaySnapshots(str(place / "snapshots"), Table())
        self._snapshots.unpack((BASE,), _fill_base)
        self._root = directory_root(self._snapshots.directories((BASE,))[0])
        self._count = 0

    def layer(self, tree: Tree) -> tuple[Digest, str]:
        """Write the layer; its stack's top and its tar."""
        self._count += 1
        digest = Digest(f"sha256:{self._count:064x}")
        tar = str(self._place / f"{self._count}.tar")
        with open(tar, "wb") as file:
            write(tree, file.write)
        return digest, tar

    def unpack(self, layer: Digest, tar: str) -> str:
        def fill(directory: str) -> int:
            with open(tar, "rb") as file:
                return unpack(file, directory, whiteouts="overlay", missing_parents="refuse").size

        self._snapshots.unpack((BASE, layer), fill)
        return self._snapshots.directories((BASE, layer))[1]

    def workspace(self, layer: Digest, *, viewed: bool) -> OverlayWorkspace:
        return self._snapshots.prepare((BASE, layer), [1] if viewed else [])

    def tar_tree(self, tar: str) -> TarTree:
        return TarTree(tar, self._root)

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
    enter = ["unshare", "-m", "sh", "-c", ENTER, workspace.path, script]
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


def trial(lab: Laboratory, chance: random.Random, command: str, counts: Counter[str]) -> None:
    """One command over one layer, and some edits of the layer."""
    tree = random_tree(chance)
    layer, tar = lab.layer(tree)
    directory = lab.unpack(layer, tar)
    with lab.workspace(layer, viewed=True) as workspace:
        assert workspace.has_views
        status = run(workspace, command)
        before = made(workspace, status)
        asked = workspace.questions()
    assert asked is not None, f"{command!r} gave no usable log"
    observations = observe(DirectoryTree(directory), asked[1])
    assert first_difference(lab.tar_tree(tar), observations) is None, "the tar answers other than its directory"
    lab.remove(layer, tar)
    for _ in range(EDITS_OF_EACH):
        edited, what = edit(tree, chance)
        layer, tar = lab.layer(edited)
        difference = first_difference(lab.tar_tree(tar), observations)
        lab.unpack(layer, tar)
        with lab.workspace(layer, viewed=False) as workspace:
            status = run(workspace, command)
            after = made(workspace, status)
        lab.remove(layer, tar)
        same = before == after
        counts["trials"] += 1
        counts["reused"] += difference is None
        counts["same"] += same
        counts["succeeded"] += not before.status
        if same and difference is not None:
            counts[f"missed by {difference.question.kind.partition(' ')[0]}"] += 1
        if difference is None and not same:
            others = set(before.changes) ^ set(after.changes)
            raise AssertionError(f"{command!r} was reused after {what}: {before.status} {after.status} {others}")


def test_reused_results_are_what_running_makes(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    counts: Counter[str] = Counter()
    lab = Laboratory(tmp_path)
    commands: list[str] = []
    while counts["trials"] < TRIALS:
        if not commands:
            commands = chance.sample(COMMANDS, len(COMMANDS))
        trial(lab, chance, commands.pop(), counts)
        if report := os.environ.get("READSET_REPORT"):
            Path(report).write_text(json.dumps(counts, indent=1))
    assert len(set(COMMANDS)) >= 60
    assert counts["reused"] >= counts["same"] / 4, counts
