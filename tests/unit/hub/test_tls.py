"""The hub over TLS with a certificate that it made: what clients do with it, and the life of the certificate."""

import json
import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from moldar.errors import HostTrouble, UserMistake
from moldar.hub import administration
from moldar.hub.certificates import self_signed
from moldar.hub.server import serve
from moldar.hub.settings import HubSettings

from .hubs import PASSWORD, Client, Running, run

CREDENTIALS = f"alice:{PASSWORD}"


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("tls")
    administration.add_user(str(root / "data"), "alice", PASSWORD)
    running = Running(str(root / "data"), root / "log", tls_self_signed=True)
    assert running.url.startswith("https://")
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def certificates(secure: Running, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A directory as skopeo and podman want it."""
    directory = tmp_path_factory.mktemp("certificates")
    (directory / "ca.crt").write_bytes(Path(secure.data, "tls", "cert.pem").read_bytes())
    return str(directory)


def test_skopeo(secure: Running, certificates: str, layout: str) -> None:
    one, two = (f"docker://{secure.host}/alice/{name}:v1" for name in ("tls", "copied"))
    trust = f"--cert-dir={certificates}"
    run("skopeo", "copy", f"--dest-cert-dir={certificates}", f"--dest-creds={CREDENTIALS}", f"oci:{layout}", one)
    run(
        "skopeo",
        "copy",
        f"--src-cert-dir={certificates}",
        f"--dest-cert-dir={certificates}",
        f"--src-creds={CREDENTIALS}",
        f"--dest-creds={CREDENTIALS}",
        one,
        two,
    )
    digests = [json.loads(run("skopeo", "inspect", trust, name))["Digest"] for name in (one, two)]
    assert digests[0] == digests[1]
    assert json.loads(run("skopeo", "list-tags", trust, two[: -len(":v1")]))["Tags"] == ["v1"]
    assert "UNAUTHORIZED" in run("skopeo", "delete", trust, two, fails=True)
    run("skopeo", "delete", trust, f"--creds={CREDENTIALS}", two)
    assert "manifest unknown" in run("skopeo", "inspect", trust, two, fails=True)
    assert "certificate" in run("skopeo", "inspect", one, fails=True)


def test_podman(secure: Running, certificates: str, layout: str, tmp_path: Path) -> None:
    storage = ("--root", f"{tmp_path}/p", "--runroot", f"/tmp/hub-tls-{os.getpid()}", "--storage-driver=vfs")
    name = f"{secure.host}/alice/podman:latest"
    secured = (f"--cert-dir={certificates}", f"--creds={CREDENTIALS}")
    image = run("podman", *storage, "pull", "-q", f"oci:{layout}").split()[-1]
    run("podman", *storage, "push", *secured, image, f"docker://{name}")
    run("podman", *storage, "rmi", "--all", "--force")
    assert run("podman", *storage, "pull", "-q", *secured, name).split()[-1] == image


def test_a_token_comes_from_the_same_address(secure: Running) -> None:
    trusted = ssl.create_default_context(cafile=os.path.join(secure.data, "tls", "cert.pem"))
    with httpx.Client(base_url=secure.url, verify=trusted) as client:
        challenge = client.get("/v2/").headers["www-authenticate"]
        assert f'realm="{secure.url}/auth/token"' in challenge
        query = {"service": "moldar-hub", "scope": "repository:alice/x:pull,push"}
        token = client.get("/auth/token", params=query, auth=("alice", PASSWORD)).json()["token"]
        assert client.get("/v2/", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    with Client(secure.url) as client, pytest.raises(httpx.ConnectError, match="self-signed"):
        client.get("/v2/")


def test_the_certificate_is_kept_while_it_will_do(tmp_path: Path) -> None:
    directory = str(tmp_path / "tls")
    certificate, key = (Path(path) for path in self_signed(directory, ("localhost", "127.0.0.1")))
    assert key.stat().st_mode & 0o777 == 0o600
    first = certificate.read_bytes()
    self_signed(directory, ("localhost",))
    assert certificate.read_bytes() == first
    self_signed(directory, ("localhost", "hub.example.org"))
    second = certificate.read_bytes()
    assert second != first
    key.unlink()
    self_signed(directory, ("localhost",))
    assert certificate.read_bytes() != second


def test_unusable_certificates(tmp_path: Path) -> None:
    good, key = self_signed(str(tmp_path / "one"), ("localhost",))
    _, other = self_signed(str(tmp_path / "two"), ("localhost",))
    (tmp_path / "empty").touch()
    for certificate, private in ((good, other), (good, str(tmp_path / "none")), (str(tmp_path / "empty"), key)):
        with pytest.raises(HostTrouble, match="cannot use the certificate"):
            serve(HubSettings(str(tmp_path / "data"), port=0, tls_certificate=certificate, tls_key=private))
    with pytest.raises(UserMistake):
        HubSettings(str(tmp_path), tls_certificate=good)
    with pytest.raises(UserMistake):
        HubSettings(str(tmp_path), tls_certificate=good, tls_key=key, tls_self_signed=True)


def test_a_certificate_of_ones_own(tmp_path: Path) -> None:
    certificate, key = self_signed(str(tmp_path / "own"), ("127.0.0.1",))
    running = Running(str(tmp_path / "data"), tmp_path / "log", tls_certificate=certificate, tls_key=key)
    with httpx.Client(base_url=running.url, verify=ssl.create_default_context(cafile=certificate)) as client:
        assert client.get("/v2/").status_code == 401
    assert running.stop() == 0
