"""`diff`, `commit`, `import`: what a container changed, and images made of it or of an archive."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

House = Any
Moldar = Any

both_drivers = pytest.mark.parametrize("house", ["overlay", "copying"], indirect=True)
SCRIPT = (
    "echo new > /new; mkdir /dir; echo x > /dir/x; echo more >> /www/index.html; rm /etc/group; chmod 700 /root;"
    "rm -r /tmp; mkdir /tmp; rmdir /data/sub 2>/dev/null; true"
)


@both_drivers
def test_diff(house: House, moldar: Moldar, busybox: str) -> None:
    moldar("create", "--name", "idle", busybox, "true")
    assert moldar("diff", "idle") == ""
    moldar("run", "--name", "quiet", busybox, "true")
    assert moldar("diff", "quiet") == "", "what the runtime mounts on is no change"
    moldar("run", "--name", "box", busybox, "sh", "-c", SCRIPT)
    lines = [line for line in moldar("diff", "box").splitlines() if line != "C /tmp"]
    assert lines == [
        "A /dir",
        "A /dir/x",
        "C /etc",
        "D /etc/group",
        "A /new",
        "C /root",
        "C /www",
        "C /www/index.html",
    ]
    assert "no such container" in moldar.fails("diff", "nope")


@both_drivers
def test_deleted_and_replaced_directories(house: House, moldar: Moldar, busybox: str) -> None:
    moldar("run", "--name", "gone", busybox, "rm", "-r", "/www")
    assert moldar("diff", "gone") == "D /www\n"
    moldar("run", "--name", "again", busybox, "sh", "-c", "rm -r /www; mkdir /www; echo y > /www/new")
    assert moldar("diff", "again").splitlines() == ["C /www", "D /www/index.html", "A /www/new"]
    moldar("commit", "again", "replaced")
    assert moldar("run", "--rm", "replaced", "ls", "/www") == "new\n"


@both_drivers
@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_a_commit_is_an_image_with_one_more_layer(house: House, moldar: Moldar, busybox: str, running: bool) -> None:
    moldar(
        "create", "--name", "box", "-e", "MODE=test", "-w", "/www", "-l", "tier=web", "-v", "/cache", "-t", busybox,
        "sh", "-c", f"{SCRIPT}; sleep {60 if running else 0}",
    )  # fmt: skip
    moldar("start", "box")
    if running:
        while "A /new" not in moldar("diff", "box") or "C /root" not in moldar("diff", "box"):
            pass
    else:
        moldar("wait", "box")
    image = moldar(
        "commit", "-a", "Ada <ada@example.org>", "-m", "first", "-c", 'CMD ["cat", "/new"]',
        "-c", "ENV PATH=$PATH:/opt", "--change", "EXPOSE 8080", "box", "mine:v1",
    ).strip()  # fmt: skip
    (document,) = json.loads(moldar("image", "inspect", "mine:v1"))
    assert document["Id"] == image
    assert len(document["RootFS"]["Layers"]) == 2
    assert document["Author"] == "Ada <ada@example.org>"
    config = document["Config"]
    assert config["Cmd"] == ["cat", "/new"]
    assert config["Env"] == ["PATH=/bin:/opt", "MODE=test"], "neither HOSTNAME nor TERM"
    assert (config["WorkingDir"], config["Labels"]) == ("/www", {"tier": "web"})
    assert sorted(config["ExposedPorts"]) == ["80/tcp", "8080/tcp"]
    assert list(config["Volumes"]) == ["/cache"]
    newest = moldar("history", "--no-trunc", "--format", "{{.Comment}}|{{.CreatedBy}}", "mine:v1").splitlines()[0]
    assert newest.startswith("first|sh -c echo new")
    assert moldar("run", "--rm", "mine:v1") == "new\n"
    assert "group" not in moldar("run", "--rm", "mine:v1", "ls", "/etc").split()
    moldar("system", "check", "--quick")


def test_the_same_changes_make_the_same_image(
    house: House, moldar: Moldar, busybox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    moldar("run", "--name", "box", "-h", "box", busybox, "sh", "-c", "echo x > /x; touch -d @1000 /x /")
    assert moldar("commit", "box") == moldar("commit", "box")
    assert (
        moldar("image", "inspect", "-f", "{{.Created}}", moldar("commit", "box").strip()) == "2023-11-14T22:13:20Z\n"
    )


def test_entrypoint_and_command_stay_apart(house: House, moldar: Moldar, busybox: str) -> None:
    moldar("create", "--name", "box", "--entrypoint", "echo", busybox, "a", "b")
    moldar("commit", "box", "mine")
    assert (
        moldar("inspect", "-f", "{{json .Config.Entrypoint}} {{json .Config.Cmd}}", "mine") == '["echo"] ["a","b"]\n'
    )
    assert (
        moldar("inspect", "-f", "{{json .Config.Entrypoint}} {{json .Config.Cmd}}", "box") == '["echo"] ["a","b"]\n'
    )
    assert moldar("run", "--rm", "mine", "c") == "c\n"


def test_changes_that_are_none(house: House, moldar: Moldar, busybox: str) -> None:
    moldar("create", "--name", "box", busybox, "true")
    assert "RUN is not a valid change command" in moldar.fails("commit", "-c", "RUN true", "box")
    assert "--change" in moldar.fails("commit", "-c", "EXPOSE many", "box")
    assert "invalid" in moldar.fails("commit", "box", "Bad Name")


@both_drivers
def test_import_of_what_was_exported(house: House, moldar: Moldar, busybox: str, tmp_path: Path) -> None:
    moldar("run", "--name", "box", busybox, "sh", "-c", "echo kept > /kept")
    moldar("export", "-o", tmp_path / "fs.tar", "box")
    image = moldar("import", "-c", 'CMD ["cat", "/kept"]', tmp_path / "fs.tar", "flat:v2").strip()
    assert image.startswith("sha256:")
    assert moldar("run", "--rm", "-e", "PATH=/bin", "flat:v2") == "kept\n"
    assert f"Imported from {tmp_path}/fs.tar" in moldar("history", "flat:v2")
    again = moldar("import", "-m", "by hand", "-", stdin=(tmp_path / "fs.tar").read_bytes()).strip()
    (first,), (second,) = (json.loads(moldar("image", "inspect", each)) for each in (image, again))
    assert first["RootFS"] == second["RootFS"]
    assert "by hand" in moldar("history", again)


def test_import_takes_compressed_archives_and_refuses_others(moldar: Moldar, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "fs.tgz", "w:gz") as archive:
        member = tarfile.TarInfo("etc/motd")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"hi\n"))
    moldar("import", "--platform", "linux/arm64", tmp_path / "fs.tgz", "motd")
    assert moldar("inspect", "-f", "{{.Os}}/{{.Architecture}}", "motd") == "linux/arm64\n"
    before = moldar("images", "-q")
    assert "bad layer" in moldar.fails("import", "-", stdin=b"this is no archive" * 100)
    assert "No such file" in moldar.fails("import", tmp_path / "none.tar")
    assert moldar("images", "-q") == before
