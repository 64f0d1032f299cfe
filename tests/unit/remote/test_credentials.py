"""Docker's config.json and real helper programs."""

import base64
import json
import os
import stat
import threading
from pathlib import Path

import pytest

from moldar.errors import HostTrouble
from moldar.remote.credentials import Credential, DockerCredentials, HelperTrouble, MalformedCredentials

ALICE = Credential("alice", "pá:ss")
HELPER = """#!/bin/sh
# Keeps each secret in a file named by its server, as a credential helper must.
cd "$(dirname "$0")/kept" || exit 1
case "$1" in
store) input=$(cat); key=$(printf %s "$input" | sed 's/.*"ServerURL": "\\([^"]*\\)".*/\\1/' | tr / _)
       printf %s "$input" > "$key" ;;
get)   key=$(tr / _); [ -f "$key" ] && cat "$key" && exit 0
       echo "credentials not found in native keychain"; exit 1 ;;
erase) key=$(tr / _); rm "$key" ;;
esac
"""


def at(tmp_path: Path, document: object | None = None) -> DockerCredentials:
    path = tmp_path / "docker" / "config.json"
    if document is not None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(document))
    return DockerCredentials(str(path))


def document(tmp_path: Path) -> dict[str, object]:
    loaded: dict[str, object] = json.loads((tmp_path / "docker" / "config.json").read_text())
    return loaded


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "bin"
    (directory / "kept").mkdir(parents=True)
    program = directory / "docker-credential-filed"
    program.write_text(HELPER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return directory / "kept"


def test_nothing_known(tmp_path: Path) -> None:
    assert at(tmp_path).find("127.0.0.1:5050") is None
    assert at(tmp_path).erase("127.0.0.1:5050") is False
    assert at(tmp_path, {}).find("127.0.0.1:5050") is None


def test_login_and_logout_keep_what_others_wrote(tmp_path: Path) -> None:
    others = {"HttpHeaders": {"X": "y"}, "auths": {"r.example": {"auth": "", "extra": 1}}, "psFormat": "ñ"}
    kept = at(tmp_path, others)
    stored = kept.store("127.0.0.1:5050", ALICE)
    path = tmp_path / "docker" / "config.json"
    assert stored.place == str(path)
    assert "unencrypted" in stored.warning
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert kept.find("127.0.0.1:5050") == ALICE
    encoded = base64.b64encode("alice:pá:ss".encode()).decode()
    assert document(tmp_path) == {
        **others,
        "auths": {"r.example": {"auth": "", "extra": 1}, "127.0.0.1:5050": {"auth": encoded}},
    }
    assert kept.erase("127.0.0.1:5050")
    assert document(tmp_path) == others
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["config.json"]


def test_a_first_login_makes_a_private_file(tmp_path: Path) -> None:
    at(tmp_path).store("r.example", ALICE)
    assert stat.S_IMODE((tmp_path / "docker").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "docker" / "config.json").stat().st_mode) == 0o600


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    at(tmp_path, {})
    link = tmp_path / "config.json"
    link.symlink_to(tmp_path / "docker" / "config.json")
    DockerCredentials(str(link)).store("r.example", ALICE)
    assert link.is_symlink()
    assert "r.example" in str(document(tmp_path))


def test_docker_hub_has_a_key_of_its_own(tmp_path: Path) -> None:
    kept = at(tmp_path)
    kept.store("docker.io", ALICE)
    assert document(tmp_path)["auths"] == {
        "https://index.docker.io/v1/": {"auth": base64.b64encode("alice:pá:ss".encode()).decode()}
    }
    for host in ("docker.io", "registry-1.docker.io", "index.docker.io"):
        assert kept.find(host) == ALICE
    assert kept.erase("docker.io")
    assert kept.find("docker.io") is None


def test_entries_of_other_tools(tmp_path: Path) -> None:
    kept = at(
        tmp_path,
        {
            "auths": {
                "https://old.example/v1/": {"username": "bob", "password": "x"},
                "token.example": {"auth": base64.b64encode(b"00000000:").decode(), "identitytoken": "abc"},
                "ready.example": {"registrytoken": "r"},
                "empty.example": {},
                "old.example.evil.example": {"username": "mallory", "password": "x"},
            }
        },
    )
    assert kept.find("old.example") == Credential("bob", "x")
    assert kept.find("token.example") == Credential("00000000", "", "abc")
    assert kept.find("ready.example") == Credential(registry_token="r")
    assert kept.find("empty.example") is None
    assert kept.find("example") is None


def test_a_helper_keeps_the_secret_out_of_the_file(tmp_path: Path, helper: Path) -> None:
    kept = at(tmp_path, {"credsStore": "filed"})
    stored = kept.store("127.0.0.1:5050", Credential("alice", "secret"))
    assert stored == ("docker-credential-filed", "")
    assert document(tmp_path) == {"credsStore": "filed", "auths": {"127.0.0.1:5050": {}}}
    assert kept.find("127.0.0.1:5050") == Credential("alice", "secret")
    assert kept.erase("127.0.0.1:5050")
    assert list(helper.iterdir()) == []
    assert kept.find("127.0.0.1:5050") is None
    assert not kept.erase("127.0.0.1:5050")


def test_a_helper_for_one_host_and_identity_tokens(tmp_path: Path, helper: Path) -> None:
    kept = at(tmp_path, {"credHelpers": {"r.example": "filed"}})
    kept.store("r.example", Credential(identity_token="idt"))
    assert json.loads(next(helper.iterdir()).read_text())["Username"] == "<token>"
    assert kept.find("r.example") == Credential(identity_token="idt")
    assert kept.store("other.example", ALICE).warning


def test_helpers_that_fail_say_so(tmp_path: Path, helper: Path) -> None:
    with pytest.raises(HelperTrouble, match="docker-credential-absent: not installed"):
        at(tmp_path, {"credsStore": "absent"}).find("r.example")
    program = helper.parent / "docker-credential-filed"
    for script, words in (("echo locked; exit 3", "locked"), ("echo nonsense", "not a JSON object")):
        program.write_text(f"#!/bin/sh\ncat >/dev/null\n{script}\n")
        with pytest.raises(HelperTrouble, match=words):
            at(tmp_path, {"credsStore": "filed"}).find("r.example")
    with pytest.raises(HelperTrouble, match="slash"):
        at(tmp_path, {"credsStore": "../filed"}).find("r.example")


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"auths": []}', '{"auths": {"r.example": 3}}', '{"auths": {"r.example": {"auth": "é"}}}']
)
def test_malformed_files_are_an_error_and_stay(tmp_path: Path, text: str) -> None:
    kept = at(tmp_path, {})
    path = tmp_path / "docker" / "config.json"
    path.write_text(text)
    with pytest.raises(MalformedCredentials):
        kept.find("r.example")
    assert path.read_text() == text


def test_null_members_and_an_empty_file_are_empty(tmp_path: Path) -> None:
    kept = at(tmp_path, {"auths": None, "credHelpers": None})
    assert kept.find("r.example") is None
    assert kept.store("r.example", ALICE).warning
    (tmp_path / "docker" / "config.json").write_text("")
    assert kept.find("r.example") is None


def test_an_unwritable_place_is_host_trouble(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostTrouble):
        DockerCredentials(str(tmp_path / "file" / "config.json")).store("r.example", ALICE)


def test_logins_at_once_lose_nothing(tmp_path: Path) -> None:
    hosts = [f"r{number}.example" for number in range(12)]
    threads = [threading.Thread(target=at(tmp_path).store, args=(host, ALICE)) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [at(tmp_path).find(host) for host in hosts] == [ALICE] * len(hosts)
