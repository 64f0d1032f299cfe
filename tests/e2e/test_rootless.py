"""Without root: builds, read sets and containers in a user namespace, with subordinate ids and with one id only."""

import io
import os
import signal
import socket
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.program import Moldar
from tests.e2e.rootless import Account, Rootless
from tests.e2e.test_build import steps
from tests.e2e.test_read_sets import files_of

WRONG_ORDER = """FROM busybox
WORKDIR /app
COPY . .
RUN cat requirements.txt > /installed && cat /proc/sys/kernel/random/uuid >> /installed
RUN rm -r /app/hidden && mkdir /app/hidden && rm /app/gone && chown 33:34 /installed && chmod 640 /installed
CMD ["cat", "/installed"]
"""
FILES = {"app.py": "1\n", "requirements.txt": "flask\n", "hidden/file": "", "gone": ""}
INSTALL, HIDE = (f"[{number}/5] {line}" for number, line in enumerate(WRONG_ORDER.splitlines()[3:5], 4))


@pytest.fixture(scope="module", params=[65_536, 0], ids=["many ids", "one id"])
def account(request: pytest.FixtureRequest, busybox_archive: Path) -> Iterator[Account]:
    account = Account(f"moldar-{'many' if request.param else 'one'}-{os.getpid()}", request.param)
    try:
        (account.home / "busybox.tar").write_bytes(busybox_archive.read_bytes())
        Rootless(account)("load", "-i", account.home / "busybox.tar")
        yield account
    finally:
        account.close()


@pytest.fixture
def rootless(account: Account) -> Iterator[Rootless]:
    program = Rootless(account)
    yield program
    if containers := program.run("ps", "-aq").stdout.split():
        program.run("rm", "-f", *containers)
    program.run("builder", "prune", "-af")


def has_many_ids(account: Account) -> bool:
    return "many" in account.name


def test_reuse_by_what_was_read(rootless: Rootless, with_busybox: Moldar, tmp_path: Path) -> None:
    """As with root, and the image is the same that root gets."""
    context = rootless.project(Dockerfile=WRONG_ORDER, **FILES)
    rootless("build", "-t", "app", context)
    before = rootless("run", "--rm", "app")
    assert before.startswith("flask\n")
    (context / "app.py").write_text("2 and longer\n")
    again = rootless.run("build", "-t", "app", context)
    assert (steps(again.stderr)[INSTALL], steps(again.stderr)[HIDE]) == (True, True), again.stderr
    assert rootless("run", "--rm", "app") == before
    (context / "requirements.txt").write_text("django\n")
    again = rootless.run("build", "-t", "app", context)
    assert steps(again.stderr)[INSTALL] is False, again.stderr
    assert "ran because requirements.txt changed (line 1)" in again.stderr
    assert rootless("run", "--rm", "app").startswith("django\n")
    rootless("save", "-o", rootless.home / "app.tar", "app")
    with_busybox("load", "-i", rootless.home / "app.tar")
    ours = files_of(with_busybox, "app", tmp_path)
    with_busybox("build", "-t", "native", context)
    native = files_of(with_busybox, "native", tmp_path)
    owner = native["installed"][1:3]
    assert owner == (33, 34)
    assert ours["installed"][1:3] == (owner if has_many_ids(rootless.account) else (0, 0))
    del ours["installed"], native["installed"]
    assert ours == native
    assert "app/hidden/file" not in ours and "app/gone" not in ours


def test_read_sets_serve_root_too(rootless: Rootless, with_busybox: Moldar) -> None:
    """The record that a user exports lets root skip the step, unless it was made without real owners."""
    context = rootless.project(Dockerfile=WRONG_ORDER, **FILES)
    cache = rootless.home / "cache"
    rootless("build", "--cache-to", f"type=local,dest={cache},mode=max", context)
    (context / "app.py").write_text("2 and longer\n")
    outcome = with_busybox.run("build", "--cache-from", f"type=local,src={cache}", "-t", "app", context)
    assert steps(outcome.stderr)[INSTALL] is has_many_ids(rootless.account), outcome.stderr


def test_a_killed_build_leaves_nothing_in_the_way(rootless: Rootless) -> None:
    context = rootless.project(Dockerfile=WRONG_ORDER.replace("RUN cat", "RUN sleep 0.7; cat"), **FILES)
    for moment in (0.5, 0.9):
        build = subprocess.Popen(rootless.command("build", context), stderr=subprocess.DEVNULL)
        time.sleep(moment)
        build.send_signal(signal.SIGKILL)
        build.wait()
    rootless("build", context)
    assert not [name for name in os.listdir(rootless.store / "snapshots/work") if not name.endswith(".lock")]
    assert "The store is sound" in rootless("system", "check")


