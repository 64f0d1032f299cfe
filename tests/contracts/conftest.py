"""Every runtime, and a sandbox in which it runs commands."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moldar.sandbox.bundle import write_bundle
from moldar.sandbox.choosing import choose_runtime
from moldar.sandbox.null_device import open_null
from moldar.sandbox.runtime import Runtime, Streams
from moldar.sandbox.spec import ProcessSpec, SandboxSpec

ENV = ("PATH=/bin",)


@pytest.fixture(params=["crun", "runc", "builtin"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runtime]:
    chosen = choose_runtime(str(tmp_path / "run"), request.param)
    assert chosen.name == request.param
    yield chosen
    left = os.listdir(tmp_path / "run" / request.param)
    assert left == [], "the runtime kept records"


@pytest.fixture
def nothing(tmp_path: Path) -> Iterator[int]:
    descriptor = open_null(str(tmp_path))
    yield descriptor
    os.close(descriptor)


class Sandbox:
    """Runs commands in a busybox root."""

    def __init__(self, runtime: Runtime, root: Path, work: Path, nothing: int) -> None:
        self.runtime = runtime
        self.root = root
        self.work = work
        self.nothing = nothing
        self.count = 0

    def bundle(self, *args: str, **members: Any) -> tuple[str, str]:
        self.count += 1
        identity = f"test-{os.getpid()}-{self.runtime.name}-{self.count}"
        process = members.pop("process", ProcessSpec(args, ENV))
        directory = str(self.work / identity)
        spec = SandboxSpec(str(self.root), process, **{"hostname": "box", **members})
        write_bundle(directory, spec, identity, self.runtime.features)
        return directory, identity

    def run(self, *args: str, canceller: Any = None, **members: Any) -> tuple[int, str, str]:
        directory, identity = self.bundle(*args, **members)
        out, err = self.work / "out", self.work / "err"
        with open(out, "wb") as out_file, open(err, "wb") as err_file:
            streams = Streams(self.nothing, out_file.fileno(), err_file.fileno())
            code = self.runtime.run(directory, identity, streams, canceller)
        return code, out.read_text(), err.read_text()

    def shell(self, script: str, **members: Any) -> str:
        code, out, err = self.run("sh", "-c", script, **members)
        assert code == 0, err
        return out.strip()


@pytest.fixture
def sandbox(runtime: Runtime, busybox_root: Path, tmp_path: Path, nothing: int) -> Sandbox:
    return Sandbox(runtime, busybox_root, tmp_path, nothing)
