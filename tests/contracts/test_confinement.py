"""What keeps a container in: of every runtime, because a hostile image must not get out of any."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.contracts.conftest import ENV, Sandbox
from tests.contracts.machine_code import write_call

from moldar.errors import MoldarError
from moldar.sandbox.confinement import MASKED_PATHS
from moldar.sandbox.mounts import mount, unmount
from moldar.sandbox.runtime import Streams
from moldar.sandbox.spec import BindMount, ProcessSpec, TmpfsMount, User

ROOT = User()
AF_INET, AF_VSOCK, STREAM = 2, 40, 1
NEWUSER, NEWNS = 0x10000000, 0x00020000
REFUSED = {
    "unshare": (NEWUSER,),
    "setns": (0, 0),
    "mount": (0, 0, 0, 0, 0),
    "umount2": (0, 0),
    "pivot_root": (0, 0),
    "keyctl": (0, 0, 0),
    "add_key": (0, 0, 0, 0, 0),
    "bpf": (0, 0, 0),
    "open_by_handle_at": (0, 0, 0),
    "io_uring_setup": (1, 0),
    "clone": (NEWNS | 17, 0, 0, 0, 0),
    "socket": (AF_VSOCK, STREAM, 0),
}
"""Calls with arguments; each must fail with EPERM (1) and not by what is wrong with its arguments."""


def status_of(sandbox: Sandbox, user: User = ROOT, **members: object) -> dict[str, str]:
    process = ProcessSpec(("cat", "/proc/self/status"), ENV, user=user)
    code, out, err = sandbox.run(process=process, **members)
    assert code == 0, err
    return dict(line.split(":\t", 1) for line in out.splitlines())


@contextmanager
def running(sandbox: Sandbox, *args: str, **members: object) -> Iterator[tuple[str, int, str]]:
    """A container that runs: its identity, pid and bundle."""
    directory, identity = sandbox.bundle(*args, **members)
    streams = Streams(sandbox.nothing, sandbox.nothing, sandbox.nothing)
    pid = sandbox.runtime.create(directory, identity, streams)
    try:
        sandbox.runtime.start(identity)
        yield identity, pid, directory
    finally:
        sandbox.runtime.delete(identity)


@pytest.mark.parametrize(
    "leads", ["/{outside}/there", "/{outside}/new", "../../../../../../../{outside}/new", "/new/x"]
)
def test_links_of_the_image_lead_no_mount_out(sandbox: Sandbox, tmp_path: Path, leads: str) -> None:
    """The target of a mount is a link to a path of the host, which exists there or does not."""
    outside = tmp_path / "outside"
    (outside / "there").mkdir(parents=True)
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "file").write_text("shared")
    (sandbox.root / "link").symlink_to(leads.format(outside=str(outside).lstrip("/")))
    mounts = (BindMount(str(shared), "/link"), TmpfsMount("/link/inner"))
    try:
        assert sandbox.shell("cat /link/file", mounts=mounts) == "shared"
    except MoldarError:
        pass  # it may be refused
    assert [path.name for path in outside.iterdir()] == ["there"]
    assert list((outside / "there").iterdir()) == []


def test_a_link_in_the_place_of_proc(sandbox: Sandbox) -> None:
    (sandbox.root / "proc").rmdir()
    (sandbox.root / "proc").symlink_to("/www")
    with pytest.raises(MoldarError):
        sandbox.run("true")


def test_the_old_root_is_gone(sandbox: Sandbox, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    marker.write_text("of the host")
    script = (
        f"cd /..; ls; ls /proc/1/root/; for p in / /proc/1/root /proc/self/cwd /..; do cat $p{marker} && exit 9; done"
    )
    code, out, _ = sandbox.run("sh", "-c", script + "; true")
    assert code == 0
    names = out.splitlines()
    assert names[: len(names) // 2] == names[len(names) // 2 :] == sorted(set(os.listdir(sandbox.root)))
    points = {line.split()[4] for line in sandbox.shell("cat /proc/self/mountinfo").splitlines()}
    assert {point.split("/")[1] for point in points} <= {"", "proc", "dev", "sys", "etc"}


def test_masked_paths_show_nothing(sandbox: Sandbox) -> None:
    paths = [path for path in MASKED_PATHS if os.path.exists(path)]
    assert "/proc/keys" in paths
    script = "".join(f"if [ -d {path} ]; then ls -A {path}; else cat {path}; fi; " for path in paths)
    assert sandbox.shell(script) == ""
    assert sandbox.run("sh", "-c", "echo x > /proc/sys/kernel/domainname")[0] != 0
    assert sandbox.run("touch", "/sys/x")[0] != 0


def test_capability_sets(sandbox: Sandbox) -> None:
    root = status_of(sandbox)
    usual = "00000000a80425fb"
    assert [root[f"Cap{name}"] for name in ("Prm", "Eff", "Bnd", "Inh", "Amb")] == [usual] * 3 + ["0" * 16] * 2
    web = status_of(sandbox, User(33, 34))
    assert [web[f"Cap{name}"] for name in ("Bnd", "Prm", "Eff", "Inh", "Amb")] == [usual] + ["0" * 16] * 4
    assert web["Uid"].split() == ["33"] * 4
    assert web["Gid"].split() == ["34"] * 4
    assert web["Groups"].strip() == ""
    less = status_of(sandbox, capabilities_added=("NET_ADMIN",), capabilities_dropped=("ALL",))
    assert less["CapEff"] == less["CapBnd"] == f"{1 << 12:016x}"


def test_refused_system_calls(sandbox: Sandbox) -> None:
    for name, arguments in REFUSED.items():
        write_call(sandbox.root / f"call-{name}", name, *arguments)
    write_call(sandbox.root / "call-clone3", "clone3", 0, 0)
    write_call(sandbox.root / "call-inet", "socket", AF_INET, STREAM, 0)
    write_call(sandbox.root / "call-getpid", "getpid")
    out = sandbox.shell("for p in /call-*; do $p; echo $p $?; done")
    found = dict(line.rsplit(" ", 1) for line in out.splitlines())
    assert found.pop("/call-clone3") == "38", "so that libc falls back to clone"
    assert found.pop("/call-inet") == found.pop("/call-getpid") == "0"
    assert set(found.values()) == {"1"}, found
    assert len(found) == len(REFUSED)


@pytest.mark.parametrize("told", [False, True])
def test_new_privileges_as_told(sandbox: Sandbox, told: bool) -> None:
    directory, identity = sandbox.bundle("cat", "/proc/self/status")
    config = json.loads(Path(directory, "config.json").read_text())
    config["process"]["noNewPrivileges"] = told
    Path(directory, "config.json").write_text(json.dumps(config))
    with open(sandbox.work / "out", "w+b") as out:
        streams = Streams(sandbox.nothing, out.fileno(), sandbox.nothing)
        assert sandbox.runtime.run(directory, identity, streams) == 0
    text = (sandbox.work / "out").read_text()
    assert f"NoNewPrivs:\t{int(told)}" in text
    assert "Seccomp:\t2" in text


def test_no_descriptors_are_inherited(sandbox: Sandbox, tmp_path: Path) -> None:
    secret = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(secret, True)
    try:
        assert sandbox.shell("ls /proc/$$/fd; true").split() == ["0", "1", "2"]
        with running(sandbox, "sleep", "60") as (identity, _, work):
            with open(tmp_path / "out", "w+b") as out:
                streams = Streams(sandbox.nothing, out.fileno(), sandbox.nothing)
                process = ProcessSpec(("sh", "-c", "ls /proc/$$/fd; true"), ENV)
                assert sandbox.runtime.execute(identity, process, streams, work=work) == 0
            assert (tmp_path / "out").read_text().split() == ["0", "1", "2"]
    finally:
        os.close(secret)


def test_a_working_directory_by_descriptor(sandbox: Sandbox, tmp_path: Path) -> None:
    """It may not be one that the runtime has open (CVE-2024-21626)."""
    for number in range(3, 10):
        process = ProcessSpec(("cat", f"../../../../../../..{tmp_path}/marker"), ENV, f"/proc/self/fd/{number}")
        (tmp_path / "marker").write_text("of the host")
        try:
            code, out, _ = sandbox.run(process=process)
        except MoldarError:
            continue
        assert code != 0
        assert out == ""


def test_processes_in_a_container_are_confined_alike(sandbox: Sandbox, tmp_path: Path) -> None:
    with running(sandbox, "sleep", "60") as (identity, pid, work), open(tmp_path / "out", "w+b") as out:
        streams = Streams(sandbox.nothing, out.fileno(), sandbox.nothing)
        process = ProcessSpec(("sh", "-c", "cat /proc/self/status; hostname; cat /proc/1/comm; ls /"), ENV)
        allowed = ("CAP_CHOWN", "CAP_KILL")
        assert sandbox.runtime.execute(identity, process, streams, work=work, allowed=allowed) == 0
        out.seek(0)
        text = out.read().decode()
        for kind in ("pid", "mnt", "ipc", "uts", "net"):
            ours, theirs = os.stat(f"/proc/self/ns/{kind}").st_ino, os.stat(f"/proc/{pid}/ns/{kind}").st_ino
            assert (ours == theirs) == (kind == "net"), kind
    assert "Seccomp:\t2" in text
    assert f"CapEff:\t{1 << 0 | 1 << 5:016x}" in text
    assert "\nbox\nsleep\n" in text
    assert text.split("\nsleep\n")[1].split() == sorted(os.listdir(sandbox.root))


def test_a_detached_process_in_a_container(sandbox: Sandbox) -> None:
    with running(sandbox, "sleep", "60") as (identity, pid, work):
        streams = Streams(sandbox.nothing, sandbox.nothing, sandbox.nothing)
        process = ProcessSpec(("sh", "-c", "touch /made; exec sleep 60"), ENV)
        assert sandbox.runtime.execute(identity, process, streams, work=work, detach=True) == 0
        deadline = time.monotonic() + 10
        while not (sandbox.root / "made").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert not os.path.exists(f"/proc/{pid}/root/made")


def test_a_terminal_by_a_socket(sandbox: Sandbox, tmp_path: Path) -> None:
    process = ProcessSpec(("sh", "-c", "tty; test -c /dev/console && read line; echo got $line"), ENV, terminal=True)
    directory, identity = sandbox.bundle(process=process)
    path = str(tmp_path / "console")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(path)
        server.listen(1)
        server.settimeout(10)
        streams = Streams(sandbox.nothing, sandbox.nothing, sandbox.nothing)
        sandbox.runtime.create(directory, identity, streams, path)
        try:
            connection, _ = server.accept()
            with connection:
                master = socket.recv_fds(connection, 4096, 1)[1][0]
            sandbox.runtime.start(identity)
            os.write(master, b"hello\n")
            text = b""
            while b"got hello" not in text:
                text += os.read(master, 4096)
            assert b"/dev/pts/0\r\n" in text
            os.close(master)
        finally:
            sandbox.runtime.delete(identity)


def test_signals_and_exit_codes(sandbox: Sandbox) -> None:
    assert sandbox.run("sh", "-c", "kill -TERM $$; exit 4")[0] == 4, "the first process ignores it, as ever"
    assert sandbox.run("sh", "-c", "sh -c 'kill -TERM $$'; exit $?")[0] == 128 + signal.SIGTERM
    ignored = int(status_of(sandbox)["SigIgn"], 16)
    assert not ignored & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGINT - 1 | 1 << signal.SIGXFSZ - 1)


def test_kernel_parameters_and_umask(sandbox: Sandbox) -> None:
    sysctls = (("net.ipv4.ip_unprivileged_port_start", "77"),)
    script = "umask; cat /proc/sys/net/ipv4/ip_unprivileged_port_start"
    assert sandbox.shell(script, network="none", sysctls=sysctls) == "0022\n77"


def test_what_is_mounted_below_a_read_only_directory_is_so_too(sandbox: Sandbox, tmp_path: Path) -> None:
    below = tmp_path / "shown/below"
    below.mkdir(parents=True)
    mount("tmpfs", str(below), "tmpfs")
    try:
        code, _, said = sandbox.run("touch", "/shown/below/x", mounts=(BindMount(str(below.parent), "/shown", True),))
        assert code == 1 and "Read-only file system" in said
        assert sandbox.shell("touch /shown/below/y && echo made", mounts=(BindMount(str(below.parent), "/shown"),))
    finally:
        unmount(str(below))