def test_what_a_killed_build_left_running_is_ended(rootless: Rootless) -> None:
    """Its process is in a namespace in which nobody is any more, and may be another user's there."""
    seconds = str(100_000 + os.getpid())
    user = "1000" if has_many_ids(rootless.account) else "0"
    context = rootless.project(Dockerfile=f"FROM busybox\nUSER {user}\nRUN sleep {seconds}\n")
    build = subprocess.Popen(rootless.command("build", context), stderr=subprocess.DEVNULL)
    _wait_until(lambda: _sleeps(seconds))
    build.send_signal(signal.SIGKILL)
    build.wait()
    assert _sleeps(seconds)
    (context / "Dockerfile").write_text(f"FROM busybox\nRUN echo {seconds}\n")
    rootless("build", context)
    _wait_until(lambda: not _sleeps(seconds))


def _sleeps(seconds: str) -> bool:
    found = subprocess.run(["pgrep", "-xf", f"sleep {seconds}"], check=False, capture_output=True)
    return found.returncode == 0


def _wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_container_and_other_commands(rootless: Rootless) -> None:
    """Each command is a process of its own; all find the one user namespace."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = rootless.project("shared", note="hello from the host\n")
    words = ["-dp", f"127.0.0.1:{port}:80", "-v", f"{shared}:/www", "--name", "web"]
    rootless("run", *words, "busybox", "httpd", "-fvh", "/www")
    assert _fetch(f"http://127.0.0.1:{port}/note") == b"hello from the host\n"
    assert rootless("exec", "web", "sh", "-c", "id -u; touch /www/made; ls /proc/1/root/www").split() == [
        "0",
        "made",
        "note",
    ]
    assert (shared / "made").stat().st_uid == rootless.home.stat().st_uid
    assert "Up" in rootless("ps", "--filter", "name=web")
    assert "response:200" in rootless.run("logs", "web").stderr
    rootless("restart", "-t", "0", "web")
    assert _fetch(f"http://127.0.0.1:{port}/note") == b"hello from the host\n"
    rootless("stop", "-t", "0", "web")
    rootless("rm", "web")
    assert str(rootless.store) not in Path("/proc/mounts").read_text()


def _fetch(url: str) -> bytes:
    deadline = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bytes(answer.read())
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_files_changes_and_processes_of_containers(rootless: Rootless) -> None:
    (rootless.home / "note").write_text("from outside\n")
    rootless("run", "-d", "--name", "box", "-v", "data:/data", "busybox", "sh", "-c", "echo x > /new; sleep 60")
    rootless("cp", rootless.home / "note", "box:/data")
    rootless("pause", "box")
    assert "(Paused)" in rootless("ps")
    rootless("commit", "-c", 'CMD ["cat", "/new"]', "box", "mine")
    rootless("stop", "-t", "0", "box")
    rootless("cp", "box:/data/note", rootless.home / "back")
    assert (rootless.home / "back").read_text() == "from outside\n"
    assert (rootless.home / "back").owner() == rootless.account.name
    assert rootless("run", "--rm", "mine") == "x\n"


def test_what_a_step_may_do(rootless: Rootless) -> None:
    """It is root in its namespace, and cannot get at what only the host's root may."""
    script = (
        "mount -t tmpfs none /mnt || cat /proc/1/root/etc/shadow || echo 1 > /proc/sys/kernel/panic || echo refused"
    )
    context = rootless.project(Dockerfile=f"FROM busybox\nRUN echo I am $(id -u); {script}\n")
    output = rootless.run("build", context)
    assert output.returncode == 0, output.stderr
    assert " I am 0\n" in output.stderr and " refused\n" in output.stderr


def test_users_of_the_image(rootless: Rootless) -> None:
    account = "echo app:x:1000:1001::/:/bin/sh >> /etc/passwd; chmod 777 /tmp"
    context = rootless.project(Dockerfile=f"FROM busybox\nRUN {account}\nUSER app\nRUN touch /tmp/mine\n")
    if has_many_ids(rootless.account):
        rootless("build", "-t", "app", context)
        assert rootless("run", "--rm", "app", "stat", "-c", "%u:%g", "/tmp/mine") == "1000:1001\n"
        assert rootless("run", "--rm", "-u", "0", "app", "id", "-u") == "0\n"
        return
    said = rootless.fails("build", context)
    assert "cannot run as user 1000:1001" in said and "uidmap" in said
    rootless("run", "-d", "--name", "box", "busybox", "sleep", "60")
    assert "cannot run as user 7:0" in rootless.fails("exec", "-u", "7", "box", "id", code=126)


