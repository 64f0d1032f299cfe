"""What every runtime must do, by crun, by runc and by our own isolation."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.contracts.conftest import ENV, Sandbox

from moldar.sandbox.runtime import CannotStart, RuntimeTrouble, Streams
from moldar.sandbox.spec import BindMount, Limit, ProcessSpec, Resources, TmpfsMount, User


def test_output_and_exit_code(sandbox: Sandbox) -> None:
    assert sandbox.run("sh", "-c", "echo out; echo err >&2; exit 7") == (7, "out\n", "err\n")


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("nope",), 127, "executable file not found"),
        (("/nope",), 127, "no such file"),
        (("/plain",), 126, "permission denied"),
        (("/bin",), 126, "is a directory"),
        (("/garbage",), 126, "exec format error"),
        (("/badscript",), 127, "interpreter '/missing'"),
    ],
)
def test_what_cannot_be_executed(sandbox: Sandbox, args: tuple[str, ...], code: int, message: str) -> None:
    (sandbox.root / "plain").write_text("#!/bin/sh\n")
    for name, text in (("garbage", "garbage\n"), ("badscript", "#!/missing\n")):
        (sandbox.root / name).write_text(text)
        (sandbox.root / name).chmod(0o755)
    with pytest.raises(CannotStart, match=message) as caught:
        sandbox.run(*args)
    assert caught.value.exit_code == code


def test_the_runtimes_own_trouble(sandbox: Sandbox) -> None:
    with pytest.raises(RuntimeTrouble) as caught:
        sandbox.run("true", mounts=(BindMount("/nowhere/at/all", "/mnt"),))
    assert caught.value.exit_code == 125


def test_environment_directory_and_user(sandbox: Sandbox) -> None:
    process = ProcessSpec(("sh", "-c", "id; pwd; echo $X"), (*ENV, "X=a b"), "/www", User(33, 34, (44,)))
    lines = sandbox.run(process=process)[1].splitlines()
    assert lines == ["uid=33(web) gid=34(web) groups=44(extra)", "/www", "a b"]


def test_it_is_confined(sandbox: Sandbox) -> None:
    status = sandbox.shell("cat /proc/self/status")
    assert "CapEff:\t00000000a80425fb" in status
    assert "Seccomp:\t2" in status
    assert sandbox.run("sh", "-c", "echo 1 > /proc/sysrq-trigger")[0] != 0
    assert sandbox.shell("cat /proc/keys | wc -c") == "0"
    assert "permission denied" in sandbox.run("sh", "-c", "/bin/busybox mount -t tmpfs x /tmp")[2]
    assert sandbox.run("/bin/busybox", "unshare", "-n", "true")[0] != 0


def test_devices_of_the_host_are_out_of_reach(sandbox: Sandbox) -> None:
    """A node can be made, as in Docker, but a disk cannot be read through it."""
    major, minor = (
        (int(word) for word in Path("/sys/class/block/vda/dev").read_text().split(":"))
        if os.path.exists("/sys/class/block/vda/dev")
        else (7, 0)
    )
    script = f"/bin/busybox mknod /tmp/disk b {major} {minor} && cat /tmp/disk | /bin/busybox head -c 1"
    _, _, err = sandbox.run("sh", "-c", script)
    assert "not permitted" in err or "ermission denied" in err


def test_privileged_is_not_confined(sandbox: Sandbox) -> None:
    status = sandbox.shell("cat /proc/self/status", privileged=True)
    assert "Seccomp:\t0" in status
    effective = int(status.split("CapEff:\t")[1].split()[0], 16)
    assert effective == int(Path("/proc/self/status").read_text().split("CapBnd:\t")[1].split()[0], 16)


def test_etc_files_hostname_and_shm(sandbox: Sandbox) -> None:
    assert sandbox.shell("hostname") == "box"
    text = sandbox.shell("cat /etc/hosts", hosts=(("db", "10.1.2.3"),))
    assert "127.0.0.1\tlocalhost" in text
    assert "10.1.2.3\tdb" in text
    assert "nameserver" in sandbox.shell("cat /etc/resolv.conf")
    assert "size=32768k" in sandbox.shell("cat /proc/mounts | while read l; do echo $l; done", shm_size=32 << 20)


def test_mounts(sandbox: Sandbox, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    (shared / "inner").mkdir(parents=True)
    (shared / "inner/file").write_text("content")
    mounts = (
        BindMount(str(shared / "inner/file"), "/new/place/file", readonly=True),
        BindMount(str(shared), "/shared"),
        TmpfsMount("/scratch", 1 << 20, 0o700, 33, 34),
    )
    script = "cat /new/place/file; echo x > /shared/made; touch /new/place/file || echo refused; ls -ldn /scratch"
    out = sandbox.shell(script, mounts=mounts)
    assert "content" in out
    assert "refused" in out
    assert "drwx------" in out
    assert " 33 " in out
    assert (shared / "made").read_text() == "x\n"


def test_networks(sandbox: Sandbox) -> None:
    def cards(network: str) -> set[str]:
        out = sandbox.shell("cat /proc/net/dev", network=network)
        return {line.split(":")[0].strip() for line in out.splitlines() if ":" in line}

    assert cards("none") == {"lo"}
    assert cards("host") == set(os.listdir("/sys/class/net")) - {"bonding_masters"}


def test_limits_never_exceed_the_hosts(sandbox: Sandbox) -> None:
    limits = (Limit("nofile", 1024, 1 << 30), Limit("core", 0, 0))
    assert sandbox.shell("ulimit -n; ulimit -c", limits=limits) == "1024\n0"


def test_read_only_root(sandbox: Sandbox) -> None:
    code, _, err = sandbox.run("touch", "/file", readonly=True)
    assert code == 1
    assert "Read-only" in err


def test_memory_limit(sandbox: Sandbox) -> None:
    if not sandbox.runtime.features.cgroups:
        pytest.fail("cgroups do not work here")
    code, _, _ = sandbox.run(
        "sh",
        "-c",
        "x=$(/bin/busybox head -c 50000000 /dev/zero | /bin/busybox tr '\\0' x); echo ${#x}",
        resources=Resources(memory=20 << 20, memory_swap=20 << 20),
    )
    assert code != 0


class Canceller:
    def __init__(self) -> None:
        self.callback: Callable[[], None] | None = None

    def attach(self, callback: Callable[[], None]) -> None:
        self.callback = callback

    def detach(self, callback: Callable[[], None]) -> None:
        self.callback = None


@pytest.mark.parametrize("delay", [0.0, 0.3])
def test_cancelling_kills_at_any_moment(sandbox: Sandbox, delay: float) -> None:
    canceller = Canceller()

    def cancel() -> None:
        while canceller.callback is None:
            time.sleep(0.001)
        time.sleep(delay)
        if canceller.callback:
            canceller.callback()

    thread = threading.Thread(target=cancel)
    thread.start()
    started = time.monotonic()
    code, _, _ = sandbox.run("sleep", "60", canceller=canceller)
    thread.join()
    assert code != 0
    assert time.monotonic() - started < 10


def test_create_start_state_kill_delete(sandbox: Sandbox, nothing: int) -> None:
    runtime = sandbox.runtime
    directory, identity = sandbox.bundle("sleep", "60")
    assert runtime.state(identity) is None
    pid = runtime.create(directory, identity, Streams(nothing, nothing, nothing))
    try:
        state = runtime.state(identity)
        assert state
        assert state == ("created", pid)
        runtime.start(identity)
        state = runtime.state(identity)
        assert state
        assert state.status == "running"
        runtime.kill(identity, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while (state := runtime.state(identity)) and state.status != "stopped" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert state
        assert state.status == "stopped"
    finally:
        runtime.delete(identity)
    runtime.delete(identity)
    assert runtime.state(identity) is None


def test_execute(sandbox: Sandbox, nothing: int, tmp_path: Path) -> None:
    runtime = sandbox.runtime
    directory, identity = sandbox.bundle("sleep", "60")
    pid = runtime.create(directory, identity, Streams(nothing, nothing, nothing))
    runtime.start(identity)
    try:
        root = f"/proc/{pid}/root"
        with open(tmp_path / "out", "w+b") as out:
            process = ProcessSpec(("sh", "-c", "id -u; pwd; exit 5"), ENV, "/www", User(33, 34))
            streams = Streams(nothing, out.fileno(), nothing)
            assert runtime.execute(identity, process, streams, work=directory, root=root) == 5
            out.seek(0)
            assert out.read() == b"33\n/www\n"
        with pytest.raises(CannotStart) as caught:
            runtime.execute(identity, ProcessSpec(("nope",), ENV), streams, work=directory, root=root)
        assert caught.value.exit_code == 127
    finally:
        runtime.delete(identity)


def test_a_killed_builder_leaves_what_sweep_ends(sandbox: Sandbox, tmp_path: Path) -> None:
    directory, identity = sandbox.bundle("sleep", "60")
    script = (
        "import os, sys\n"
        "from moldar.sandbox.choosing import choose_runtime\n"
        "from moldar.sandbox.runtime import Streams\n"
        "null = os.open('/dev/null', os.O_RDWR)\n"
        "choose_runtime(sys.argv[1], sys.argv[2]).run(sys.argv[3], sys.argv[4], Streams(null, null, null))\n"
    )
    runtime = sandbox.runtime
    arguments = [str(tmp_path / "run"), runtime.name, directory, identity]
    with subprocess.Popen([sys.executable, "-c", script, *arguments]) as child:
        deadline = time.monotonic() + 10
        while (state := runtime.state(identity)) is None or state.status != "running":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert runtime.sweep() == []
        child.kill()
    assert runtime.sweep() == [identity]
    assert runtime.state(identity) is None
    assert not os.path.exists(f"/proc/{state.pid}/root/bin")
