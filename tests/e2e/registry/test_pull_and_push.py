"""`moldar pull`, `push` and `login` against registries that fail, lie and refuse, and killed at any moment."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.program import Moldar
from tests.unit.remote.mini_registry import MiniRegistry, Server

Project = Callable[..., Path]
KILLS = 30
LAYERED = """
FROM scratch
COPY a /
COPY b /
COPY c /
"""


@pytest.fixture
def mini() -> Iterator[MiniRegistry]:
    """The small registry, serving."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server.registry
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def layered(moldar: Moldar, project: Project) -> Moldar:
    """A program whose store holds `layered`, three layers of some megabytes."""
    context = project(Dockerfile=LAYERED)
    for name in "abc":
        (context / name).write_bytes(os.urandom(4_000_000))
    moldar("build", "-t", "layered", context)
    return moldar


def assert_empty_and_sound(moldar: Moldar) -> None:
    assert moldar("images", "-q") == ""
    assert "sound" in moldar("system", "check")


def pushed(moldar: Moldar, mini: MiniRegistry) -> str:
    """The name under which `layered` lies at the small registry, and nowhere here."""
    name = f"{mini.address}/alice/layered"
    moldar("tag", "layered", name)
    moldar("push", name)
    moldar("rmi", "-f", "layered", name)
    moldar("builder", "prune", "-af")
    return name


def test_a_registry_that_lies_about_a_layer(layered: Moldar, mini: MiniRegistry) -> None:
    name = pushed(layered, mini)
    largest = max(mini.blobs, key=lambda key: len(mini.blobs[key]))
    mini.blobs[largest] = b"x" * len(mini.blobs[largest])
    message = layered.fails("pull", name)
    assert largest[1] in message
    assert message.count("ERROR") == 1
    assert_empty_and_sound(layered)


def test_a_registry_that_lies_about_a_manifest(layered: Moldar, mini: MiniRegistry) -> None:
    name = pushed(layered, mini)
    wrong = "sha256:" + hashlib.sha256(b"other").hexdigest()
    mini.manifests["alice/layered", wrong] = mini.manifests["alice/layered", "latest"]
    assert f"as {wrong} whose content is sha256:" in layered.fails("pull", f"{name}@{wrong}")
    assert_empty_and_sound(layered)


def test_a_truncated_layer(layered: Moldar, mini: MiniRegistry) -> None:
    name = pushed(layered, mini)
    largest = max(mini.blobs, key=lambda key: len(mini.blobs[key]))
    content = mini.blobs[largest]
    mini.blobs[largest] = content[:-100]
    assert "fewer than" in layered.fails("pull", name)
    assert_empty_and_sound(layered)
    mini.blobs[largest] = content
    layered("pull", name)
    assert any(seen.headers.get("range", "").startswith("bytes=") for seen in mini.requests("GET", largest[1]))


def test_a_pulled_image_goes_back_under_its_digest(layered: Moldar, mini: MiniRegistry) -> None:
    name = pushed(layered, mini)
    layered("pull", name)
    layered("tag", name, f"{mini.address}/bob/copy:v2")
    layered("push", f"{mini.address}/bob/copy:v2")
    assert mini.manifests["bob/copy", "v2"] == mini.manifests["alice/layered", "latest"]
    assert mini.requests("POST", "from=alice/layered"), "blobs are mounted, not sent"


def test_wrong_passwords_and_unknown_tags(moldar: Moldar, mini: MiniRegistry) -> None:
    mini.users = {"alice": "secret"}
    message = moldar.fails("login", "-u", "alice", "--password-stdin", mini.address, stdin="wrong\n")
    assert "incorrect username or password" in message
    assert not (moldar.home / "docker" / "config.json").exists()
    assert "Login Succeeded" in moldar("login", "-u", "alice", "--password-stdin", mini.address, stdin="secret\n")
    assert mini.address in json.loads((moldar.home / "docker" / "config.json").read_text())["auths"]
    assert f"manifest for {mini.address}/a/b:c not found" in moldar.fails("pull", f"{mini.address}/a/b:c")
    moldar("logout", mini.address)
    assert "authentication required" in moldar.fails("pull", f"{mini.address}/private/b:c")


def test_mirrors_of_moldar_toml(layered: Moldar, mini: MiniRegistry) -> None:
    layered("tag", "layered", f"{mini.address}/library/layered")
    layered("push", f"{mini.address}/library/layered")
    layered("rmi", "-f", "layered", f"{mini.address}/library/layered")
    mirrors = f'[registry."docker.io"]\nmirrors = ["http://127.0.0.1:1", "http://{mini.address}"]\n'
    (layered.home / "moldar.toml").write_text(mirrors)
    assert "docker.io/library/layered:latest" in layered("pull", "layered")
    (layered.home / "moldar.toml").write_text('[registry."docker.io"]\nmirors = []\n')
    assert "unknown setting 'mirors'" in layered.fails("pull", "layered")


@pytest.mark.parametrize("verb", ["pull", "push"])
def test_a_killed_transfer_leaves_a_sound_store(layered: Moldar, mini: MiniRegistry, verb: str) -> None:
    chance = random.Random(verb)
    name = pushed(layered, mini)
    layered("pull", name)
    for number in range(KILLS):
        if verb == "pull":
            layered.run("rmi", "-f", name)
        else:
            mini.blobs.clear()
            mini.manifests.clear()
        process = subprocess.Popen(
            [sys.executable, "-m", "moldar", verb, name],
            env=layered.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            process.wait(chance.uniform(0.1, 0.5))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        if number % 10 == 9:
            assert "sound" in layered("system", "check")
            layered(verb, name)
    layered("rmi", "-f", name)
    layered("pull", name)
    assert "sound" in layered("system", "check")
