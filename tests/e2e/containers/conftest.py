"""Containers of a busybox image in a store of their own."""

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from moldar.app.engine import Engine, Settings
from moldar.cli import dispatch
from moldar.containers.options import RunOptions
from moldar.containers.service import Containers
from moldar.errors import MoldarError
from moldar.image.config import ContainerConfig, HistoryEntry, ImageConfig, encode_image_config
from moldar.image.model import Digest
from moldar.image.reference import parse_reference
from moldar.sandbox.choosing import choose_runtime, choose_snapshots
from moldar.sandbox.null_device import open_null
from moldar.sandbox.remembered import remembered
from moldar.sandbox.runtime import Runtime, Streams
from moldar.sandbox.snapshots import Snapshots
from moldar.sandbox.unpacked import driver_answer, driver_facts
from moldar.store.containers import ContainerTable
from moldar.store.database import Database
from moldar.store.home import Home
from moldar.store.layers import LayerTable

LAYER = Digest("sha256:" + hashlib.sha256(b"busybox").hexdigest())


class Parts:
    """The machinery of a store."""

    def __init__(self, home: Home, database: Database) -> None:
        self.snapshots: Snapshots = choose_snapshots(home.snapshots, LayerTable(database))
        self.runtime: Runtime = choose_runtime(f"{home.root}/run")


class House:
    """A store with one image, and short ways to make and look at containers."""

    def __init__(self, root: str) -> None:
        self.home = Home.open(root)
        database = Database(self.home)
        self.parts = Parts(self.home, database)
        self.containers = Containers(self.home, ContainerTable(database), self.parts)
        self.config = ImageConfig(config=ContainerConfig(cmd=("sh",), env=("PATH=/bin",), exposed_ports=("80/tcp",)))

    def create(self, *command: str, **options: Any) -> str:
        return self.containers.create(LAYER, self.config, (LAYER,), RunOptions(command=command, **options))

    def start(self, *command: str, **options: Any) -> str:
        identity = self.create(*command, **options)
        self.containers.start(identity)
        return identity

    def run(self, *command: str, **options: Any) -> tuple[int, bytes]:
        """The exit code and output of a detached container."""
        identity = self.start(*command, **options)
        return self.containers.wait(identity), self.output(identity)

    def output(self, name: str, **options: Any) -> bytes:
        return b"".join(line.data for line in self.containers.logs(name, **options))

    def execute(self, name: str, *command: str, **options: Any) -> tuple[int, bytes]:
        path = f"{self.home.root}/out"
        nothing = open_null(self.home.root)
        try:
            with open(path, "wb") as out:
                streams = Streams(nothing, out.fileno(), out.fileno())
                code = self.containers.execute(name, command, streams, **options)
        finally:
            os.close(nothing)
        return code, Path(path).read_bytes()


@pytest.fixture
def house(
    tmp_path: Path, make_busybox_root: Callable[[Path], int], request: pytest.FixtureRequest
) -> Iterator[House]:
    """The parameter, if there is one, names the snapshot driver."""
    home = Home.open(str(tmp_path / "home"))
    if getattr(request, "param", "overlay") == "copying":
        os.makedirs(home.snapshots, exist_ok=True)
        remembered(driver_answer(home.snapshots), driver_facts(home.snapshots), lambda: {"whiteouts": "apply"})
    made = House(home.root)
    made.parts.snapshots.unpack((LAYER,), lambda directory: make_busybox_root(Path(directory)))
    yield made
    for view in made.containers.list(everything=True):
        with suppress(MoldarError):
            made.containers.remove(view.id, force=True, volumes=True)
    assert os.listdir(made.home.containers) == []
    assert os.listdir(f"{made.home.snapshots}/roots") == []
    assert os.listdir(f"{made.home.snapshots}/work") == []
    assert os.listdir(f"{made.home.root}/run/{made.parts.runtime.name}") == []
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    left = subprocess.run(["/bin/ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in left, "a monitor or network helper is left"


class Ran(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


class CommandLine:
    """The command line in this process, over the store of a house. Calling it runs a command that must succeed."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def run(self, *words: str | Path, stdin: bytes = b"") -> Ran:
        self._capture.readouterr()
        before = os.dup(0)
        given = os.memfd_create("stdin")
        os.write(given, stdin)
        os.lseek(given, 0, os.SEEK_SET)
        os.dup2(given, 0)
        try:
            with open(0, closefd=False) as text, pytest.MonkeyPatch.context() as patch:
                patch.setattr("sys.stdin", text)
                code = dispatch.run([str(word) for word in words])
        finally:
            os.dup2(before, 0)
            os.close(before)
            os.close(given)
        return Ran(code, *self._capture.readouterr())

    def __call__(self, *words: str | Path, stdin: bytes = b"") -> str:
        ran = self.run(*words, stdin=stdin)
        assert ran.code == 0, ran.err
        return ran.out

    def fails(self, *words: str | Path, code: int = 1, stdin: bytes = b"") -> str:
        ran = self.run(*words, stdin=stdin)
        assert ran.code == code, f"{ran.code}: {ran.out}{ran.err}"
        return ran.err


@pytest.fixture
def moldar(house: House, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    """Commands over the store of `house`."""
    monkeypatch.setenv("MOLDAR_HOME", house.home.root)
    return CommandLine(capfd)


@pytest.fixture
def busybox(house: House) -> str:
    """The name of the image of `house`, as commands find it in its store."""
    with Engine(Settings(house.home.root)) as engine:
        layers = (HistoryEntry("2026-01-01T00:00:00Z", "busybox"),)
        config = house.config._replace(platform=engine.platform, diff_ids=(LAYER,), history=layers)
        image = engine.blobs.put(encode_image_config(config))
        engine.images.add(image, 0)
        engine.images.tag(parse_reference("busybox"), image)
    return "busybox"
