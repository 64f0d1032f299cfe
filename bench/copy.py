"""A cold COPY, stored and exported with gzip layers, beside `buildah bud` and `buildah push` in the same run.

    python bench/copy.py [--files 5000] [--bytes 2048] [--large 8] [--mebibytes 8] [--rounds 1] [--directory /dev/shm]
    python bench/copy.py --files 100000 --large 64 --mebibytes 32

Two contexts: many small files, and a few large ones of random bytes. Every round has fresh stores, and a warm page
cache for both. Each tool builds an image FROM scratch and writes it to an OCI archive. Times are of the clock, memory
is the largest process's peak. Then the same build again, all cached, and again after one file has changed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple


class Cost(NamedTuple):
    """Seconds by the clock and by the processors, and mebibytes at the peak."""

    seconds: float
    cpu: float
    memory: float


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--files", type=int, default=5000)
    options.add_argument("--bytes", type=int, default=2048)
    options.add_argument("--large", type=int, default=8)
    options.add_argument("--mebibytes", type=int, default=8)
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--directory", default="/dev/shm")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.directory) as directory:
        root = Path(directory)
        kind = subprocess.run(["stat", "-fc", "%T", directory], check=True, capture_output=True, text=True)
        print(f"on {kind.stdout.strip()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
        if chosen.files:
            measure(f"{chosen.files} files of {chosen.bytes} bytes", root, make_small(root, chosen), chosen.rounds)
        if chosen.large:
            what = f"{chosen.large} files of {chosen.mebibytes} MiB"
            measure(what, root, make_large(root, chosen), chosen.rounds)


def make_small(root: Path, chosen: argparse.Namespace) -> Path:
    """A context of directories with 100 files each."""
    context = root / "small"
    for number in range(chosen.files):
        directory = context / f"data/{number // 10000:02}/{number // 100 % 100:02}"
        if not number % 100:
            directory.mkdir(parents=True)
        (directory / f"file{number % 100:02}.txt").write_bytes(
            (os.urandom(64) * (chosen.bytes // 64 + 1))[: chosen.bytes]
        )
    return with_dockerfile(context)


def make_large(root: Path, chosen: argparse.Namespace) -> Path:
    """A context of large files that do not compress."""
    context = root / "large"
    (context / "data").mkdir(parents=True)
    for number in range(chosen.large):
        with (context / f"data/file{number:03}").open("wb") as file:
            for _ in range(chosen.mebibytes):
                file.write(os.urandom(1 << 20))
    return with_dockerfile(context)


def with_dockerfile(context: Path) -> Path:
    (context / "Dockerfile").write_text("FROM scratch\nCOPY data /data/\n")
    return context


def measure(what: str, root: Path, context: Path, rounds: int) -> None:
    """Prints the best of `rounds` for every part, and ratios."""
    costs: dict[str, list[Cost]] = {}
    for _ in range(rounds):
        for tool in ("moldar", "buildah"):
            for part, cost in one_round(tool, root, context).items():
                costs.setdefault(f"{part} {tool}", []).append(cost)
    print(f"{what}:")
    for part in ("build", "export", "cached", "changed"):
        ours, theirs = (min(costs[f"{part} {tool}"]) for tool in ("moldar", "buildah"))
        print(
            f"  {part:7} moldar {shown(ours)}   buildah {shown(theirs)}   ratio {ours.seconds / theirs.seconds:.2f}"
        )
    ours, theirs = (
        min(a.seconds + b.seconds for a, b in zip(costs[f"build {tool}"], costs[f"export {tool}"], strict=True))
        for tool in ("moldar", "buildah")
    )
    print(f"  build and export: moldar {ours:.2f} s, buildah {theirs:.2f} s, ratio {ours / theirs:.2f}")
    shutil.rmtree(context)


def shown(cost: Cost) -> str:
    return f"{cost.seconds:6.2f} s {cost.cpu:6.2f} cpu s {cost.memory:5.0f} MiB"


def one_round(tool: str, root: Path, context: Path) -> dict[str, Cost]:
    """Build, export, build again, change one file and build again, with a store of its own."""
    store, archive = root / "store", root / "image.tar"
    store.mkdir()
    build, export = commands(tool, store, context, archive)
    changed = next(path for path in sorted(context.rglob("*")) if path.is_file() and path.name != "Dockerfile")
    time.sleep(0.1)  # files just made are too young for any index by time
    costs = {"build": run(build, store), "export": run(export, store), "cached": run(build, store)}
    with changed.open("r+b") as file:
        file.write(os.urandom(16))
    costs["changed"] = run(build, store)
    archive.unlink()
    shutil.rmtree(store)
    return costs


def commands(tool: str, store: Path, context: Path, archive: Path) -> tuple[list[str], list[str]]:
    """The commands that build and that export."""
    if tool == "moldar":
        moldar = [sys.executable, "-m", "moldar"]
        return [*moldar, "build", "-q", "-t", "bench", str(context)], [*moldar, "save", "-o", str(archive), "bench"]
    buildah = ["buildah", "--root", str(store / "storage"), "--runroot", str(store / "run")]
    build = [*buildah, "bud", "-q", "--layers", "-t", "bench", str(context)]
    return build, [*buildah, "push", "-q", "localhost/bench", f"oci-archive:{archive}"]


def run(command: list[str], store: Path) -> Cost:
    environment = os.environ | {"MOLDAR_HOME": str(store / "home"), "TMPDIR": str(store)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program has been compiled
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with {process.returncode}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


if __name__ == "__main__":
    main()
