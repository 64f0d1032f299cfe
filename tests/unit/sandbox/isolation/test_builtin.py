"""What our own isolation does that the contract of all runtimes does not ask for."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moldar.sandbox.bundle import Features, write_bundle
from moldar.sandbox.isolation import interpreters
from moldar.sandbox.isolation.builtin import BuiltinRuntime
from moldar.sandbox.isolation.cgroups import TREE, unified_limits
from moldar.sandbox.runtime import CannotStart, Streams
from moldar.sandbox.spec import BindMount, ProcessSpec, SandboxSpec, User

ENV = ("PATH=/bin",)
RUN = (
    "import os, sys\n"
    "from moldar.sandbox.bundle import Features\n"
    "from moldar.sandbox.isolation.builtin import BuiltinRuntime\n"
    "from moldar.sandbox.runtime import CannotStart, Streams\n"
    "state, bundle, identity, cgroups = sys.argv[1:]\n"
    "null = os.open('/dev/null', os.O_RDWR)\n"
    "try:\n"
    "    code = BuiltinRuntime(state, Features(cgroups=bool(cgroups))).run(bundle, identity, Streams(null, 1, 2))\n"
    "except CannotStart as error:\n"
    "    print(error.message)\n"
    "    code = error.exit_code\n"
    "sys.exit(code)\n"
)
LACKING = (
    "import os\n"
    "from moldar.sandbox.isolation.calls import load_filter\n"
    "from moldar.sandbox.isolation.filters import compile_filter\n"
    "rule = {'names': os.environ['LACKING'].split(), 'action': 'SCMP_ACT_ERRNO', 'errnoRet': 38}\n"
    "load_filter(compile_filter({'defaultAction': 'SCMP_ACT_ALLOW', 'syscalls': [rule]}, os.uname().machine))\n"
)


class Box:
    """Bundles over a busybox root."""

    def __init__(self, root: Path, work: Path, *, cgroups: bool = True, unified: str = "") -> None:
        self.root = root
        self.work = work
        self.state = str(work / "builtin")
        self.runtime = BuiltinRuntime(self.state, Features(cgroups, cgroup_mount=bool(unified)), unified or TREE)

    def bundle(self, script: str, user: User = User(), **members: object) -> tuple[str, str]:  # noqa: B008
        identity = f"box-{os.getpid()}-{os.urandom(4).hex()}"
        process = ProcessSpec(("sh", "-c", script), ENV, user=user)
        spec = SandboxSpec(str(self.root), process, **members)  # type: ignore[arg-type]
        write_bundle(str(self.work / identity), spec, identity, self.runtime.features)
        return str(self.work / identity), identity

    def run(self, script: str, change: Callable[[dict], None] | None = None, **members: object) -> str:  # type: ignore[type-arg]
        directory, identity = self.bundle(script, **members)  # type: ignore[arg-type]
        if change:
            config = json.loads(Path(directory, "config.json").read_text())
            change(config)
            Path(directory, "config.json").write_text(json.dumps(config))
        with open(os.devnull, "r+b") as null, open(self.work / "out", "w+b") as out:
            streams = Streams(null.fileno(), out.fileno(), out.fileno())
            code = self.runtime.run(directory, identity, streams)
        text = (self.work / "out").read_text()
        assert code == 0, text
        return text


@pytest.fixture
def box(busybox_root: Path, tmp_path: Path) -> Iterator[Box]:
    made = Box(busybox_root, tmp_path)
    yield made
    assert os.listdir(made.state) == []


def test_read_only_binds_are_so_all_the_way_down(box: Box, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    (shared / "below").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "below", shared / "below"], check=True)
    try:
        (shared / "below/file").touch()
        script = "for p in /s/x /s/below/x; do touch $p 2>/dev/null && echo wrote $p; done; ls /s/below"
        assert box.run(script, mounts=(BindMount(str(shared), "/s", readonly=True),)) == "file\n"
        written = box.run(script, mounts=(BindMount(str(shared), "/s"),))
        assert written == "wrote /s/x\nwrote /s/below/x\nfile\nx\n"
    finally:
        subprocess.run(["umount", shared / "below"], check=True)


def test_on_an_older_kernel(box: Box, tmp_path: Path) -> None:
    """As before Linux 5.12 and in part 5.2: without calls that a filter of ours says the kernel lacks."""
    shared = tmp_path / "shared"
    (shared / "be low").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nosuid", "below", shared / "be low"], check=True)
    try:
        (shared / "be low/file").touch()
        script = (
            "for p in /s/x '/s/be low/x' /etc/hosts /proc/sys/kernel/domainname; do touch $p && echo wrote $p; done; "
            "ls '/s/be low'; cat /proc/keys; grep 'be.*low' /proc/mounts"
        )
        directory, identity = box.bundle(script, mounts=(BindMount(str(shared), "/s", readonly=True),))
        for missing in (
            ["mount_setattr", "close_range"],
            ["open_tree", "move_mount", "mount_setattr", "close_range"],
        ):
            words = [sys.executable, "-c", LACKING + RUN, box.state, directory, identity, "yes"]
            environment = {**os.environ, "LACKING": " ".join(missing)}
            done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
            assert done.returncode == 0, done.stderr
            assert done.stdout.startswith("file\nbelow /s/be\\040low tmpfs ro,nosuid,nodev,")
        assert len(os.listdir(shared)) == 1
    finally:
        subprocess.run(["umount", shared / "be low"], check=True)


def test_the_interpreter_cannot_be_overwritten(tmp_path: Path) -> None:
    """Neither by the read-only mount nor, on older kernels, by the sealed copy that a container may open."""
    program = tmp_path / "program"
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o755)
    for make, refusal in ((interpreters._unwritable, errno.EROFS), (interpreters._sealed_copy, errno.EPERM)):
        descriptor = make(str(program))
        path = f"/proc/self/fd/{descriptor}"
        assert subprocess.run([path], pass_fds=[descriptor], check=False).returncode == 0
        with pytest.raises(OSError) as caught:
            os.write(os.open(path, os.O_RDWR), b"overwritten")
        assert caught.value.errno == refusal
        os.close(descriptor)
    assert program.read_bytes() == Path("/bin/true").read_bytes()


def test_without_device_rules_no_device_opens(busybox_root: Path, tmp_path: Path) -> None:
    """Where no control group decides: none can be made, and one of the image is none."""
    box = Box(busybox_root, tmp_path, cgroups=False)
    os.mknod(busybox_root / "kmsg", 0o20666, os.makedev(1, 11))
    script = (
        "cat /kmsg; /bin/busybox mknod /made c 1 3; grep CapBnd /proc/self/status; echo x > /dev/null && echo usual"
    )
    out = box.run(script)
    assert "'/kmsg': Permission denied" in out
    assert "mknod: /made: Operation not permitted" in out
    assert "CapBnd:\t00000000a00425fb" in out
    assert out.endswith("usual\n")


def test_control_groups_of_version_2(busybox_root: Path, tmp_path: Path, unified_tree: str) -> None:
    """A group of its own, in a name space of its own, with device rules; processes that come later are in it too."""
    box = Box(busybox_root, tmp_path, unified=unified_tree)
    script = "/bin/busybox mknod /dev/k c 1 11 && cat /dev/k 2>&1 | grep 'not permitted'"
    assert "'/dev/k'" in box.run(script)
    assert box.run("grep 0:: /proc/self/cgroup; cat /sys/fs/cgroup/cgroup.type").startswith("0::/\n")
    directory, identity = box.bundle("sleep 60")
    with open(os.devnull, "r+b") as null:
        streams = Streams(null.fileno(), null.fileno(), null.fileno())
        pid = box.runtime.create(directory, identity, streams)
        group = f"{unified_tree}/moldar/{identity}"
        assert Path(f"{group}/cgroup.procs").read_text() == f"{pid}\n"
        box.runtime.start(identity)
        process = ProcessSpec(("sh", "-c", f"grep -q 0::/$ /proc/self/cgroup && {script}"), ENV)
        assert box.runtime.execute(identity, process, streams, work=directory, allowed=("CAP_MKNOD",)) == 0
        box.runtime.delete(identity)
    assert not os.path.exists(group)


def test_limits_of_version_2() -> None:
    """Its swap is counted without the memory."""
    resources = {
        "memory": {"limit": 64 << 20, "swap": 96 << 20},
        "cpu": {"period": 100_000, "quota": 150_000},
        "pids": {"limit": -1},
    }
    assert unified_limits(resources) == [
        ("memory.max", str(64 << 20)),
        ("memory.swap.max", str(32 << 20)),
        ("cpu.max", "150000 100000"),
        ("pids.max", "max"),
    ]


def test_a_filter_may_lie_about_changing_users(box: Box) -> None:
    """The process is the user that it should be, and its own changes of owners succeed without being made."""

    def change(config: dict) -> None:  # type: ignore[type-arg]
        names = ["chown", "lchown", "fchown", "fchownat", "setuid", "setgid", "setresuid", "setresgid", "setgroups"]
        config["linux"]["seccomp"]["syscalls"].append({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 0})

    script = "id -u; touch /tmp/mine; chown 5:6 /tmp/mine && ls -ln /tmp/mine"
    (box.root / "tmp").chmod(0o1777)
    out = box.run(script, change, user=User(33, 34))
    assert out.startswith("33\n")
    assert out.split()[3:5] == ["33", "34"]


def test_a_killed_owner_takes_the_container_along(box: Box) -> None:
    """Before anybody sweeps."""
    directory, identity = box.bundle("sleep 60")
    with subprocess.Popen([sys.executable, "-c", RUN, box.state, directory, identity, "yes"]) as owner:
        deadline = time.monotonic() + 10
        while (state := box.runtime.state(identity)) is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process = os.pidfd_open(state.pid)
        owner.kill()
    assert _ends(process)
    assert box.runtime.sweep() == [identity]


def _ends(process: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            signal.pidfd_send_signal(process, 0)
        except ProcessLookupError:
            os.close(process)
            return True
        time.sleep(0.01)
    return False


def test_killed_at_any_moment_nothing_is_left(box: Box) -> None:
    """The owner is killed at ten moments while it makes a container."""
    chance = random.Random(5)
    identities = []
    for _ in range(10):
        directory, identity = box.bundle("sleep 60")
        identities.append(identity)
        with subprocess.Popen([sys.executable, "-c", RUN, box.state, directory, identity, "yes"]) as owner:
            while not os.path.exists(f"{box.state}/{identity}") and owner.poll() is None:
                time.sleep(0.001)
            time.sleep(chance.random() * 0.08)
            owner.kill()
    assert set(box.runtime.sweep()) == set(identities)
    deadline = time.monotonic() + 10
    while str(box.root) in _all_mounts():
        assert time.monotonic() < deadline, "a process has the root mounted still"
        time.sleep(0.02)
    left = subprocess.run(
        ["find", "/sys/fs/cgroup", "-name", f"box-{os.getpid()}-*"], capture_output=True, check=True
    )
    assert left.stdout == b""


def _all_mounts() -> str:
    """What any process has mounted."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found.append(Path(f"/proc/{name}/mountinfo").read_text())
            except OSError:
                continue
    return "".join(found)