def test_owners_that_are_out_of_reach(rootless: Rootless) -> None:
    context = rootless.project(Dockerfile="FROM busybox\nCOPY --chown=70000:70000 a /a\nRUN ls -ln /a\n", a="")
    if not has_many_ids(rootless.account):
        rootless("build", context)
        return
    said = rootless.fails("build", context)
    assert "its owner 70000:70000 is not among the ids that this user may use" in said and "/etc/subuid" in said


def test_a_context_of_somebody_with_a_large_id(rootless: Rootless) -> None:
    """The owners of a context's files are of no interest."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, text in (("Dockerfile", b"FROM busybox\nCOPY a /a\nRUN cat /a\n"), ("a", b"text")):
            member = tarfile.TarInfo(name)
            member.size, member.uid, member.gid = len(text), 1_234_567, 1_234_567
            tar.addfile(member, io.BytesIO(text))
    rootless("build", "-", stdin=archive.getvalue())


def test_without_user_namespaces(rootless: Rootless) -> None:
    """A process in a chroot may not make one (user_namespaces(7)): what needs none works, the rest says why."""
    context = rootless.project(Dockerfile="FROM scratch\nCOPY a /a\n", a="1")
    root = rootless.home / "all"
    root.mkdir(exist_ok=True)
    prefix = f"sh -ec 'mount --rbind / {root}; exec chroot {root} \"$@\"' sh"
    built = rootless.run("build", context, prefix=prefix)
    assert built.returncode == 0, built.stderr
    (context / "Dockerfile").write_text('FROM scratch\nCOPY a /a\nRUN ["/a"]\n')
    said = rootless.fails("build", context, prefix=prefix)
    assert "cannot run a container without root: user namespaces are not allowed here" in said
    assert "sysctl" in said


def test_apt_downloads_as_root_where_there_is_nobody_else(rootless: Rootless, with_busybox: Moldar) -> None:
    """It would give up root and look whether that worked; the file that tells it not to is no part of the image."""
    show = "cat /etc/apt/apt.conf.d/*; echo that is all"
    context = rootless.project(Dockerfile=f"FROM busybox\nRUN mkdir -p /etc/apt/apt.conf.d\nRUN {show}\n")
    output = rootless.run("build", "-t", "app", context).stderr
    assert " that is all\n" in output
    assert ('APT::Sandbox::User "root";' in output) is not has_many_ids(rootless.account)
    rootless("save", "-o", rootless.home / "app.tar", "app")
    with_busybox("load", "-i", rootless.home / "app.tar")
    assert with_busybox("run", "--rm", "app", "ls", "/etc/apt/apt.conf.d") == ""


LIBRARY = """
import moldar
home = moldar.default_home()
assert moldar.become_root(home) == ""
with moldar.Engine(moldar.Settings(home)) as engine:
    moldar.run(engine, "busybox", moldar.RunOptions(remove=True, command=("echo", home)))
"""


def test_as_a_library(rootless: Rootless) -> None:
    command = rootless.command(program=("-c", LIBRARY))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == (f"{rootless.store}\n", "")


def test_a_port_that_is_root_s(rootless: Rootless) -> None:
    said = rootless.fails("run", "--rm", "-p", "127.0.0.1:81:80", "busybox", "true", code=125)
    assert "cannot listen on 127.0.0.1:81" in said and "ip_unprivileged_port_start" in said


def test_with_python_only(rootless: Rootless) -> None:
    """No OCI runtime and no pasta: isolation, read sets and ports are of our own."""
    hide = "for name in crun runc pasta; do mount --bind /dev/null $(command -v $name); done"
    prefix = f"sh -ec '{hide}; exec \"$@\"' sh"
    assert "Runtime: builtin" in rootless.run("info", prefix=prefix).stdout
    context = rootless.project(Dockerfile=WRONG_ORDER, **FILES)
    assert rootless.run("build", "-t", "app", context, prefix=prefix).returncode == 0
    (context / "app.py").write_text("2 and longer\n")
    again = rootless.run("build", "-t", "app", context, prefix=prefix)
    assert steps(again.stderr)[INSTALL] is True, again.stderr
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["-dp", f"127.0.0.1:{port}:80", "--name", "web", "busybox", "httpd", "-fh", "/bin"]
    started = rootless.run("run", *words, prefix=prefix)
    assert started.returncode == 0 and "no way out" in started.stderr
    assert _fetch(f"http://127.0.0.1:{port}/busybox")[:4] == b"\x7fELF"
    assert rootless.run("exec", "web", "id", "-u", prefix=prefix).stdout == "0\n"
    assert rootless.run("rm", "-f", "web", prefix=prefix).returncode == 0
