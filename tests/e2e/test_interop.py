"""Other people's tools read what we write, and we read what they write."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.program import Moldar

Project = Callable[..., Path]


def sh(*words: str | Path) -> str:
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def image(with_busybox: Moldar, project: Project) -> Moldar:
    """A store that holds `app`, built here."""
    with_busybox("build", "-t", "app", project(Dockerfile="FROM busybox\nCOPY a /a\nRUN echo b > /b\n", a="a"))
    return with_busybox


def test_skopeo_and_umoci_read_what_save_writes(image: Moldar, tmp_path: Path) -> None:
    image("save", "-o", tmp_path / "app.tar", "app")
    for kind in ("oci-archive", "docker-archive"):
        told = json.loads(sh("skopeo", "inspect", f"{kind}:{tmp_path}/app.tar"))
        assert len(told["Layers"]) == 5, kind
    sh("skopeo", "copy", f"oci-archive:{tmp_path}/app.tar", f"oci:{tmp_path}/layout:app")
    sh("umoci", "unpack", "--image", f"{tmp_path}/layout:app", tmp_path / "bundle")
    assert (tmp_path / "bundle" / "rootfs" / "b").read_text() == "b\n"
    assert (tmp_path / "bundle" / "rootfs" / "a").read_text() == "a"


def test_the_store_is_an_oci_layout(image: Moldar, tmp_path: Path) -> None:
    image("save", "-o", tmp_path / "app.tar", "app")  # makes the manifest
    told = json.loads(sh("skopeo", "inspect", f"oci:{image.home}/home:docker.io/library/app:latest"))
    assert len(told["Layers"]) == 5


def test_buildah_reads_what_the_build_exports(image: Moldar, project: Project, tmp_path: Path) -> None:
    context = project("other", Dockerfile='FROM app\nCMD ["cat", "/b"]\n')
    image("build", "-o", f"type=oci,dest={tmp_path}/out.tar", context)
    root, run = tmp_path / "containers", tmp_path / "run"
    storage = ("--root", root, "--runroot", run, "--storage-driver", "vfs")
    name = sh("buildah", *storage, "from", f"oci-archive:{tmp_path}/out.tar").strip()
    assert '"/b"' in sh("buildah", *storage, "inspect", name)
    sh("buildah", *storage, "rm", name)


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_we_read_what_skopeo_writes(image: Moldar, tmp_path: Path, kind: str) -> None:
    image("save", "-o", tmp_path / "app.tar", "app")
    sh("skopeo", "copy", f"oci-archive:{tmp_path}/app.tar", f"{kind}:{tmp_path}/theirs.tar:theirs:latest")
    image("rmi", "app")
    image("load", "-i", tmp_path / "theirs.tar")
    assert image("run", "--rm", "theirs", "cat", "/b") == "b\n"


def test_what_we_push_and_pull_keeps_its_digest(image: Moldar, hub: str, tmp_path: Path) -> None:
    image("tag", "app", f"{hub}/alice/app")
    pushed = image("push", f"{hub}/alice/app").splitlines()[-1]
    digest = next(word for word in pushed.split() if word.startswith("sha256:"))
    told = json.loads(sh("skopeo", "inspect", "--tls-verify=false", f"docker://{hub}/alice/app"))
    assert told["Digest"] == digest
    image("rmi", "-f", "app", f"{hub}/alice/app")
    assert digest in image("pull", f"{hub}/alice/app")
    image("tag", f"{hub}/alice/app", f"{hub}/alice/again")
    assert digest in image("push", f"{hub}/alice/again")


def test_we_pull_what_skopeo_pushes(image: Moldar, hub: str, tmp_path: Path) -> None:
    image("save", "-o", tmp_path / "app.tar", "app")
    shutil.copy(image.home / "docker" / "config.json", tmp_path / "auth.json")
    for form, name in (("v2s2", "docker"), ("oci", "oci")):
        target = f"docker://{hub}/alice/{name}"
        login = ("--dest-tls-verify=false", "--dest-authfile", tmp_path / "auth.json")
        sh("skopeo", "copy", *login, "--format", form, f"oci-archive:{tmp_path}/app.tar", target)
        image("pull", f"{hub}/alice/{name}")
        assert image("run", "--rm", f"{hub}/alice/{name}", "cat", "/b") == "b\n"
        told = json.loads(sh("skopeo", "inspect", "--tls-verify=false", target))
        image("tag", f"{hub}/alice/{name}", f"{hub}/alice/{name}-back")
        assert told["Digest"] in image("push", f"{hub}/alice/{name}-back")
