"""Steps that are reused although copied files changed, because they never looked at them: as the program is used."""

import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.program import Moldar
from tests.e2e.test_build import steps

Project = Callable[..., Path]
WRONG_ORDER = """
FROM busybox
WORKDIR /app
COPY . .
RUN cat requirements.txt > /installed && date +%N >> /installed
CMD ["cat", "/installed"]
"""
INSTALL = "[4/4] RUN cat requirements.txt > /installed && date +%N >> /installed"


def files_of(moldar: Moldar, image: str, directory: Path) -> dict[str, tuple[object, ...]]:
    """Every path of an image's root file system with type, mode, owner, content or target, and attributes."""
    archive = directory / f"{image}.tar"
    root = directory / image
    root.mkdir()
    context = directory / f"{image}-context"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {image}\n")
    moldar("build", "-o", f"type=tar,dest={archive}", context)
    subprocess.run(["tar", "-xpf", archive, "--xattrs", "-C", root], check=True)
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        kind = stat.S_IFMT(status.st_mode)
        shown: object = (
            os.readlink(path) if kind == stat.S_IFLNK else path.read_bytes() if kind == stat.S_IFREG else ""
        )
        names = tuple(
            (name, os.getxattr(path, name, follow_symlinks=False))
            for name in os.listxattr(path, follow_symlinks=False)
        )
        links = 1 if kind == stat.S_IFDIR else status.st_nlink
        found[str(path.relative_to(root))] = (status.st_mode, status.st_uid, status.st_gid, links, shown, names)
    return found


def test_a_step_that_read_nothing_of_the_change_is_reused(with_busybox: Moldar, project: Project) -> None:
    context = project(Dockerfile=WRONG_ORDER, **{"app.py": "1\n", "requirements.txt": "flask\n"})
    with_busybox("build", "-t", "app", context)
    before = with_busybox("run", "--rm", "app")
    (context / "app.py").write_text("2 and longer\n")
    again = with_busybox.run("build", "-t", "app", context)
    assert steps(again.stderr)["[3/4] COPY . ."] is False, again.stderr
    assert steps(again.stderr)[INSTALL] is True, again.stderr
    assert with_busybox("run", "--rm", "app") == before
    assert with_busybox("run", "--rm", "app", "cat", "/app/app.py") == "2 and longer\n"
    third = with_busybox.run("build", "-t", "app", context)
    assert all(steps(third.stderr).values()), third.stderr


def test_what_it_did_read_makes_it_run(with_busybox: Moldar, project: Project) -> None:
    context = project(Dockerfile=WRONG_ORDER, **{"app.py": "1\n", "requirements.txt": "flask\n"})
    with_busybox("build", "-t", "app", context)
    (context / "requirements.txt").write_text("quart\n")
    again = with_busybox.run("build", "-t", "app", context)
    assert steps(again.stderr)[INSTALL] is False, again.stderr
    assert with_busybox("run", "--rm", "app").startswith("quart\n")
    (context / "requirements.txt").write_text("flask\n")  # as in the first build: its record serves again
    assert all(steps(with_busybox.run("build", "-t", "app", context).stderr).values())


@pytest.mark.parametrize("flag", ["--cache-mode=exact", "--no-cache"])
def test_it_can_be_turned_off(with_busybox: Moldar, project: Project, flag: str) -> None:
    context = project(Dockerfile=WRONG_ORDER, **{"app.py": "1\n", "requirements.txt": "flask\n"})
    with_busybox("build", "-t", "app", context)
    (context / "app.py").write_text("2\n")
    again = with_busybox.run("build", flag, "-t", "app", context)
    assert steps(again.stderr)[INSTALL] is False, again.stderr


def test_an_unknown_cache_mode_is_refused(with_busybox: Moldar, project: Project) -> None:
    context = project(Dockerfile=WRONG_ORDER)
    assert "--cache-mode" in with_busybox.fails("build", "--cache-mode=guess", context, code=125)


