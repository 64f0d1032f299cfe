"""What it costs to record what a RUN reads: the same step with and without it, alternating in the same run.

    python bench/tracing.py [--rounds 5] [--only pip,npm,c,grep]

The base images are those of the user's own store (`python:3.11.6-slim`, `node:18`). Each round is a step that was
never run before, over a freshly copied context, so that nothing is reused. Prints medians and their ratio.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Case(NamedTuple):
    """One step: the Dockerfile before it, the command, and what makes its context."""

    before: str
    command: str
    fill: Callable[[Path], None]


def small_app(context: Path) -> None:
    (context / "app.py").write_text("print('hello')\n")
    for number in range(40):
        (context / f"module{number}.py").write_text(f"x = {number}\n")


def node_app(context: Path) -> None:
    dependencies = {"express": "4.18.2"}
    (context / "package.json").write_text(
        json.dumps({"name": "app", "version": "1.0.0", "dependencies": dependencies})
    )
    for number in range(40):
        (context / f"module{number}.js").write_text(f"exports.x = {number};\n")


def c_project(context: Path) -> None:
    names = [f"part{number}" for number in range(300)]
    for name in names:
        (context / f"{name}.c").write_text(f'#include "all.h"\nint {name}(int x) {{ return printf("%d", x); }}\n')
    (context / "all.h").write_text("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n")
    (context / "main.c").write_text("int main(void) { return 0; }\n")
    objects = " ".join(f"{name}.o" for name in [*names, "main"])
    (context / "Makefile").write_text(f"app: {objects}\n\tgcc -o $@ $^\n%.o: %.c all.h\n\tgcc -O1 -c -o $@ $<\n")


def many_files(context: Path) -> None:
    for folder in range(200):
        directory = context / f"d{folder}"
        directory.mkdir()
        for number in range(100):
            (directory / f"f{number}").write_text(f"{folder} {number} " * 20)


COMPILER = "RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev make >/dev/null\n"
CASES = {
    "pip": Case("FROM python:3.11.6-slim\n", "python -m pip install -q --root-user-action ignore Flask", small_app),
    "npm": Case("FROM node:18\n", "npm install --no-audit --no-fund --loglevel=error", node_app),
    "c": Case(f"FROM python:3.11.6-slim\n{COMPILER}", "make -s -j2", c_project),
    "grep": Case("FROM python:3.11.6-slim\n", "grep -r nothing . || true", many_files),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--only", default=",".join(CASES))
    given = options.parse_args()
    for name in given.only.split(","):
        times: dict[str, list[float]] = {"exact": [], "reads": []}
        with tempfile.TemporaryDirectory() as directory:
            context = Path(directory)
            CASES[name].fill(context)
            step(CASES[name], context, "exact", "warm")  # base image, compiler, download caches
            for number in range(given.rounds):
                for mode in ("exact", "reads") if number % 2 else ("reads", "exact"):
                    times[mode].append(step(CASES[name], context, mode, f"{mode}-{number}"))
        exact, reads = (statistics.median(times[mode]) for mode in ("exact", "reads"))
        print(
            f"{name}: native {exact:.3f} s (best {min(times['exact']):.3f}), traced {reads:.3f} s"
            f" (best {min(times['reads']):.3f}), ratio {reads / exact:.3f}",
            flush=True,
        )


def step(case: Case, context: Path, mode: str, round_name: str) -> float:
    """Seconds that the case's RUN took in one build; `round_name` makes it a step of its own."""
    (context / "Dockerfile").write_text(
        f"{case.before}WORKDIR /app\nCOPY . .\nENV ROUND={round_name}-{os.getpid()}\nRUN {case.command}\n"
    )
    moldar = str(Path(sys.executable).with_name("moldar"))
    command = [moldar, "build", "--progress=rawjson", f"--cache-mode={mode}", str(context)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    (vertex,) = [
        event["id"]
        for event in events
        if event["event"] == "VertexStarted" and f"RUN {case.command}" in event["name"]
    ]
    moments = {event["event"]: event["time"] for event in events if event.get("id") == vertex}
    return float(moments["VertexCompleted"] - moments["VertexStarted"])


if __name__ == "__main__":
    main()
