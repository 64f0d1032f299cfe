"""Clients that others wrote: skopeo, podman, buildah, umoci's images, oras, curl."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from moldar.hub import administration
from moldar.hub.services import Hub
from moldar.hub.settings import HubSettings

from .hubs import PASSWORD, Running, run, sha256

CREDENTIALS = f"alice:{PASSWORD}"


@pytest.mark.parametrize("kind", ["password", "access token"])
def test_skopeo_in_and_out(server: Running, layout: str, tmp_path: Path, kind: str) -> None:
    secret = PASSWORD
    if kind == "access token":
        _, secret = administration.create_token(
            server.where, "alice", "skopeo", actions=("pull", "push", "delete"), repositories=("alice/*",)
        )
    name = f"docker://{server.host}/alice/skopeo-{kind.rsplit(maxsplit=1)[-1]}:one"
    login = f"alice:{secret}"
    run("skopeo", "copy", "--dest-tls-verify=false", f"--dest-creds={login}", f"oci:{layout}", name)
    for archive in ("oci", "dir"):
        run("skopeo", "copy", "--src-tls-verify=false", name, f"{archive}:{tmp_path}/{archive}")
    local = json.loads(run("skopeo", "inspect", f"oci:{layout}"))
    remote = json.loads(run("skopeo", "inspect", "--tls-verify=false", name))
    assert remote["Digest"] == local["Digest"]
    assert remote["Layers"] == local["Layers"]
    again = run("skopeo", "copy", "--dest-tls-verify=false", f"--dest-creds={login}", f"dir:{tmp_path}/dir", name)
    assert "already exists" in again or again == "" or "Writing manifest" in again
    run(
        "skopeo",
        "copy",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        f"--dest-creds={login}",
        name,
        f"{name}2",
    )
    tags = json.loads(run("skopeo", "list-tags", "--tls-verify=false", name.rpartition(":")[0]))["Tags"]
    assert tags == ["one", "one2"]
    run("skopeo", "delete", "--tls-verify=false", f"--creds={login}", name)
    assert json.loads(run("skopeo", "list-tags", "--tls-verify=false", name.rpartition(":")[0]))["Tags"] == []


def test_skopeo_as_a_robot(server: Running, layout: str) -> None:
    hub = Hub(HubSettings(server.data))
    alice = hub.accounts.find("alice")
    assert alice
    robot, secret = hub.robots.create(alice, "ci", actions=("pull", "push"), repositories=("alice/by-robot",))
    hub.close()
    copy = ("skopeo", "copy", "--dest-tls-verify=false", f"--dest-creds={robot.name}:{secret}", f"oci:{layout}")
    run(*copy, f"docker://{server.host}/alice/by-robot:one")
    assert "denied" in run(*copy, f"docker://{server.host}/alice/by-nobody:one", fails=True)


def test_skopeo_is_refused(server: Running, layout: str) -> None:
    target = f"docker://{server.host}/bob/skopeo:one"
    push = ("skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}", target)
    assert "denied" in run(*push, f"--dest-creds={CREDENTIALS}", fails=True)
    assert "unauthorized" in run(*push, "--dest-creds=alice:wrong-password", fails=True)
    assert "denied" in run(*push, fails=True)
    pull = ("skopeo", "inspect", "--tls-verify=false", f"docker://{server.host}/bob/none:one")
    assert "unauthorized" in run(*pull, fails=True)
    missing = run(*pull[:-1], f"docker://{server.host}/alice/none:one", f"--creds={CREDENTIALS}", fails=True)
    assert "name unknown" in missing.lower()


def test_skopeo_between_formats(server: Running, layout: str) -> None:
    for form in ("v2s2", "oci"):
        name = f"docker://{server.host}/alice/formats:{form}"
        run(
            "skopeo",
            "copy",
            "--dest-tls-verify=false",
            f"--dest-creds={CREDENTIALS}",
            f"--format={form}",
            f"oci:{layout}",
            name,
        )
        raw = json.loads(run("skopeo", "inspect", "--raw", "--tls-verify=false", name))
        assert ("docker" in raw.get("mediaType", "")) is (form == "v2s2")


@pytest.mark.parametrize("program", ["podman", "buildah"])
def test_podman_and_buildah(server: Running, layout: str, tmp_path: Path, program: str) -> None:
    root = tempfile.mkdtemp(prefix="hub-test-")  # podman refuses longer paths than 50 characters
    storage = ("--root", f"{root}/root", "--runroot", f"{root}/run", "--storage-driver=vfs")
    auth = str(tmp_path / "auth.json")
    env = {"REGISTRY_AUTH_FILE": auth}
    host = ("--tls-verify=false",)
    name = f"{server.host}/alice/{program}:latest"
    try:
        run(program, *storage, "login", *host, "-u", "alice", "-p", PASSWORD, server.host, env=env)
        local = run(program, *storage, "pull", f"oci:{layout}", env=env).split()[-1]
        run(program, *storage, "push", *host, local, f"docker://{name}", env=env)
        run(program, *storage, "rmi", "--all", "--force", env=env)
        pulled = run(program, *storage, "pull", *host, name, env=env).split()[-1]
        assert pulled.removeprefix("sha256:") == local.removeprefix("sha256:")
        run(program, *storage, "logout", server.host, env=env)
        refused = run(program, *storage, "push", *host, pulled, f"docker://{name}", env=env, fails=True)
        assert "denied" in refused or "unauthorized" in refused
        denied = run(
            program, *storage, "login", *host, "-u", "alice", "-p", "wrong password", server.host, env=env, fails=True
        )
        assert "invalid username/password" in denied
    finally:
        shutil.rmtree(root, ignore_errors=True)


ORAS = """
import sys
import oras.client
host, user, secret, directory = sys.argv[1:]
client = oras.client.OrasClient(hostname=host, insecure=True, auth_backend=sys.stdin.readline().strip())
client.auth.set_basic_auth(user, secret)
name = f"{host}/alice/artifacts"
manifest = {"org.example.kind": "notes"}
for chunked, tag in ((False, "whole"), (True, "chunked")):
    answer = client.push(
        target=f"{name}:{tag}", files=[f"{directory}/notes.txt:text/plain"], manifest_annotations=manifest,
        disable_path_validation=True, do_chunked=chunked, chunk_size=7,
    )
    assert answer.status_code == 201, answer.text
    client.pull(target=f"{name}:{tag}", outdir=f"{directory}/{tag}")
