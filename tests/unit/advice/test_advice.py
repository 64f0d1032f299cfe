"""Each kind of advice: when it is given, with which figures, and when it is not."""

import pytest

from moldar.advice.advising import advise
from moldar.advice.cache_mounts import advise_cache_mounts
from moldar.advice.context import advise_context
from moldar.advice.facts import Facts, Layer, LayerFile, PastBuild, PastStep
from moldar.advice.hygiene import advise_bases, advise_secrets
from moldar.advice.manifests import advise_manifests
from moldar.advice.order import advise_order
from moldar.advice.waste import advise_waste
from moldar.advice.weight import advise_weight
from moldar.dockerfile.reading import read_dockerfile

TUTORIAL = "FROM python:3.11\nWORKDIR /app\nCOPY . .\nRUN pip install -r requirements.txt\n"
CONTEXT = (("app.py", 10), ("requirements.txt", 20))
TEXTS = (("requirements.txt", "flask==3.0.0\n"),)


def facts(text: str, **known: object) -> Facts:
    return Facts(read_dockerfile(text.encode(), "Dockerfile"))._replace(**known)


def past(number: int, copy: bool, run: float | None, *, workdir: bool = True, reused: bool = False) -> PastBuild:
    """A build of TUTORIAL: whether each step was cached, what RUN took."""
    return PastBuild(
        str(number),
        (
            PastStep("WORKDIR /app", 0.0, workdir),
            PastStep("COPY . .", 0.1, copy),
            PastStep("RUN pip install -r requirements.txt", run or 0.0, run is None, reused),
        ),
    )


def test_order_sums_what_the_move_would_have_saved() -> None:
    builds = (
        past(5, False, 5.0),
        past(4, True, None),
        past(3, False, None, reused=True),
        past(2, False, 5.5),
        past(1, False, 7.0, workdir=False),
    )
    (advice,) = advise_order(facts(TUTORIAL, builds=builds, context=CONTEXT, contents=TEXTS))
    assert advice.message == (
        "moving COPY . . below RUN pip install -r requirements.txt (and copying requirements.txt before it)"
        " would have saved 15.5 s in 3 of your last 5 builds"
    )
    assert (advice.line, advice.seconds, advice.fixable) == (3, 15.5, True)


def test_a_run_for_another_requirements_file_is_no_loss() -> None:
    build = past(1, False, 5.0)
    steps = (*build.steps[:2], build.steps[2]._replace(reason="requirements.txt changed"))
    (advice,) = advise_order(facts(TUTORIAL, builds=(build._replace(steps=steps),), context=CONTEXT, contents=TEXTS))
    assert advice.seconds == 0 and "none shows the cost" in advice.message


@pytest.mark.parametrize(
    ("run", "flags", "fixable"),
    [
        ("pip install flask", ("--mount=type=cache,target=/root/.cache/pip",), True),
        ("python3 -m pip install flask", ("--mount=type=cache,target=/root/.cache/pip",), True),
        ("npm ci", ("--mount=type=cache,target=/root/.npm",), True),
        ("yarn install", ("--mount=type=cache,target=/usr/local/share/.cache/yarn",), False),
        (
            "apt-get update && apt-get install -y curl",
            (
                "--mount=type=cache,target=/var/cache/apt,sharing=locked",
                "--mount=type=cache,target=/var/lib/apt/lists,sharing=locked",
            ),
            True,
        ),
        ("apk add curl", ("--mount=type=cache,target=/var/cache/apk,sharing=locked",), False),
        ("cargo build --release", ("--mount=type=cache,target=/usr/local/cargo/registry",), False),
        (
            "go build ./...",
            ("--mount=type=cache,target=/go/pkg/mod", "--mount=type=cache,target=/root/.cache/go-build"),
            False,
        ),
        ("npm ci && npm cache clean --force", ("--mount=type=cache,target=/root/.npm",), False),
        ("pip install flask && rm -rf /root/.cache", ("--mount=type=cache,target=/root/.cache/pip",), False),
    ],
)
def test_cache_mounts_for_each_manager(run: str, flags: tuple[str, ...], fixable: bool) -> None:
    (advice,) = advise_cache_mounts(facts(f"FROM a\nRUN {run}\n"))
    assert (advice.line, advice.lines, advice.fixable) == (2, flags, fixable)


