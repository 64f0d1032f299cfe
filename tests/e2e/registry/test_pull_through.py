"""The program's hub as a mirror of Debian's docker-registry, for skopeo, podman and the program itself."""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.program import Moldar

CREDENTIALS = {"auth": base64.b64encode(b"alice:secret").decode()}
DOCKERFILE = "FROM scratch\nCOPY hello /hello\n"


@pytest.fixture
def upstream(docker_registry: Callable[..., str], moldar: Moldar, tmp_path: Path) -> str:
    """A docker-registry that asks for a password and has library/hello:1; its host."""
    host = docker_registry(accounts=True)
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "hello").write_bytes(b"hello " * 300_000)
    (tmp_path / "context" / "Dockerfile").write_text(DOCKERFILE)
    moldar("build", "-t", "hello", tmp_path / "context")
    moldar("login", "-u", "alice", "--password-stdin", host, stdin="secret")
    moldar("tag", "hello", f"{host}/library/hello:1")
    moldar("push", f"{host}/library/hello:1")
    moldar("rmi", "hello", f"{host}/library/hello:1")
    return host


@pytest.fixture
def mirror(upstream: str, moldar: Moldar, tmp_path: Path) -> Iterator[str]:
    """A hub that is docker.io's mirror, were docker.io the upstream; its host."""
    secrets = tmp_path / "secrets.json"
    secrets.write_text(json.dumps({"auths": {"docker.io": CREDENTIALS}}))
    flags = ("--proxy", f"docker.io=http://{upstream}", "--mirror-of", "docker.io", "--proxy-pull", "everyone")
    flags += ("--proxy-credentials", str(secrets), "--listen", "127.0.0.1:0", "--data", str(tmp_path / "hub"))
    process = subprocess.Popen(
        [sys.executable, "-m", "moldar", "hub", "serve", *flags], stdout=subprocess.PIPE, env=moldar.environment
    )
    assert process.stdout
    poll = select.poll()
    poll.register(process.stdout, select.POLLIN)
    line = process.stdout.readline().decode() if poll.poll(30_000) else ""
    assert "listening on http://" in line
    yield line.split("//")[-1].strip()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    process.stdout.close()


@pytest.fixture
def registries(mirror: str, tmp_path: Path) -> dict[str, str]:
    """The environment of programs that know of the mirror."""
    path = tmp_path / "registries.conf"
    path.write_text(
        'unqualified-search-registries = ["docker.io"]\n[[registry]]\nprefix = "docker.io"\nlocation = "docker.io"\n'
        f'[[registry.mirror]]\nlocation = "{mirror}"\ninsecure = true\n'
    )
    (tmp_path / "none.json").write_text("{}")
    return {**os.environ, "CONTAINERS_REGISTRIES_CONF": str(path), "REGISTRY_AUTH_FILE": str(tmp_path / "none.json")}


def run(*words: str, env: dict[str, str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_skopeo(registries: dict[str, str], mirror: str, tmp_path: Path) -> None:
    skopeo = ("skopeo", "--registries-conf", registries["CONTAINERS_REGISTRIES_CONF"])
    found = json.loads(run(*skopeo, "inspect", "--no-tags", "docker://docker.io/library/hello:1", env=registries))
    run(*skopeo, "copy", "docker://docker.io/library/hello:1", f"dir:{tmp_path}/dir", env=registries)
    for name in ("docker.io/library/hello:1", "docker.io/hello:1", "library/hello:1"):
        direct = run("skopeo", "inspect", "--tls-verify=false", f"docker://{mirror}/{name}", env=registries)
        assert json.loads(direct)["Digest"] == found["Digest"]
        assert json.loads(direct)["RepoTags"] == ["1"]


def test_podman(registries: dict[str, str]) -> None:
    root = tempfile.mkdtemp(prefix="mirror-")  # podman refuses longer paths than 50 characters
    storage = ("--root", f"{root}/root", "--runroot", f"{root}/run", "--storage-driver=vfs")
    try:
        run("podman", *storage, "pull", "hello:1", env=registries)
        listed = run("podman", *storage, "images", "--format", "{{.Repository}}:{{.Tag}}", env=registries)
        assert listed.split() == ["docker.io/library/hello:1"]
    finally:
        shutil.rmtree(root, ignore_errors=True)


def test_the_program(mirror: str, moldar: Moldar, tmp_path: Path) -> None:
    (tmp_path / "moldar.toml").write_text(f'[registry."docker.io"]\nmirrors = ["http://{mirror}"]\n')
    moldar("pull", "hello:1")
    moldar("pull", f"{mirror}/docker.io/library/hello:1")
    assert moldar("images", "-q").split()