print(*sorted(client.get_tags(name)))
"""


@pytest.mark.parametrize("backend", ["basic", "token"])
def test_oras(server: Running, tmp_path: Path, backend: str) -> None:
    """An artifact with its own media type and annotations, in one piece and in chunks, by either way to sign in."""
    _, secret = administration.create_token(server.where, "alice", "oras", actions=("pull", "push"))
    (tmp_path / "notes.txt").write_text("kept in a registry\n")
    words = [sys.executable, "-c", ORAS, server.host, "alice", secret, str(tmp_path)]
    done = subprocess.run(words, input=f"{backend}\n", capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "chunked whole"
    for tag in ("whole", "chunked"):
        (found,) = (tmp_path / tag).rglob("notes.txt")
        assert found.read_text() == "kept in a registry\n"
    with server.client("alice") as alice:
        document = alice.get("/v2/alice/artifacts/manifests/whole").json()
    assert document["annotations"] == {"org.example.kind": "notes"}
    assert document["layers"][0]["mediaType"] == "text/plain"


def test_curl_without_a_token(server: Running, tmp_path: Path) -> None:
    data = os.urandom(100_000)
    (tmp_path / "blob").write_bytes(data)
    url = f"{server.url}/v2/alice/curl/blobs/uploads/?digest={sha256(data)}"
    body = ("--data-binary", f"@{tmp_path}/blob")
    sent = run("curl", "-s", "-u", CREDENTIALS, *body, "-o", os.devnull, "-w", "%{http_code}", url)
    assert sent == "201"
    part = subprocess.run(
        ["curl", "-s", "-r", "-10", f"{server.url}/v2/alice/curl/blobs/{sha256(data)}"],
        capture_output=True,
        check=True,
    )
    assert part.stdout == data[-10:]
