"""A fully cached build imports what it needs and nothing else: the list is in tests/golden/cached-build-imports.txt.

Run with UPDATE_GOLDENS=1 to write the list anew, and look at what changed.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.program import Moldar

GOLDEN = Path(__file__).parent.parent / "golden" / "cached-build-imports.txt"
DOCKERFILE = "FROM busybox\nENV A=1\nWORKDIR /app\nCOPY . .\nRUN echo installed > /installed\nCMD ['sh']\n"
HEAVY = ("asyncio", "dataclasses", "http", "inspect", "logging", "pathlib", "ssl", "subprocess", "tempfile", "urllib")
PROBE = """
import sys
before = set(sys.modules)
from moldar.cli.dispatch import run
status = run(sys.argv[1:])
print(*sorted(set(sys.modules) - before), sep="\\n")
sys.exit(status)
"""


RUNNING = (
    "bz2",
    "ctypes",
    "isal",
    "lzma",
    "moldar.app.machinery",
    "moldar.builder.run",
    "moldar.sandbox.runtime",
    "shutil",
    "socket",
    "zstandard",
)


def test_a_cached_build_imports_only_what_it_needs(with_busybox: Moldar, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE.replace("'", '"'))
    with_busybox("build", "-q", "-t", "app", context)
    log, modules = imported(with_busybox, context)
    assert log.count("CACHED") == 4, log
    assert not [name for name in modules if name.partition(".")[0] in HEAVY]
    ours = "".join(name + "\n" for name in modules if name.partition(".")[0] == "moldar")
    outside = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names - {"moldar"}
    assert not outside, f"packages from outside the standard library: {outside}"
    if os.environ.get("UPDATE_GOLDENS"):
        GOLDEN.write_text(ours)
    assert ours == GOLDEN.read_text()


def test_a_build_that_reuses_what_a_run_made_imports_nothing_to_run_it(with_busybox: Moldar, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE.replace("'", '"'))
    with_busybox("build", "-q", "-t", "app", context)
    (context / "new.py").write_text("print(1)")
    log, modules = imported(with_busybox, context, "--explain")
    assert "reused" in log, log
    assert not [name for name in modules if name in HEAVY + RUNNING]


def imported(moldar: Moldar, context: Path, *options: str) -> tuple[str, list[str]]:
    """What a build says, and which modules it imports."""
    words = [sys.executable, "-I", "-c", PROBE, "build", "--progress=plain", *options, "-t", "app", str(context)]
    done = subprocess.run(words, env=moldar.environment, capture_output=True, text=True, check=True, timeout=60)
    return done.stderr, done.stdout.split()
