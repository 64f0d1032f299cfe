"""Builds, as a person runs them: cached, changed, with stages, in a pipe."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.program import Moldar

Project = Callable[..., Path]
APP = """
FROM busybox
ENV NAME=world
WORKDIR /app
COPY . .
RUN echo "hello $NAME" > greeting
CMD ["cat", "/app/greeting"]
EXPOSE 5000
"""


def steps(output: str) -> dict[str, bool]:
    """The numbered steps of plain output, and whether each was cached."""
    names: dict[str, str] = {}
    cached: dict[str, bool] = {}
    for line in output.splitlines():
        number, _, rest = line.partition(" ")
        if rest.startswith("["):
            names[number] = rest
            cached.setdefault(rest, False)
        if rest == "CACHED":
            cached[names[number]] = True
    return {name: hit for name, hit in cached.items() if not name.startswith("[internal]") and "FROM" not in name}


def test_a_second_build_is_fully_cached(with_busybox: Moldar, project: Project) -> None:
    context = project(Dockerfile=APP, **{"app.py": "1"})
    first = with_busybox.run("build", "-t", "app", context)
    assert first.returncode == 0, first.stderr
    assert steps(first.stderr) == {
        "[2/4] WORKDIR /app": False,
        "[3/4] COPY . .": False,
        '[4/4] RUN echo "hello world" > greeting': False,
    }
    second = with_busybox.run("build", "-t", "app", context)
    assert all(steps(second.stderr).values()), second.stderr
    assert with_busybox("run", "--rm", "app") == "hello world\n"


def test_a_copy_of_the_context_with_other_times_is_fully_cached(with_busybox: Moldar, project: Project) -> None:
    context = project(Dockerfile=APP, **{"app.py": "1", "package/module.py": "2"})
    with_busybox("build", "-t", "app", context)
    clone = context.parent / "clone"
    shutil.copytree(context, clone, copy_function=shutil.copyfile)
    again = with_busybox.run("build", "-t", "app", clone)
    assert all(steps(again.stderr).values()), again.stderr


def test_an_edit_reruns_only_what_comes_after_the_copy(with_busybox: Moldar, project: Project) -> None:
    context = project(Dockerfile=APP.replace("RUN echo", "RUN cat app.py && echo"), **{"app.py": "1"})
    with_busybox("build", "-t", "app", context)
    (context / "app.py").write_text("2")
    hits = list(steps(with_busybox.run("build", "-t", "app", context).stderr).values())
    assert hits == [True, False, False]


def test_no_cache_runs_everything(with_busybox: Moldar, project: Project) -> None:
    context = project(Dockerfile=APP)
    with_busybox("build", "-t", "app", context)
    again = with_busybox.run("build", "--no-cache", "-t", "teste:latest", context)
    assert not any(steps(again.stderr).values())
    assert "naming to docker.io/library/teste:latest" in again.stderr


def test_unused_stages_do_not_run(with_busybox: Moldar, project: Project) -> None:
    context = project(
        Dockerfile="FROM busybox AS unused\nRUN false\nFROM busybox AS used\nRUN echo a > /a\nFROM scratch\n"
        "COPY --from=used /a /b\n"
    )
    with_busybox("build", "-t", "x", context)
    assert with_busybox("image", "inspect", "--format", "{{len .RootFS.Layers}}", "x") == "1\n"


def test_the_image_says_what_the_dockerfile_said(with_busybox: Moldar, project: Project) -> None:
    context = project(Dockerfile=APP)
    with_busybox("build", "-t", "app", context)
    config = json.loads(with_busybox("image", "inspect", "app"))[0]["Config"]
    assert config["Cmd"] == ["cat", "/app/greeting"]
    assert config["WorkingDir"] == "/app"
    assert "NAME=world" in config["Env"]
    assert list(config["ExposedPorts"]) == ["5000/tcp"]
    history = with_busybox("history", "--no-trunc", "--format", "{{.CreatedBy}}", "app").splitlines()
    assert history[0] == "EXPOSE [5000/tcp]"
    assert history[2].startswith('RUN /bin/sh -c echo "hello $NAME" > greeting')


def test_quiet_prints_only_the_image_id(with_busybox: Moldar, project: Project) -> None:
    done = with_busybox.run("build", "-q", project(Dockerfile=APP))
    assert done.stderr == ""
    assert done.stdout.startswith("sha256:")
    assert len(done.stdout.strip()) == 71


def test_ignored_files_do_not_reach_the_image(with_busybox: Moldar, project: Project) -> None:
    context = project(
        Dockerfile="FROM busybox\nCOPY . /app\nRUN find /app -type f > /list",
        **{".dockerignore": "**/__pycache__\n", "a/__pycache__/x.pyc": "", "a/x.py": ""},
    )
    with_busybox("build", "-t", "app", context)
    assert "__pycache__" not in with_busybox("run", "--rm", "app", "cat", "/list")


def test_the_ignore_file_is_shown_as_loaded(with_busybox: Moldar, project: Project) -> None:
    context = project(Dockerfile="FROM busybox\nCOPY . /app\n")
    for size in (2, 7):  # an empty transfer has two bytes of its own
        lines = with_busybox.run("build", "--progress=plain", context).stderr.splitlines()
        at = next(number for number, line in enumerate(lines) if line.endswith("[internal] load .dockerignore"))
        assert lines[at + 1].endswith(f" transferring context: {size}B done")
        assert lines[at + 2].endswith(" DONE 0.0s")
        (context / ".dockerignore").write_text("*.pyc")


def test_what_a_base_says_can_be_unset(with_busybox: Moldar, project: Project) -> None:
    base = project(
        "base",
        Dockerfile="FROM busybox\nENV SECRET=1 KEPT=2\nEXPOSE 80 81 53/udp\nVOLUME /data /kept\nLABEL gone=1 kept=2",
    )
    with_busybox("build", "-t", "base", base)
    context = project(Dockerfile="FROM base\nENV MORE=3\nRUN echo $SECRET$MORE > /seen\n")
    words = ["--unset-env=SECRET", "--unset-env=MORE", "--unset-expose=80-81", "--unset-volume=/data/"]
    with_busybox("build", *words, "--unset-label=gone", "--unset-label=unknown", "-t", "app", context)
    config = json.loads(with_busybox("image", "inspect", "app"))[0]["Config"]
    assert [variable for variable in config["Env"] if not variable.startswith("PATH=")] == ["KEPT=2"]
    assert list(config["ExposedPorts"]) == ["53/udp"]
    assert list(config["Volumes"]) == ["/kept"]
    assert config["Labels"] == {"kept": "2"}
    assert with_busybox("run", "--rm", "app", "cat", "/seen") == "13\n"


@pytest.mark.parametrize(
    ("flag", "hint"),
    [
        ("--unset-env=A=1", "give the name alone"),
        ("--unset-volume=data", "give the volume's absolute path"),
        ("--unset-expose=http", "EXPOSE takes a port or a range of ports"),
    ],
)
def test_what_cannot_be_unset(moldar: Moldar, project: Project, flag: str, hint: str) -> None:
    assert hint in moldar.fails("build", flag, project(Dockerfile="FROM scratch\nCOPY a /\n", a=""))


def test_a_cache_mount_lasts_and_leaves_no_trace(with_busybox: Moldar, project: Project) -> None:
    text = (
        "FROM busybox\nARG N\nRUN --mount=type=cache,target=/cache echo $N >> /cache/log && cat /cache/log > /log\n"
    )
    context = project(Dockerfile=text)
    for number in ("1", "2"):
        with_busybox("build", "--build-arg", f"N={number}", "-t", "app", context)
    assert with_busybox("run", "--rm", "app", "cat", "/log") == "1\n2\n"
    assert with_busybox.run("run", "--rm", "app", "ls", "/cache").returncode != 0


def test_a_bind_mount_is_read_but_not_kept(with_busybox: Moldar, project: Project) -> None:
    text = "FROM busybox\nWORKDIR /app\nRUN --mount=type=bind,source=list.txt,target=list.txt cp list.txt /copy\n"
    context = project(Dockerfile=text, **{"list.txt": "Flask\n"})
    with_busybox("build", "-t", "app", context)
    assert with_busybox("run", "--rm", "app", "cat", "/copy") == "Flask\n"
    assert with_busybox("run", "--rm", "app", "ls", "/app") == ""


def test_many_layers(with_busybox: Moldar, project: Project) -> None:
    lines = "".join(f"RUN echo {number} > /f{number}\n" for number in range(60))
    copies = "".join(f"COPY a /c{number}\n" for number in range(60))
    context = project(Dockerfile=f"FROM busybox\n{lines}{copies}RUN ls / | wc -l > /count\n", a="a")
    with_busybox("build", "-t", "deep", context)
    assert int(with_busybox("run", "--rm", "deep", "cat", "/count")) > 120


def test_the_cgroups_of_steps_are_below_the_given_one(with_busybox: Moldar, project: Project) -> None:
    """The runtime makes the parent and leaves it, as Docker's does."""
    context = project(Dockerfile="FROM busybox\nRUN true\n")
    name = f"moldar-test-{os.urandom(4).hex()}"
    told = with_busybox.run("build", "--cgroup-parent", f"/{name}", context)
    assert told.returncode == 0, told.stderr
    assert "--cgroup-parent" not in told.stderr, "nothing to note where cgroups work"
    groups = Path("/sys/fs/cgroup")
    made = [*groups.glob(name), *groups.glob(f"*/{name}")]
    for directory in made:
        directory.rmdir()
    assert made


def test_the_host_s_null_device_stays_root_s(with_busybox: Moldar, project: Project) -> None:
    """crun gives what it finds as a standard stream to the process's user."""
    os.chown("/dev/null", 0, 0)
    with_busybox("run", "-d", "--name", "box", "-u", "33:34", "busybox", "sleep", "60")
    with_busybox("exec", "-u", "33:34", "box", "true")
    with_busybox("exec", "-d", "-u", "33:34", "box", "true")
    with_busybox("build", project(Dockerfile="FROM busybox\nUSER 33:34\nRUN id\n"))
    status = os.stat("/dev/null")
    assert (status.st_uid, status.st_gid) == (0, 0)
