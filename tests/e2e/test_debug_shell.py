"""`build --debug-shell`: a shell in the step that failed."""

from collections.abc import Callable
from pathlib import Path

from tests.e2e.program import Moldar

DOCKERFILE = """FROM busybox
ENV WORD=from-the-image
RUN --mount=type=bind,target=/context --mount=type=secret,id=s,env=SECRET \\
    echo made-by-the-step > /made && false
"""
COMMANDS = "cat /made /context/file; echo $WORD $SECRET; mkdir /dir; exit 7\n"


def test_files_environment_and_mounts_of_the_step(with_busybox: Moldar, project: Callable[..., Path]) -> None:
    context = project(Dockerfile=DOCKERFILE, file="seen-by-the-mount\n", value="hush")
    words = ("build", "--debug-shell", "--secret", f"id=s,src={context}/value", context)
    done = with_busybox.run(*words, stdin=COMMANDS)
    assert done.returncode == 1
    for told in ("exit code 1", "made-by-the-step\nseen-by-the-mount\nfrom-the-image hush\n", "Dockerfile:3"):
        assert told in done.stderr
    assert "hush" not in with_busybox("build", "logs")


def test_a_build_that_succeeds_opens_none(with_busybox: Moldar, project: Callable[..., Path]) -> None:
    context = project(Dockerfile="FROM busybox\nRUN true\n")
    assert "shell" not in with_busybox.run("build", "--debug-shell", context, stdin="echo never\n").stderr


def test_an_image_without_a_shell(with_busybox: Moldar, project: Callable[..., Path]) -> None:
    text = 'FROM scratch\nCOPY --from=busybox /bin/busybox /program\nRUN ["/program", "false"]\n'
    assert "has no shell" in with_busybox.fails("build", "--debug-shell", project(Dockerfile=text))


def test_standard_input_cannot_be_both(with_busybox: Moldar) -> None:
    assert "needs standard input" in with_busybox.fails("build", "--debug-shell", "-", stdin="FROM busybox\n")
