"""What `ps`, `inspect`, `images`, `system df`, `info`, `version` show, and the flags of `run` that change it."""

import json
from typing import Any

import pytest

House = Any
Moldar = Any


def test_ps_shows_what_docker_shows(house: House, moldar: Moldar) -> None:
    house.create("true", name="first", labels=(("tier", "db"),))
    house.create("true", name="second", volumes=("data:/data", "/cache"), network="none")
    assert moldar("ps", "-a", "--format", '{{.Names}} {{.Label "tier"}}').splitlines() == ["second ", "first db"]
    line = json.loads(moldar("ps", "-l", "--format", "json"))
    assert json.loads(moldar("ps", "-l", "--format", "{{json .}}")) == line
    assert line["LocalVolumes"] == "2"
    assert line["Networks"] == "none"
    assert line["Mounts"].startswith("data,")
    assert line["CreatedAt"].startswith("20")
    assert line["CreatedAt"].count(":") == 2
    assert moldar("ps", "-as").splitlines()[0].endswith("SIZE")
    assert "(virtual " in moldar("ps", "-a", "--format", "{{.Size}}")
    assert moldar("ps", "-a", "--filter", "before=second", "--format", "{{.Names}}") == "first\n"
    assert moldar("ps", "-a", "--filter", "since=first", "--format", "{{.Names}}") == "second\n"
    assert json.loads(moldar("inspect", "-s", "first"))[0]["SizeRw"] >= 0


def test_an_address_is_found_where_docker_has_it(house: House, moldar: Moldar) -> None:
    house.start("sleep", "60", name="box", volumes=("data:/data:ro",))
    address = house.containers.view("box").status.address
    template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    assert moldar("inspect", "-f", template, "box") == f"{address}\n"
    assert moldar("inspect", "-f", "{{json .HostConfig.Binds}}", "box") == '["data:/data:ro"]\n'
    assert moldar("inspect", "-f", "{{range .Mounts}}{{.Mode}} {{.Driver}}{{end}}", "box") == "ro local\n"


def test_flags_of_run(house: House, moldar: Moldar, busybox: str, tmp_path: Any) -> None:
    (tmp_path / "labels").write_text("# none\ntier=db\n")
    moldar(
        "create", "--name", "box", "--ulimit", "nofile=64:128", "--group-add", "44", "--expose", "9000",
        "--net", "none", "--device", "/dev/full:/dev/brim", "--pids-limit", "99", "--memory-swap", "-1",
        "--label-file", tmp_path / "labels", "--sysctl", "net.ipv4.ip_forward=1", "-v", "/cache", busybox, "sh", "-c",
        "ulimit -n; id; cat /proc/sys/net/ipv4/ip_forward; ls /dev/brim; echo x > /cache/x",
    )  # fmt: skip
    out = moldar("start", "-a", "box").splitlines()
    assert out[0] == "64"
    assert "44" in out[1]
    assert out[2:] == ["1", "/dev/brim"]
    document = json.loads(moldar("inspect", "box"))[0]
    assert document["HostConfig"]["PidsLimit"] == 99
    assert document["Config"]["Labels"]["tier"] == "db"
    assert "9000/tcp" in document["Config"]["ExposedPorts"]
    assert moldar("run", "--rm", "--volumes-from", "box", busybox, "cat", "/cache/x") == "x\n"
    assert "Read-only" in moldar.run("run", "--rm", "--volumes-from", "box:ro", busybox, "touch", "/cache/y").err
    moldar("create", "--name", "heir", "--volumes-from", "box", busybox, "cat", "/cache/x")
    moldar("rm", "-v", "box")
    assert moldar("start", "-a", "heir") == "x\n", "a volume that another container has stays"
    assert "expected a number" in moldar.fails("run", "--cpus", "many", busybox, code=125)
    assert "expected name=value" in moldar.fails("run", "--sysctl", "x", busybox, code=125)
    assert "no such container" in moldar.fails("run", "--volumes-from", "nope", busybox, code=125)


