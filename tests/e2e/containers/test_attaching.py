"""Being attached: pipes, terminals, signals."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path
from typing import Any

House = Any


def collect(descriptor: int, found: list[bytes]) -> threading.Thread:
    """Reads until the end, in a thread."""

    def run() -> None:
        while data := os.read(descriptor, 65536):
            found.append(data)
        os.close(descriptor)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def attached(house: House, identity: str, stdin: int = -1) -> tuple[int, bytes, bytes]:
    """Start a container and stay with it: exit code, output and error output."""
    started = house.containers.start(identity, attached=True)
    out, err = os.pipe(), os.pipe()
    outs: list[bytes] = []
    errs: list[bytes] = []
    threads = [collect(out[0], outs), collect(err[0], errs)]
    ending = started.attachment.pump(stdin, out[1], err[1])
    os.close(out[1])
    os.close(err[1])
    for thread in threads:
        thread.join()
    return ending.exit_code, b"".join(outs), b"".join(errs)


def test_streams_are_kept_apart(house: House) -> None:
    identity = house.create("sh", "-c", "echo out; echo err >&2; exit 9")
    assert attached(house, identity) == (9, b"out\n", b"err\n")


def test_nothing_is_lost_of_much_output(house: House) -> None:
    expected = "".join(f"{number}\n" for number in range(1, 100_001)).encode()
    identity = house.create("seq", "1", "100000")
    assert attached(house, identity) == (0, expected, b"")
    assert house.output(identity) == expected


def test_stdin_reaches_its_end(house: House) -> None:
    reading, writing = os.pipe()
    data = b"line\n" * 50_000

    def write() -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(writing, rest) :]
        os.close(writing)

    thread = threading.Thread(target=write)
    thread.start()
    assert attached(house, house.create("wc", "-c", interactive=True), reading) == (0, b"250000\n", b"")
    thread.join()
    os.close(reading)


def test_stdin_from_a_file(house: House) -> None:
    with open("/bin/busybox", "rb") as file:
        size = os.fstat(file.fileno()).st_size
        result = attached(house, house.create("wc", "-c", interactive=True), file.fileno())
    assert result == (0, f"{size}\n".encode(), b"")


def test_stdin_is_empty_unless_asked_for(house: House) -> None:
    assert attached(house, house.create("wc", "-c"))[1] == b"0\n"


def test_a_process_that_does_not_read_its_stdin(house: House) -> None:
    with open("/bin/busybox", "rb") as file:
        assert attached(house, house.create("true", interactive=True), file.fileno())[0] == 0


def test_a_terminal(house: House) -> None:
    identity = house.create("sh", "-c", "tty; stty size; read x; echo got:$x; exit 4", tty=True, interactive=True)
    started = house.containers.start(identity, attached=True, size=(30, 100))
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    out = os.pipe()
    found: list[bytes] = []
    thread = collect(out[0], found)
    codes: list[int] = []
    before = termios.tcgetattr(theirs)

    def stay() -> None:
        codes.append(started.attachment.pump(theirs, out[1], out[1], terminal=True).exit_code)
        os.close(out[1])

    staying = threading.Thread(target=stay)
    staying.start()
    while b"100" not in b"".join(found):
        time.sleep(0.01)
    os.write(ours, b"hello\n")
    staying.join()
    thread.join()
    assert b"".join(found) == b"/dev/pts/0\r\n30 100\r\nhello\r\ngot:hello\r\n"
    assert codes == [4]
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


def test_detach_keys_leave_it_running(house: House) -> None:
    identity = house.create("sleep", "60", tty=True, interactive=True)
    started = house.containers.start(identity, attached=True)
    ours, theirs = pty.openpty()
    threading.Timer(0.2, lambda: os.write(ours, b"\x10\x11")).start()
    assert started.attachment.pump(theirs, 1, 2, terminal=True).detached
    assert house.containers.view(identity).status.running
    os.close(ours)
    os.close(theirs)


def test_attach_later_and_by_many(house: House) -> None:
    identity = house.start("sh", "-c", "read x; echo got:$x", interactive=True)
    first, second = house.containers.attach(identity), house.containers.attach(identity)
    out = os.pipe()
    found: list[bytes] = []
    thread = collect(out[0], found)
    watching = threading.Thread(target=lambda: first.pump(-1, out[1], out[1]))
    watching.start()
    reading, writing = os.pipe()
    os.write(writing, b"word\n")
    with open(os.devnull, "wb") as nothing:
        assert second.pump(reading, nothing.fileno(), nothing.fileno()).exit_code == 0
    watching.join()
    os.close(out[1])
    thread.join()
    assert b"".join(found) == b"got:word\n"
    os.close(reading)
    os.close(writing)


def test_signals_go_to_the_container(house: House, tmp_path: Path) -> None:
    """In a process of its own, whose main thread is attached; it also shows that a container outlives its starter."""
    identity = house.create(
        "sh", "-c", "trap 'echo interrupted; exit 3' INT; echo ready; while :; do sleep 0.05; done"
    )
    script = (
        "import sys\n"
        "from moldar.containers.service import Containers\n"
        "from moldar.sandbox.choosing import choose_runtime, choose_snapshots\n"
        "from moldar.store.containers import ContainerTable\n"
        "from moldar.store.database import Database\n"
        "from moldar.store.home import Home\n"
        "home = Home(sys.argv[1])\n"
        "containers = Containers(home, ContainerTable(Database(home)), None)\n"
        "sys.exit(containers.start(sys.argv[2], attached=True).attachment.pump(-1, 1, 2).exit_code)\n"
    )
    arguments = [sys.executable, "-c", script, house.home.root, identity]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as child:
        assert child.stdout
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGINT)
        assert child.stdout.read() == b"interrupted\n"
        assert child.wait() == 3


def test_a_container_outlives_who_started_it(house: House) -> None:
    identity = house.create("sh", "-c", "sleep 0.5; echo done")
    started = house.containers.start(identity, attached=True)
    started.attachment.close()
    assert house.containers.wait(identity) == 0
    assert house.output(identity) == b"done\n"