@pytest.mark.parametrize(
    "text",
    [
        "FROM a\nRUN --mount=type=cache,target=/root/.cache/pip pip install flask\n",
        "FROM a\nUSER app\nRUN pip install flask\n",
        "FROM a\nENV PIP_NO_CACHE_DIR=1\nRUN pip install flask\n",
        "FROM a\nRUN pip list && npm run build\n",
    ],
)
def test_no_cache_mount_where_it_would_not_help(text: str) -> None:
    assert advise_cache_mounts(facts(text)) == ()


def test_no_cache_mount_for_a_base_with_another_user() -> None:
    assert advise_cache_mounts(facts("FROM a\nRUN pip install flask\n", users=(("a", "app"),))) == ()


def test_a_bind_mount_for_manifests_that_come_again() -> None:
    text = "FROM a\nCOPY requirements.txt ./\nRUN pip install -r requirements.txt\nCOPY . .\n"
    (advice,) = advise_manifests(facts(text))
    assert advice.line == 2
    assert advice.lines == ("--mount=type=bind,source=requirements.txt,target=requirements.txt",)
    assert advise_manifests(facts(text.replace("COPY . .", "COPY app.py ."))) == ()


def test_ignore_lines_with_their_bytes() -> None:
    context = ((".git/a", 1000), (".git/b", 500), ("x/__pycache__/c.pyc", 300), ("app.py", 9), (".env", 7))
    (advice,) = advise_context(facts("FROM a\nCOPY . .\n", context=context))
    assert advice.lines == (".git", "**/__pycache__", ".env")
    assert advice.size == 1807
    assert ".git (1.5 kB)" in advice.message and "secrets" in advice.message


@pytest.mark.parametrize(
    "text", ["FROM a\nCOPY . .\nRUN git describe\n", "FROM a\nCOPY . .\nCOPY .git /git\n", "FROM a\nCOPY app.py .\n"]
)
def test_no_ignore_line_for_what_a_step_needs(text: str) -> None:
    assert advise_context(facts(text, context=((".git/a", 1000),))) == ()


def test_weight_that_a_stage_would_leave_out() -> None:
    files = (
        LayerFile("usr/lib/gcc/x/cc1", "file", 30_000_000),
        LayerFile("usr/bin/gcc-12", "file", 1_000_000),
        LayerFile("var/lib/apt/lists/main", "file", 20_000_000),
        LayerFile("usr/bin/curl", "file", 5),
    )
    layer = Layer("RUN apt-get install -y gcc", 51_000_005, files)
    caches, tools = advise_weight(facts("FROM a\nRUN apt-get install -y  gcc\n", layers=(layer,)))
    assert (caches.kind, caches.line, caches.size) == ("package-cache", 2, 20_000_000)
    assert (tools.kind, tools.line, tools.size) == ("multi-stage", 2, 31_000_000)


def test_bytes_that_nobody_sees() -> None:
    layers = (
        Layer("RUN make", 400_000, (LayerFile("a/big", "file", 300_000), LayerFile("keep", "file", 100_000))),
        Layer("RUN rm -r a", 0, (LayerFile(".wh.a", "file", 0),)),
    )
    (advice,) = advise_waste(facts("FROM a\nRUN make\nRUN rm -r a\n", layers=layers))
    assert (advice.line, advice.size) == (2, 300_000)
    overwritten = (layers[0], Layer("COPY a a", 9, (LayerFile("keep", "file", 9),)))
    (advice,) = advise_waste(facts("FROM a\nRUN make\n", layers=overwritten))
    assert advice.size == 100_000 and "the largest /keep" in advice.message
    opaque = (layers[0], Layer("RUN x", 0, (LayerFile("a/.wh..wh..opq", "file", 0),)))
    assert advise_waste(facts("FROM a\n", layers=opaque))[0].size == 300_000


def test_secrets_and_bases() -> None:
    found = facts("FROM node:18 AS base\nENV DB_PASSWORD=x\nFROM base\n", digests=(("node:18", "sha256:1"),))
    (secret,) = advise_secrets(found)
    (base,) = advise_bases(found)
    assert secret.line == 2
    assert (base.line, base.lines) == (1, ("node:18@sha256:1",))
    assert advise_bases(facts("FROM scratch\nFROM a@sha256:" + "0" * 64 + "\n")) == ()


def test_a_good_dockerfile_gets_no_advice() -> None:
    text = f"FROM a@sha256:{'0' * 64}\nCOPY app.py .\nRUN make\n"
    assert advise(facts(text, context=(("app.py", 1),))) == ()