def test_images_are_filtered_and_pruned(house: House, moldar: Moldar, busybox: str, tmp_path: Any) -> None:
    (tmp_path / "fs.tar").write_bytes(bytes(10240))
    for name, label in (("one", "tier=db"), ("two", "tier=web"), ("three", "other=1")):
        moldar("import", "-c", f"LABEL {label} made=here", tmp_path / "fs.tar", name)
    names = ("images", "--format", "{{.Repository}}", "--filter")
    assert moldar(*names, "label=tier=db").split() == ["one"]
    assert sorted(moldar(*names, "label=tier", "--filter", "label=made").split()) == ["one", "two"]
    assert sorted(moldar(*names, "reference=one", "--filter", "reference=t*").split()) == ["one", "three", "two"]
    assert moldar(*names, "since=two").split() == ["three"]
    assert moldar(*names, "until=2026-06-01T00:00:00Z").split() == [busybox]
    assert "invalid filter" in moldar.fails(*names, "colour=red")
    line = json.loads(moldar("images", "--format", "json", "one"))
    assert {
        "Containers",
        "CreatedAt",
        "CreatedSince",
        "Digest",
        "ID",
        "SharedSize",
        "Size",
        "UniqueSize",
    } <= line.keys()
    pruned = moldar("image", "prune", "-af", "--filter", "until=24h")
    assert pruned.startswith("Deleted Images:\nuntagged: busybox:latest\ndeleted: sha256:")
    assert sorted(moldar("images", "--format", "{{.Repository}}").split()) == ["one", "three", "two"]
    moldar("image", "prune", "-af", "--filter", "label!=tier")
    assert sorted(moldar("images", "--format", "{{.Repository}}").split()) == ["one", "two"]
    moldar("create", "--name", "kept", "two", "true")
    assert "not supported" in moldar.fails("system", "prune", "-f", "--volumes", "--filter", "until=1h")
    moldar("system", "prune", "-af", "--filter", "label=tier=db")
    assert moldar("images", "--format", "{{.Repository}}").split() == ["two"]
    assert moldar("ps", "-a", "--format", "{{.Names}}") == "kept\n"
    assert moldar("builder", "prune", "-f", "--filter", "until=1h").startswith("Total:")


def test_system_df_in_detail(house: House, moldar: Moldar, busybox: str) -> None:
    moldar("create", "--name", "box", "-v", "data:/data", busybox, "true")
    text = moldar("system", "df", "-v")
    for heading in ("Images space usage:", "Containers space usage:", "Local Volumes space usage:", "UNIQUE SIZE"):
        assert heading in text
    assert [line.split()[:2] for line in text.splitlines() if line.startswith("data")] == [["data", "1"]]
    assert "conflict" in moldar.fails("system", "df", "-v", "--format", "json")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("info", "-f", "{{.OSType}} {{.Containers}} {{.ContainersPaused}}"), "linux 1 0"),
        (("version", "--format", "{{.Server.Os}}/{{.Client.Os}}"), "linux/linux"),
    ],
    ids=["info", "version"],
)
def test_facts_have_dockers_names(house: House, moldar: Moldar, words: tuple[str, ...], expected: str) -> None:
    house.create("true")
    assert moldar(*words).strip() == expected


def test_networks(house: House, moldar: Moldar) -> None:
    identity = house.start("sleep", "60", name="box")
    assert [line.split()[1:] for line in moldar("network", "ls").splitlines()[1:]] == [
        ["bridge", "bridge", "local"],
        ["host", "host", "local"],
        ["none", "null", "local"],
    ]
    short = moldar("network", "ls", "-q", "--filter", "name=brid").strip()
    (document,) = json.loads(moldar("network", "inspect", short))
    assert document["Containers"][identity]["IPv4Address"] == house.containers.view("box").status.address
    assert moldar("inspect", "--type", "network", "-f", "{{.Driver}}", "none") == "null\n"
    assert "network mine not found" in moldar.fails("network", "inspect", "mine")
    assert "invalid filter" in moldar.fails("network", "ls", "--filter", "colour=red")
