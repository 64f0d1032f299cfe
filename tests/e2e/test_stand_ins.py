"""The stand-ins for base images: their programs start, their defaults are those of the real images.

They are made by `scripts/stand-ins`, which takes a few minutes the first time; `scripts/test` makes them beforehand.
"""

import gzip
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from moldar.image.layer_read import Readable
from moldar.image.unpack import unpack

SCRIPT = Path(__file__).parents[2] / "scripts" / "stand-ins"
INSIDE = """
mkdir -p "$0/proc" "$0/dev"
mount -t proc proc "$0/proc"
mount --rbind /dev "$0/dev"
exec chroot "$0" sh -ec "$1"
"""
PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAMS = {
    "python:3.11.6-slim": ("python -V; python3 -V; pip --version", ("Python 3.11", "Python 3.11", "pip 23")),
    "node:18": ("node -v; yarn -v; npm -v; id -u node", ("v18.", "1.22", "9.", "1000")),
    "nginx:alpine": ("nginx -v 2>&1; cat /usr/share/nginx/html/index.html", ("nginx version", "<!doctype html>")),
    "busybox:latest": ("env echo found; cat /etc/passwd | wc -l", ("found", "2")),
}


class Archive:
    """An OCI archive with one image."""

    def __init__(self, path: Path) -> None:
        self._tar = tarfile.open(path)
        self.manifest = self._blob(json.load(self._file("index.json"))["manifests"][0])
        self.config: dict[str, Any] = self._blob(self.manifest["config"])["config"]

    def unpack(self, root: str) -> None:
        for layer in self.manifest["layers"]:
            with gzip.open(self._file("blobs/" + layer["digest"].replace(":", "/"))) as stream:
                unpack(cast("Readable", stream), root, whiteouts="apply")

    def _file(self, name: str) -> Any:
        return self._tar.extractfile(name)

    def _blob(self, descriptor: dict[str, Any]) -> dict[str, Any]:
        document: dict[str, Any] = json.load(self._file("blobs/" + descriptor["digest"].replace(":", "/")))
        return document

    def close(self) -> None:
        self._tar.close()


@pytest.fixture(scope="module")
def archives() -> Iterator[dict[str, Archive]]:
    done = subprocess.run([sys.executable, SCRIPT, "--list"], capture_output=True, text=True, check=True)
    lines = [line.split(" ") for line in done.stdout.splitlines()]
    found = {words[0]: Archive(Path(words[1])) for words in lines if words[-1].endswith(".tar")}
    yield found
    for archive in found.values():
        archive.close()


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_programs_run(archives: dict[str, Archive], name: str) -> None:
    script, expected = PROGRAMS[name]
    with tempfile.TemporaryDirectory(dir="/dev/shm") as root:
        archives[name].unpack(root)
        command = ["unshare", "--mount", "--fork", "sh", "-ec", INSIDE, root, script]
        done = subprocess.run(command, capture_output=True, text=True, env={"PATH": PATH}, check=False)
    assert done.returncode == 0, done.stderr
    for line, start in zip(done.stdout.splitlines(), expected, strict=True):
        assert line.startswith(start)


def test_the_defaults_are_those_of_the_real_images(archives: dict[str, Archive]) -> None:
    commands = {name: archive.config["Cmd"] for name, archive in archives.items()}
    assert commands == {
        "python:3.11.6-slim": ["python3"],
        "node:18": ["node"],
        "nginx:alpine": ["nginx", "-g", "daemon off;"],
        "busybox:latest": ["sh"],
    }
    assert "LANG=C.UTF-8" in archives["python:3.11.6-slim"].config["Env"]
    assert archives["nginx:alpine"].config["ExposedPorts"] == {"80/tcp": {}}
    assert archives["nginx:alpine"].config["StopSignal"] == "SIGQUIT"


def test_they_share_their_base_layer_and_say_what_they_are(archives: dict[str, Archive]) -> None:
    debian = [archive for name, archive in archives.items() if not name.startswith("busybox")]
    assert len({archive.manifest["layers"][0]["digest"] for archive in debian}) == 1
    for archive in archives.values():
        assert "Stand-in" in archive.config["Labels"]["org.opencontainers.image.description"]
