"""A fully cached build of the small project, beside `buildah bud --layers` in the same run, as a ratio.

    python bench/cached_build.py [--rounds 10]

Both stores are fresh and on the same file system; the base is a busybox image that each builds for itself.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DOCKERFILE = """
FROM localhost/base
ENV PYTHONDONTWRITEBYTECODE=1
ENV PYTHONUNBUFFERED=1
WORKDIR /app
COPY . .
RUN echo installed > /installed
CMD ["python3", "-m", "flask", "run", "--host=0.0.0.0"]
EXPOSE 5000
"""
BASE = 'FROM scratch\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "--install", "-s", "/bin"]\n'


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=10)
    rounds = options.parse_args().rounds
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        moldar, buildah = prepare(root)
        times: dict[str, list[float]] = {"moldar": [], "buildah": []}
        for _ in range(rounds):  # alternating, so that noise of the machine hits both
            times["moldar"].append(timed(moldar))
            times["buildah"].append(timed(buildah))
    ours, theirs = (statistics.median(times[name]) for name in ("moldar", "buildah"))
    print(f"cached build, median of {rounds}: moldar {ours * 1000:.0f} ms (best {min(times['moldar']) * 1000:.0f})")
    print(f"buildah bud --layers: {theirs * 1000:.0f} ms (best {min(times['buildah']) * 1000:.0f})")
    print(f"ratio: {ours / theirs:.2f}")


def prepare(root: Path) -> tuple[list[str], list[str]]:
    """Build everything once with both tools; the two commands whose repetition is timed."""
    context = root / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "app.py").write_text("print('hello')\n")
    base = root / "base"
    base.mkdir()
    (base / "Dockerfile").write_text(BASE)
    shutil.copy(shutil.which("busybox") or "/bin/busybox", base)
    os.environ["MOLDAR_HOME"] = str(root / "home")
    moldar = str(Path(sys.executable).with_name("moldar"))
    subprocess.run([moldar, "build", "-q", "-t", "localhost/base", str(base)], check=True, capture_output=True)
    storage = ["buildah", "--root", str(root / "storage"), "--runroot", str(root / "run")]
    theirs = [*storage, "bud", "-q", "--layers", "--isolation", "chroot", "-t"]
    subprocess.run([*theirs, "localhost/base", str(base)], check=True, capture_output=True)
    commands = ([moldar, "build", "-q", "-t", "app", str(context)], [*theirs, "app", str(context)])
    for command in commands:
        subprocess.run(command, check=True, capture_output=True)
    return commands


def timed(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