MAPS = {"one": "0 0 1", "range": "0 0 65536"}


@pytest.mark.parametrize("ids", MAPS)
def test_in_a_user_name_space(box: Box, ids: str) -> None:
    """As its root: no device nodes, no control groups, no new sysfs beside the host's network."""
    box.runtime.features = Features(cgroups=False)
    script = (
        "id -u; head -c 3 /dev/urandom | wc -c; echo x > /dev/null; test -d /sys/class && echo sysfs; "
        "touch /sys/x 2>/dev/null || echo read-only; cat /proc/self/status"
    )
    code, out = _in_user_namespace(box, script, MAPS[ids])
    assert code == 0, out
    assert out.splitlines()[:4] == ["0", "3", "sysfs", "read-only"]
    assert "CapEff:\t00000000a00425fb" in out
    assert "Seccomp:\t2" in out
    code, out = _in_user_namespace(box, "id", MAPS[ids], User(33, 34, (44,)))
    if ids == "range":
        assert out == "uid=33(web) gid=34(web) groups=44(extra)\n"
    else:
        assert code == 126
        assert "user 33, group 34, group 44: not all of these IDs exist in this user name space" in out


def _in_user_namespace(box: Box, script: str, ids: str, user: User = User()) -> tuple[int, str]:  # noqa: B008
    """Run a container as root of a new user name space with the numbers `ids`: the exit code and output."""
    directory, identity = box.bundle(script, user)
    run = [sys.executable, "-c", RUN, box.state, directory, identity, ""]
    words = ["unshare", "--user", "--mount", "sh", "-c", 'read line; exec "$@"', "sh", *run]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(words, text=True, **pipes) as child:  # type: ignore[call-overload]
        ours = os.readlink("/proc/self/ns/user")
        while os.readlink(f"/proc/{child.pid}/ns/user") == ours:
            time.sleep(0.005)
        if ids.endswith(" 1"):  # as without help by newgidmap
            Path(f"/proc/{child.pid}/setgroups").write_text("deny")
        Path(f"/proc/{child.pid}/gid_map").write_text(ids)
        Path(f"/proc/{child.pid}/uid_map").write_text(ids)
        out, _ = child.communicate("go\n", timeout=20)
    return child.returncode, out


def test_what_a_container_waits_for_to_be_imported() -> None:
    """Each of these modules would cost more time than making the container does."""
    code = interpreters._CODE.replace("main()", "print(*sys.modules)")
    package = str(Path(interpreters.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, package], capture_output=True, text=True, check=True
    )
    heavy = {"collections", "contextlib", "dataclasses", "enum", "json", "re", "signal", "socket", "typing"}
    assert heavy & set(done.stdout.split()) == set()


def test_a_program_that_cannot_run_is_told_without_looking_before(box: Box) -> None:
    (box.root / "script").write_text("#!/missing\n")
    (box.root / "script").chmod(0o755)
    with pytest.raises(CannotStart) as caught:
        box.run("true", lambda config: config["process"].update(args=["/script"]))
    assert caught.value.exit_code == 127
