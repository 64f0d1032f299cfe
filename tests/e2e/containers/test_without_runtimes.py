"""Building and running where neither crun nor runc is: they are hidden from the program in a mount name space."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.program import TIMEOUT, Moldar

HIDE = 'for path in "$CRUN" "$RUNC"; do mount --bind /dev/null "$path" || exit 1; done; exec "$@"'
DOCKERFILE = """
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN mkdir -p /etc /root && echo root:x:0:0:root:/root:/bin/sh > /etc/passwd
RUN echo web:x:33:33:web:/:/bin/sh >> /etc/passwd
RUN --mount=type=tmpfs,target=/scratch --network=none id -u > /built && ls /sys/class/net >> /built
"""


class Bare(Moldar):
    """The program on a host without OCI runtimes."""

    def words(self, *words: str | Path) -> list[str]:
        program = [sys.executable, "-m", "moldar", *map(str, words)]
        return ["unshare", "--mount", "sh", "-c", HIDE, "sh", *program]

    def run(self, *words: str | Path, cwd: Path | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.words(*words),
            cwd=cwd,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Bare]:
    program = Bare(tmp_path)
    for name in ("crun", "runc"):
        program.environment[name.upper()] = os.path.realpath(shutil.which(name) or f"/usr/bin/{name}")
    yield program
    program.close()


def test_one_container_from_build_to_removal(bare: Bare, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    shutil.copy(shutil.which("busybox") or "/bin/busybox", context / "busybox")
    (context / "Dockerfile").write_text(DOCKERFILE)
    bare("build", "-t", "app", context)
    assert "builtin" in bare("system", "info")
    assert bare("run", "--rm", "app", "cat", "/built") == "0\nlo\n"
    assert bare.run("run", "--rm", "app", "sh", "-c", "exit 7").returncode == 7
    assert "executable file not found" in bare.fails("run", "--rm", "app", "nope", code=127)

    script = "echo up; trap 'echo down; exit 3' TERM; while :; do sleep 0.05; done"
    bare("run", "-d", "--name", "one", "--memory", "64m", "-p", "127.0.0.1::80", "app", "sh", "-c", script)
    assert bare("exec", "-u", "web", "-w", "/bin", "one", "sh", "-c", "id -u; pwd") == "33\n/bin\n"
    assert bare.run("exec", "one", "sh", "-c", "exit 5").returncode == 5
    _type(bare, "tty; stty size; exit 4\n", 4, "exec", "-it", "one", "sh")
    bare("exec", "-d", "one", "touch", "/made")
    bare("stop", "one")
    assert bare("logs", "one") == "up\ndown\n"
    assert bare("ps", "-a", "--format", "{{.Status}}").startswith("Exited (3)")
    bare("rm", "one")
    assert os.listdir(f"{bare.environment['MOLDAR_HOME']}/run/builtin") == []


def _type(bare: Bare, text: str, code: int, *words: str) -> None:
    """Run a command that ends with `code` on a terminal on which `text` is typed."""
    ours, theirs = os.openpty()
    os.set_inheritable(theirs, True)
    with subprocess.Popen(
        bare.words(*words), stdin=theirs, stdout=theirs, stderr=theirs, env=bare.environment
    ) as child:
        os.close(theirs)
        os.write(ours, text.encode())
        shown = b""
        while True:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # nobody has the other end any more
                break
        os.close(ours)
    assert b"/dev/pts/0\r\n" in shown
    assert child.returncode == code, shown
