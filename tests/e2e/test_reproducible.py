"""`--reproducible`: one digest on every machine, whatever the time, the umask and the copy of the context."""

import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.program import Moldar

Project = Callable[..., Path]
DOCKERFILE = """
FROM busybox AS made
WORKDIR /work/deep
COPY . .
RUN umask > umask && mkdir -p new/dir && echo text > new/dir/file && ln -s file new/dir/link && rm Dockerfile
RUN touch passing && rm passing
FROM busybox
COPY --from=made /work /work
COPY --chown=1:1 run.sh a/data /bin/
COPY <<EOF /inline
text
EOF
RUN date -r /inline +%s > /date; ls -lR /work
"""


@pytest.fixture
def other(tmp_path: Path, busybox_archive: Path) -> Moldar:
    """Another machine: a store at another path."""
    program = Moldar(tmp_path / "other" / "machine")
    program.home.mkdir(parents=True)
    program("load", "-i", busybox_archive)
    return program


def built(program: Moldar, context: Path, *words: str) -> tuple[str, str]:
    """The image ID and the digest of its manifest."""
    image = program("build", "-q", *words, "-t", "app", context).strip()
    program("save", "-o", program.home / "app.tar", "app")
    with tarfile.open(program.home / "app.tar") as archive:
        index = archive.extractfile("index.json")
        assert index is not None
        (manifest,) = json.load(index)["manifests"]
    return image, manifest["digest"]


def copy_of(context: Path, target: Path, umask: int, when: int) -> Path:
    """A copy of `context` as another person would have got it."""
    before = os.umask(umask)
    try:
        for path in [context, *sorted(context.rglob("*"))]:
            copy = target / path.relative_to(context)
            if path.is_dir():
                copy.mkdir(parents=True)
            else:
                shutil.copyfile(path, copy)
                copy.chmod(path.stat().st_mode & 0o777 & ~umask)
            os.utime(copy, (when, when))
    finally:
        os.umask(before)
    return target


@pytest.fixture
def context(project: Project) -> Path:
    root = project(Dockerfile=DOCKERFILE, **{"run.sh": "#!/bin/sh\n", "a/data": "data", "a/b/c": "c"})
    (root / "run.sh").chmod(0o755)
    return root


def test_two_machines_give_one_digest(with_busybox: Moldar, other: Moldar, context: Path, tmp_path: Path) -> None:
    first = built(with_busybox, context, "--reproducible")
    clone = copy_of(context, tmp_path / "clone", 0o077, 1_000_000_000)
    before = os.umask(0o077)
    try:
        second = built(other, clone, "--reproducible")
    finally:
        os.umask(before)
    assert first == second
    document = json.loads(with_busybox("image", "inspect", "app"))[0]
    assert document["Created"] == "1970-01-01T00:00:00Z"
    assert with_busybox("run", "--rm", "app", "cat", "/date", "/work/deep/umask") == "0\n0022\n"
    with_busybox("system", "check")  # fails when a layer is not what its name says


def test_the_environment_gives_the_date(with_busybox: Moldar, other: Moldar, context: Path, tmp_path: Path) -> None:
    at_zero = built(with_busybox, context, "--reproducible")
    without = built(with_busybox, context)
    for program in (with_busybox, other):
        program.environment["SOURCE_DATE_EPOCH"] = "1700000000"
    first = built(with_busybox, context, "--reproducible")
    second = built(other, copy_of(context, tmp_path / "clone", 0o002, 1_800_000_000), "--reproducible")
    assert first == second
    assert len({at_zero, without, first}) == 3
    assert json.loads(other("image", "inspect", "app"))[0]["Created"] == "2023-11-14T22:13:20Z"
    assert other("run", "--rm", "app", "cat", "/date") == "1700000000\n"
    again = other.run("build", "--progress=plain", "--reproducible", tmp_path / "clone").stderr
    assert again.count("CACHED") == 9, again
