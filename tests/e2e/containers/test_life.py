"""The life of containers, with real processes."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moldar.containers.launching import NotStarted
from moldar.containers.service import NotRunning, StillRunning
from moldar.containers.views import port_lines, ports_text, status_text
from moldar.errors import NotFound, UserMistake
from moldar.sandbox.runtime import CannotStart

House = Any


def eventually(check: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_output_exit_code_and_log(house: House) -> None:
    assert house.run("sh", "-c", "echo out; echo err >&2; exit 3") == (3, b"out\nerr\n")
    (view,) = house.containers.list(everything=True)
    assert status_text(view).startswith("Exited (3)")
    assert house.containers.list() == []
    streams = [line.stream for line in house.containers.logs(view.id)]
    assert sorted(streams) == ["stderr", "stdout"]


def test_create_does_not_start(house: House) -> None:
    identity = house.create("true", name="later")
    assert status_text(house.containers.view("later")) == "Created"
    assert len(identity) == 64
    house.containers.start("later")
    assert house.containers.wait("later") == 0


def test_a_changed_root_survives_a_restart(house: House) -> None:
    identity = house.start("sh", "-c", "echo x >> /file; cat /file")
    house.containers.wait(identity)
    house.containers.start(identity)
    house.containers.wait(identity)
    assert house.output(identity) == b"x\nx\nx\n"


def test_published_port_and_page(house: House) -> None:
    house.start("httpd", "-f", "-p", "80", "-h", "/www", publish=("127.0.0.1::80",), name="web")
    view = house.containers.view("web")
    ((inside, outside),) = port_lines(view)
    assert inside == "80/tcp"
    assert ports_text(view) == f"{outside}->80/tcp"
    assert house.containers.ports("web") == ((inside, outside),)
    eventually(lambda: fetch(outside))
    assert fetch(outside) == b"hello from busybox"
    house.containers.stop("web", 0)
    assert ports_text(house.containers.view("web")) == ""
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://{outside}/", timeout=2)


def fetch(address: str) -> bytes:
    try:
        with urllib.request.urlopen(f"http://{address}/", timeout=2) as answer:
            return bytes(answer.read())
    except OSError:
        return b""


def test_a_taken_port(house: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(NotStarted, match=f"127.0.0.1:{port} is already in use") as caught:
            house.start("true", publish=(f"127.0.0.1:{port}:80",))
    assert caught.value.exit_code == 125
    (view,) = house.containers.list(everything=True)
    assert status_text(view) == "Created"
    house.containers.start(view.id)
    assert house.containers.wait(view.id) == 0


@pytest.mark.parametrize(("command", "code"), [("nope", 127), ("/etc/passwd", 126), ("/etc", 126)])
def test_what_cannot_be_executed(house: House, command: str, code: int) -> None:
    with pytest.raises(NotStarted) as caught:
        house.start(command)
    assert caught.value.exit_code == code
    with pytest.raises(NotStarted, match="unable to find user nobody"):
        house.start("true", user="nobody")


def test_user_directory_environment_and_hosts(house: House) -> None:
    script = "id; pwd; echo $HOME $A; cat /etc/hosts; hostname; touch /etc/hosts /made 2>&1"
    code, out = house.run(
        "sh",
        "-c",
        script,
        user="web",
        workdir="/new/place",
        env=("A=1",),
        hosts=(("db", "10.9.8.7"),),
        hostname="box",
    )
    lines = out.decode().splitlines()
    assert lines[:3] == ["uid=33(web) gid=34(web) groups=44(extra)", "/new/place", "/www 1"]
    assert "10.9.8.7\tdb" in lines
    assert any(line.endswith("\tbox") for line in lines)
    assert "ermission denied" in lines[-1]
    assert code == 1


def test_exec(house: House) -> None:
    house.start("sleep", "60", name="box", env=("A=1",))
    script = "id -u; pwd; echo $A $B $HOME; exit 7"
    assert house.execute("box", "sh", "-c", script, user="web", workdir="/www", env=("B=2",)) == (
        7, b"33\n/www\n1 2 /www\n",
    )  # fmt: skip
    with pytest.raises(CannotStart) as caught:
        house.execute("box", "nope")
    assert caught.value.exit_code == 127
    house.containers.stop("box", 0)
    with pytest.raises(NotRunning):
        house.execute("box", "true")


def test_stop_is_gentle_first(house: House) -> None:
    script = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    identity = house.start("sh", "-c", script)
    eventually(lambda: house.output(identity) == b"ready\n")
    house.containers.stop(identity, 10)
    assert house.containers.wait(identity) == 5
    assert house.output(identity) == b"ready\nbye\n"
    house.containers.stop(identity)


def test_stop_kills_what_does_not_listen(house: House) -> None:
    identity = house.start("sh", "-c", "trap '' TERM INT; while :; do sleep 0.05; done", stop_signal="INT")
    started = time.monotonic()
    house.containers.stop(identity, 1)
    assert 1 <= time.monotonic() - started < 8
    assert house.containers.wait(identity) == 137


def test_kill_signals(house: House) -> None:
    identity = house.start("sh", "-c", "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done")
    eventually(lambda: house.output(identity) == b"ready\n")
    house.containers.kill(identity, "USR1")
    eventually(lambda: b"usr1" in house.output(identity))
    house.containers.kill(identity)
    assert house.containers.wait(identity) == 137
    with pytest.raises(NotRunning):
        house.containers.kill(identity)
    with pytest.raises(UserMistake, match="invalid signal"):
        house.containers.kill(identity, "NOPE")


def test_remove(house: House) -> None:
    identity = house.start("sleep", "60", name="box")
    with pytest.raises(StillRunning, match="box"):
        house.containers.remove("box")
    house.containers.remove(identity[:12], force=True)
    with pytest.raises(NotFound):
        house.containers.view("box")


def test_names(house: House) -> None:
    house.create("true", name="one")
    with pytest.raises(UserMistake, match="already in use"):
        house.create("true", name="one")
    other = house.create("true")
    house.containers.rename(other, "two")
    assert house.containers.view("two").id == other
    with pytest.raises(UserMistake, match="already in use"):
        house.containers.rename("two", "one")
    assert len(os.listdir(house.home.containers)) == 2


def test_filters(house: House) -> None:
    house.create("true", name="first", labels=(("tier", "web"),), image_name="busybox:1")
    house.run("sh", "-c", "exit 4", name="second")

    def names(*filters: tuple[str, str]) -> list[str]:
        return [view.name for view in house.containers.list(everything=True, filters=filters)]

    assert names() == ["second", "first"]
    assert names(("name", "fir")) == ["first"]
    assert names(("label", "tier=web")) == ["first"]
    assert names(("label", "tier=db")) == []
    assert names(("exited", "4")) == ["second"]
    assert names(("status", "created"), ("status", "exited")) == ["second", "first"]
    assert names(("ancestor", "busybox")) == ["first"]
    with pytest.raises(UserMistake, match="invalid filter"):
        names(("colour", "red"))


def test_logs_follow_and_tail(house: House) -> None:
    identity = house.start("sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done")
    assert house.output(identity, follow=True) == b"1\n2\n3\n"
    assert house.output(identity, tail=2) == b"2\n3\n"
    assert house.output(identity, since="1h", until="0s") == b"1\n2\n3\n"


def test_auto_removal(house: House) -> None:
    identity = house.create("sh", "-c", "exit 6", remove=True, volumes=("/anonymous", "kept:/named"))
    started = house.containers.start(identity, attached=True)
    assert started.attachment.pump(-1, 1, 2).exit_code == 6
    assert house.containers.list(everything=True) == []
    assert os.listdir(house.home.volumes) == ["kept"]


def test_restart_policies(house: House) -> None:
    identity = house.start("sh", "-c", "echo try; exit 2", restart="on-failure:2")
    assert house.containers.wait(identity) == 2
    assert house.output(identity) == b"try\n" * 3
    assert house.containers.view(identity).status.restarts == 2
    always = house.start("true", restart="always")
    eventually(lambda: house.containers.view(always).status.restarts > 1)
    house.containers.stop(always)
    assert house.containers.view(always).status.status == "exited"


def test_volumes_and_binds(house: House, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    script = "echo x >> /data/f; cat /www/index.html; echo made > /shared/f; touch /ro/f"
    mounts = ("data:/data", "site:/www", f"{tmp_path}/shared:/shared", f"{tmp_path}/shared:/ro:ro")
    code, out = house.run("sh", "-c", script, volumes=mounts)
    assert code == 1
    assert b"hello from busybox" in out, "a fresh volume takes what the image has there"
    assert b"Read-only" in out
    assert (tmp_path / "shared/f").read_text() == "made\n"
    assert house.run("cat", "/data/f", volumes=("data:/data",)) == (0, b"x\n")


def test_limits(house: House) -> None:
    identity = house.start("sleep", "60", memory=32 << 20, cpus=0.5)
    group = Path("/sys/fs/cgroup")
    files = [
        *group.glob(f"memory/moldar/{identity}/memory.limit_in_bytes"),
        *group.glob(f"moldar/{identity}/memory.max"),
    ]
    assert [int(file.read_text()) for file in files] == [32 << 20]


def test_a_cgroup_below_another_one(house: House) -> None:
    identity = house.start("sleep", "60", cgroup_parent="moldar-tests/below")
    document = house.containers.inspect(identity)
    assert document["HostConfig"]["CgroupParent"] == "moldar-tests/below"
    lines = Path(f"/proc/{document['State']['Pid']}/cgroup").read_text().splitlines()
    groups = {line.rpartition(":")[2] for line in lines if identity in line}
    assert groups == {f"/moldar-tests/below/{identity}"}


def test_read_only_tmpfs_and_networks(house: House) -> None:
    script = "touch /file 2>/dev/null || echo refused; touch /tmp/file && echo fine"
    assert house.run("sh", "-c", script, read_only=True, tmpfs=("/tmp",)) == (0, b"refused\nfine\n")
    assert house.run("sh", "-c", "ls /sys/class/net", network="none") == (0, b"lo\n")
    _, out = house.run("sh", "-c", "ls /sys/class/net", network="host")
    assert set(out.decode().split()) == set(os.listdir("/sys/class/net"))


def test_prune(house: House) -> None:
    house.create("true")
    house.run("sh", "-c", "echo 12345 > /file")
    running = house.start("sleep", "60")
    pruned = house.containers.prune()
    assert len(pruned.removed) == 2
    assert pruned.freed >= 6
    assert [view.id for view in house.containers.list(everything=True)] == [running]


def test_inspection(house: House) -> None:
    identity = house.start("sleep", "60", name="box", publish=("127.0.0.1::80",), memory=64 << 20)
    document = house.containers.inspect("box")
    assert document["Id"] == identity
    assert document["Name"] == "/box"
    assert document["State"]["Running"]
    assert os.path.isdir(f"/proc/{document['State']['Pid']}")
    assert document["NetworkSettings"]["Ports"]["80/tcp"][0]["HostIp"] == "127.0.0.1"
    assert document["HostConfig"]["Memory"] == 64 << 20


def test_a_killed_monitor(house: House) -> None:
    """The container goes on, `ps` tells the truth, and it can be stopped and removed."""
    identity = house.start("sleep", "60", publish=("127.0.0.1::80",))
    status = house.containers.view(identity).status
    os.kill(status.monitor.pid, signal.SIGKILL)
    eventually(lambda: not status.monitor.alive)
    assert house.containers.view(identity).status.running
    assert house.execute(identity, "true")[0] == 0
    house.containers.stop(identity, 0)
    assert status_text(house.containers.view(identity)).startswith("Exited (255)")
    assert not status.helper.alive


def test_a_killed_monitor_and_container(house: House) -> None:
    identity = house.start("sleep", "60", publish=("127.0.0.1::80",))
    status = house.containers.view(identity).status
    for process in (status.monitor.pid, status.process.pid):
        os.kill(process, signal.SIGKILL)
    eventually(lambda: not status.process.alive)
    assert house.containers.wait(identity) == 255
    house.containers.start(identity)
    assert house.containers.view(identity).status.running


def test_another_process_with_the_same_pid_is_not_taken_for_it(house: House) -> None:
    identity = house.start("true")
    house.containers.wait(identity)
    path = Path(house.home.containers, identity, "status.json")
    eventually(lambda: not house.containers.view(identity).status.monitor.alive)
    text = path.read_text().replace('"status": "exited"', '"status": "running"')
    path.write_text(
        text.replace('"process": {"pid": 0, "start": 0', f'"process": {{"pid": {os.getpid()}, "start": 5')
    )
    assert house.containers.view(identity).status.status == "exited"
    house.containers.remove(identity, force=True)


def test_a_killed_creation_is_swept(house: House) -> None:
    """Killed at many moments; each leaves either a container that can be removed or nothing that stays."""
    script = (
        "import os, signal, sys, threading, time\n"
        "from conftest import House\n"
        "house = House(sys.argv[1])\n"
        "def end():\n"
        "    time.sleep(float(sys.argv[2])); os.kill(os.getpid(), signal.SIGKILL)\n"
        "threading.Thread(target=end).start()\n"
        "while True:\n"
        "    house.create('true', volumes=('/anonymous',))\n"
    )
    for number in range(8):
        arguments = [str(Path(__file__).parent), house.home.root, str(0.002 * number)]
        code = f"import sys; sys.path.insert(0, sys.argv.pop(1))\n{script}"
        subprocess.run([sys.executable, "-c", code, *arguments], check=False)
    house.create("true", name="last")
    known = {view.id for view in house.containers.list(everything=True)}
    assert set(os.listdir(house.home.containers)) == known
    assert set(os.listdir(f"{house.home.snapshots}/roots")) == known
    assert house.run("true")[0] == 0
