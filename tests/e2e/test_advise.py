"""`moldar advise`: what it tells after real builds, and rewritten Dockerfiles whose images behave the same."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.advise_projects import NODE, PYTHON
from tests.advise_projects import Project as Example
from tests.e2e.program import Moldar

Project = Callable[..., Path]
STAND_INS = Path(__file__).parents[2] / "scripts" / "stand-ins"
TOOLS = """\
FROM busybox
COPY --chmod=755 apt-get go gcc /bin/
"""
APT_GET = """\
#!/bin/sh
[ "$1" = install ] || exit 0
sleep 1
mkdir -p /usr/bin /var/lib/apt/lists
for word; do case $word in install|-*) ;; *) printf '#!/bin/sh\\necho %s $*\\n' $word > /usr/bin/$word
chmod 755 /usr/bin/$word; echo $word >> /var/lib/apt/lists/seen ;; esac; done
"""
GO = """\
#!/bin/sh
case $1 in
mod) sleep 1; mkdir -p /go/pkg/mod; cp go.mod /go/pkg/mod/listed ;;
build) [ -f /go/pkg/mod/listed ] || exit 1; (echo '#!/bin/sh'; cat *.go) > $3; chmod 755 $3 ;;
esac
"""
GCC = '#!/bin/sh\n(echo "#!/bin/sh"; cat $3) > $2; chmod 755 $2\n'
SMALL = {
    "go": Example(
        {
            "Dockerfile": "FROM tools AS build\nWORKDIR /src\nCOPY . .\nRUN go mod download\nRUN go build -o /out\n\n"
            'FROM busybox\nCOPY --from=build /out /bin/program\nCMD ["program"]\n',
            "go.mod": "module hello\n",
            "main.go": "echo built\n",
        },
        (),
        "built\n",
    ),
    "apt": Example(
        {
            "Dockerfile": "FROM tools\nCOPY . /work\nRUN apt-get update \\\n    && apt-get install -y jq curl \\\n"
            '    && rm -rf /var/lib/apt/lists/*\nWORKDIR /work\nCMD ["sh", "run.sh"]\n',
            "run.sh": "jq one\ncurl two\n",
        },
        (),
        "jq one\ncurl two\n",
    ),
    "multi-stage candidate": Example(
        {
            "Dockerfile": "FROM tools\nWORKDIR /app\nCOPY . .\nRUN apt-get update && apt-get install -y make\n"
            'RUN gcc -o /bin/speak speak.c\nCMD ["speak"]\n',
            "speak.c": "echo compiled\n",
        },
        (),
        "compiled\n",
    ),
}


@pytest.fixture
def with_tools(with_busybox: Moldar, project: Project) -> Moldar:
    """A store with an image whose package managers take a second."""
    with_busybox(
        "build", "-t", "tools", project("tools", Dockerfile=TOOLS, **{"apt-get": APT_GET, "go": GO, "gcc": GCC})
    )
    return with_busybox


def fixed(moldar: Moldar, example: Example, context: Path) -> tuple[float, float]:
    """Rewrite the Dockerfile of `example`; the seconds of a rebuild before and after. Its image behaves as before."""
    moldar("build", "-t", "app", context)
    assert moldar("run", "--rm", "app") == example.prints
    told = moldar("advise", "--fix", "--yes", context)
    assert "The images are the same" in told, told
    measured = re.search(r"exact caching: ([\d.]+) s before, ([\d.]+) s after", told)
    assert measured, told
    assert (context / "Dockerfile").read_text() != example.files["Dockerfile"]
    moldar("build", "-t", "app", context)
    assert moldar("run", "--rm", "app") == example.prints
    before, after = measured.groups()
    return float(before), float(after)


@pytest.mark.parametrize("name", SMALL)
def test_a_rewritten_dockerfile_rebuilds_quicker(with_tools: Moldar, tmp_path: Path, name: str) -> None:
    before, after = fixed(with_tools, SMALL[name], SMALL[name].write(tmp_path / "app"))
    assert before > 1 and after < before - 0.5


@pytest.mark.parametrize("example", [PYTHON, NODE], ids=["python", "node"])
def test_real_package_managers(moldar: Moldar, tmp_path: Path, example: Example) -> None:
    listed = subprocess.run([sys.executable, STAND_INS, "--list"], capture_output=True, text=True, check=True)
    archives = dict(line.split(" ")[:2] for line in listed.stdout.splitlines())
    moldar("load", "-i", archives[example.bases[0]])
    before, after = fixed(moldar, example, example.write(tmp_path / "app"))
    assert after < before / 2


def test_advice_after_builds(with_tools: Moldar, tmp_path: Path) -> None:
    context = SMALL["apt"].write(tmp_path / "app")
    (context / "__pycache__").mkdir()
    (context / "__pycache__" / "x.pyc").write_bytes(bytes(2000))
    for number in range(3):
        (context / "run.sh").write_text(f"echo {number}\n")
        with_tools("build", "--cache-mode=exact", "-t", "app", context)
    told = with_tools("advise", context)
    assert re.search(
        r"order \(line 2\): moving COPY \. /work below .* saved [2-9]\.\d s in 2 of your last 3 builds", told
    )
    assert "__pycache__ (2.0 kB)" in told
    by_image = json.loads(with_tools("advise", "--format", "json", "app"))
    assert {"order", "cache-mount", "context", "unpinned-base"} == {each["kind"] for each in by_image["advice"]}
    assert by_image["builds"] == 3


def test_nothing_is_written_before_yes(with_tools: Moldar, tmp_path: Path) -> None:
    example = SMALL["multi-stage candidate"]
    context = example.write(tmp_path / "app")
    done = with_tools.run("advise", "--fix", context)
    assert done.returncode == 1 and "Nothing written" in done.stdout, done.stderr
    assert (context / "Dockerfile").read_text() == example.files["Dockerfile"]
    assert with_tools("build", "history", "ls", "-q").count("\n") == 1, "the trial is not in the history"


def test_a_rewrite_that_would_change_the_image_is_not_written(with_tools: Moldar, tmp_path: Path) -> None:
    """The copy brings what the install then replaces: only building both shows it."""
    dockerfile = "FROM tools\nRUN mkdir -p /usr/bin && ln -s /usr/bin /tools\n"
    dockerfile += "COPY bin /tools\nRUN apt-get install -y jq\n"
    context = Example({"Dockerfile": dockerfile, "bin/jq": "ours\n", "run.sh": ""}, (), "").write(tmp_path / "app")
    done = with_tools.run("advise", "--fix", "--yes", context)
    assert done.returncode == 1 and "/usr/bin/jq differs" in done.stdout, done.stdout + done.stderr
    assert (context / "Dockerfile").read_text() == dockerfile


def test_mistakes(with_busybox: Moldar, tmp_path: Path) -> None:
    assert "failed to read dockerfile" in with_busybox.fails("advise", tmp_path)
    assert "no such image" in with_busybox.fails("advise", "nothing-of-that-name")
    assert "no build of busybox" in with_busybox.fails("advise", "busybox")
    with_busybox.fails("advise", "--format", "xml", tmp_path, code=125)
