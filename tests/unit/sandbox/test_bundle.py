import json
import os
import resource
from pathlib import Path

import pytest

from moldar.errors import UserMistake
from moldar.sandbox.bundle import Features, clamped_limits, configuration, mount_targets, write_bundle
from moldar.sandbox.confinement import capabilities, held_capabilities, seccomp_profile
from moldar.sandbox.etcfiles import hosts_file, resolv_conf
from moldar.sandbox.spec import BindMount, Device, Limit, ProcessSpec, Resources, SandboxSpec, TmpfsMount, User


def spec(**members: object) -> SandboxSpec:
    return SandboxSpec("/root-fs", ProcessSpec(("true",)))._replace(**members)


def config(**members: object) -> dict:  # type: ignore[type-arg]
    return configuration("/bundle", spec(**members), "id", Features())


def test_etc_files_are_written_once(tmp_path: Path) -> None:
    directory = str(tmp_path / "bundle")
    write_bundle(directory, spec(hostname="one", etc=("hostname", "hosts")), "id", Features())
    (tmp_path / "bundle/hosts").write_text("changed by the container")
    write_bundle(directory, spec(hostname="two", etc=("hostname", "hosts")), "id", Features())
    assert (tmp_path / "bundle/hosts").read_text() == "changed by the container"
    assert (tmp_path / "bundle/hostname").read_text() == "one\n"
    assert json.loads((tmp_path / "bundle/config.json").read_text())["hostname"] == "two"


def test_names_that_are_no_text_survive(tmp_path: Path) -> None:
    name = os.fsdecode(b"/\xff")
    write_bundle(str(tmp_path), spec(mounts=(BindMount("/tmp", name),)), "id", Features())
    assert b"\xff" in (tmp_path / "config.json").read_bytes()


def test_namespaces() -> None:
    def kinds(network: str) -> dict[str, str]:
        return {item["type"]: item.get("path", "") for item in config(network=network)["linux"]["namespaces"]}

    assert "network" not in kinds("host")
    assert kinds("none")["network"] == ""
    assert kinds("/run/netns/x")["network"] == "/run/netns/x"


def test_mounts_come_parents_first_and_replace_ours() -> None:
    mounts = (TmpfsMount("/a/b/c"), BindMount("/x", "/a"), TmpfsMount("/dev/shm", 5))
    targets = [mount["destination"] for mount in config(mounts=mounts)["mounts"]]
    assert targets.index("/a") < targets.index("/a/b/c")
    assert targets.count("/dev/shm") == 1


def test_mount_targets_list_all() -> None:
    assert set(mount_targets(spec(mounts=(TmpfsMount("/x"),)))) == {
        "/proc", "/dev", "/sys", "/etc/hosts", "/etc/resolv.conf", "/x",
    }  # fmt: skip


def test_resources_and_no_cgroups() -> None:
    limited = spec(resources=Resources(1 << 20, 0, 0.5, 10))
    resources = configuration("/b", limited, "id", Features())["linux"]["resources"]
    assert resources["memory"] == {"limit": 1 << 20}
    assert resources["cpu"] == {"period": 100_000, "quota": 50_000}
    assert resources["pids"] == {"limit": 10}
    assert "resources" not in configuration("/b", limited, "id", Features(cgroups=False))["linux"]


@pytest.mark.parametrize(
    ("parent", "path"),
    [("", "/moldar/id"), ("/a/b", "/a/b/id"), ("a", "/a/id"), ("/", "/id"), ("../..//a", "/a/id")],
)
def test_a_cgroup_is_below_its_parent(parent: str, path: str) -> None:
    below = spec(cgroup_parent=parent)
    assert configuration("/b", below, "id", Features())["linux"]["cgroupsPath"] == path
    assert "cgroupsPath" not in configuration("/b", below, "id", Features(cgroups=False))["linux"]


def test_only_root_gets_effective_capabilities() -> None:
    assert config()["process"]["capabilities"]["effective"]
    user = ProcessSpec(("true",), user=User(5, 5))
    assert "effective" not in config(process=user)["process"]["capabilities"]


def test_capability_rules() -> None:
    assert "CAP_NET_ADMIN" in capabilities(privileged=False, added=("net_admin",))
    assert "CAP_CHOWN" not in capabilities(privileged=False, dropped=("CHOWN",))
    assert capabilities(privileged=False, added=("CHOWN",), dropped=("ALL",)) == ("CAP_CHOWN",)
    assert set(capabilities(privileged=True)) == set(held_capabilities())
    assert set(capabilities(privileged=False, added=("all",))) == set(held_capabilities())


def test_a_capability_frees_its_system_calls() -> None:
    def denied(*allowed: str) -> set[str]:
        return {name for rule in seccomp_profile(allowed)["syscalls"] if "args" not in rule for name in rule["names"]}

    assert {"mount", "unshare", "bpf", "keyctl", "reboot"} <= denied()
    assert "mount" not in denied("CAP_SYS_ADMIN")
    assert "keyctl" in denied("CAP_SYS_ADMIN")
    assert "reboot" not in denied("CAP_SYS_BOOT")


def test_limits_are_clamped() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    (limit,) = clamped_limits([Limit("nofile", hard + 5, hard + 10)])
    assert limit == {"type": "RLIMIT_NOFILE", "soft": hard, "hard": hard}
    with pytest.raises(UserMistake, match="files"):
        clamped_limits([Limit("files", 1, 1)])


def test_devices_must_be_devices(tmp_path: Path) -> None:
    assert config(devices=(Device("/dev/null", "/dev/nil"),))["linux"]["devices"][0]["path"] == "/dev/nil"
    with pytest.raises(UserMistake, match="no device"):
        config(devices=(Device("/dev/does-not-exist", "/x"),))
    with pytest.raises(UserMistake, match="is not a device"):
        config(devices=(Device(str(tmp_path), "/x"),))


def test_hosts() -> None:
    lines = hosts_file((("db", "10.0.0.9"),), "10.0.2.100", "box").splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert lines[-2:] == ["10.0.0.9\tdb", "10.0.2.100\tbox"]


def test_resolvers(tmp_path: Path) -> None:
    etc = tmp_path / "resolv.conf"
    etc.write_text("search lan\nnameserver 127.0.0.53\nnameserver 192.0.2.53\n")
    assert resolv_conf((), own_network=False, etc=str(etc)) == etc.read_text()
    assert "127.0.0.53" not in resolv_conf((), own_network=True, etc=str(etc))
    assert resolv_conf(("1.2.3.4",), own_network=True, etc=str(etc)) == "search lan\nnameserver 1.2.3.4\n"
    assert "nameserver 8.8.8.8" in resolv_conf((), own_network=True, etc=str(tmp_path / "missing"))