def test_the_image_is_the_one_that_a_build_without_cache_makes(
    with_busybox: Moldar, project: Project, tmp_path: Path
) -> None:
    text = (
        "FROM busybox\nCOPY . /app\nWORKDIR /app\n"
        "RUN echo * > /list && mkdir made && rm -r gone && chmod 700 tool && ln tool made/link\n"
        "RUN cat data >> data2\n"
        "RUN test -f made/link && cp data2 /copy\n"
    )
    files = {"Dockerfile": text, "app.py": "1\n", "gone/x": "x", "tool": "t", "data": "d", "data2": "e"}
    context = project(**files)
    with_busybox("build", "-t", "old", context)
    (context / "app.py").write_text("another\n")
    (context / "app.py").chmod(0o755)
    reused = with_busybox.run("build", "-t", "reused", context)
    assert list(steps(reused.stderr).values())[-3:] == [True, True, True], reused.stderr
    with_busybox("build", "--no-cache", "-t", "fresh", context)
    assert files_of(with_busybox, "reused", tmp_path) == files_of(with_busybox, "fresh", tmp_path)


def test_several_copied_layers_and_a_stage(with_busybox: Moldar, project: Project) -> None:
    text = (
        "FROM busybox AS made\nCOPY tool.txt /\nRUN cp /tool.txt /tool2.txt\n"
        "FROM busybox\nCOPY a /a\nRUN cat /a/read > /one\nCOPY b /b\nCOPY --from=made /tool2.txt /\n"
        "RUN cat /b/read > /two\n"
    )
    names = ["a/read", "a/unread", "b/read", "b/unread", "tool.txt"]
    context = project(Dockerfile=text, **{name: name for name in names})
    with_busybox("build", context)
    for name in ("a/unread", "b/unread", "tool.txt"):
        (context / name).write_text(f"{name} changed")
        outcome = steps(with_busybox.run("build", context).stderr)
        ran = [step for step, cached in outcome.items() if not cached and "RUN" in step]
        assert ran == (["[made 3/3] RUN cp /tool.txt /tool2.txt"] if name == "tool.txt" else []), (name, outcome)
    (context / "b/read").write_text("changed")
    outcome = steps(with_busybox.run("build", context).stderr)
    assert [step for step, cached in outcome.items() if not cached and "RUN" in step] == [
        "[stage-1 6/6] RUN cat /b/read > /two"
    ]


def test_the_store_is_sound_and_pruning_ends_the_reuse(with_busybox: Moldar, project: Project) -> None:
    context = project(Dockerfile=WRONG_ORDER, **{"app.py": "1\n", "requirements.txt": "flask\n"})
    with_busybox("build", "-t", "app", context)
    (context / "app.py").write_text("2\n")
    with_busybox("build", "-t", "app", context)
    assert "sound" in with_busybox("system", "check")
    with_busybox("rmi", "app")
    with_busybox("system", "prune", "-f")
    (context / "app.py").write_text("3\n")
    assert steps(with_busybox.run("build", context).stderr)[INSTALL] is False
    assert "sound" in with_busybox("system", "check")


def test_the_outcome_says_what_was_read(with_busybox: Moldar, project: Project) -> None:
    context = project(Dockerfile=WRONG_ORDER, **{"app.py": "1\n", "requirements.txt": "flask\n"})
    with_busybox("build", context)
    (context / "app.py").write_text("2\n")
    lines = with_busybox.run("build", "--progress=rawjson", context).stderr.splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    assert "read 1 of 3 copied files, none changed" in json.dumps(told)


@pytest.mark.parametrize("way", ["--cache-from", "cache import"])
def test_read_sets_travel_with_the_cache(
    with_busybox: Moldar, project: Project, busybox_archive: Path, tmp_path: Path, way: str
) -> None:
    context = project(Dockerfile=WRONG_ORDER, **{"app.py": "1\n", "requirements.txt": "flask\n"})
    cache = tmp_path / "cache"
    with_busybox("build", "--cache-to", f"type=local,dest={cache},mode=max", context)
    (tmp_path / "other").mkdir()
    other = Moldar(tmp_path / "other")
    other("load", "-i", busybox_archive)
    (context / "app.py").write_text("2\n")
    flags = ["--cache-from", f"type=local,src={cache}"]
    if way == "cache import":
        other("cache", "import", f"type=local,src={cache}")
        flags = []
    outcome = other.run("build", *flags, "-t", "app", context)
    assert steps(outcome.stderr)[INSTALL] is True, outcome.stderr
    assert other("run", "--rm", "app").startswith("flask\n")
    (context / "app.py").write_text("3\n")  # now from its own store, whatever became of the cache
    outcome = other.run("build", "-t", "app", context)
    assert steps(outcome.stderr)[INSTALL] is True, outcome.stderr
