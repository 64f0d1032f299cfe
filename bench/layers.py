"""Tar out, tar in, compression: our layer room beside GNU tar, gzip and sha256sum in the same run, as ratios.

    python bench/layers.py [--files 100000] [--bytes 2048] [--rounds 3] [--directory /dev/shm]

The tree and everything else lies in a temporary directory below `--directory`, best on tmpfs. Ours runs in a fresh
process each time, so that peak memory means something.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

WRITE = """
import hashlib, sys
from moldar.image.layer_diff import diff_entries
from moldar.image.layer_write import write_layer
hasher = hashlib.sha256()
with open(sys.argv[2], "wb", buffering=0) as out:
    write_layer(diff_entries(sys.argv[1]), lambda data: (hasher.update(data), out.write(data)))
"""
HASH = """
import hashlib, sys
from moldar.image.layer_diff import diff_entries
from moldar.image.layer_write import write_layer
write_layer(diff_entries(sys.argv[1]), hashlib.sha256().update)
"""
UNPACK = """
import sys
from moldar.image.unpack import unpack
with open(sys.argv[1], "rb", buffering=0) as stream:
    unpack(stream, sys.argv[2], whiteouts="overlay")
"""
SCAN = """
import sys
from moldar.image.layer_read import scan_entries
with open(sys.argv[1], "rb") as file:
    for _ in scan_entries(file.fileno()):
        pass
"""
PACK = """
import sys
from moldar.image.compression import compressor
work = compressor(sys.argv[3])
with open(sys.argv[1], "rb", buffering=0) as plain, open(sys.argv[2], "wb", buffering=0) as out:
    while data := plain.read(1 << 20):
        out.write(work.compress(data))
    out.write(work.flush())
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--files", type=int, default=100_000)
    options.add_argument("--bytes", type=int, default=2048)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--directory", default="/dev/shm")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.directory) as directory:
        base = Path(directory)
        tree = make_tree(base / "tree", chosen.files, chosen.bytes)
        ours, theirs, out = base / "ours.tar", base / "theirs.tar", base / "out"
        compare(
            "tar out with sha256",
            chosen.rounds,
            lambda: python(WRITE, tree, ours),
            lambda: shell(f"tar -C {tree} -cf {theirs} . && sha256sum {theirs}"),
        )
        compare(
            "sha256 of the tar only",
            chosen.rounds,
            lambda: python(HASH, tree),
            lambda: shell(f"tar -C {tree} -c . | sha256sum"),
        )
        compare("headers only", chosen.rounds, lambda: python(SCAN, ours), lambda: shell(f"tar -tf {ours}"))
        compare(
            "unpack",
            chosen.rounds,
            lambda: python(UNPACK, ours, out),
            lambda: shell(f"tar -C {out} -xf {ours}"),
            lambda: fresh(out),
        )
        shutil.rmtree(out)
        for codec in ("gzip", "zstd"):
            compare(
                f"compress with {codec}, beside gzip -1",
                chosen.rounds,
                lambda codec=codec: python(PACK, ours, base / "packed", codec),  # type: ignore[misc]
                lambda: shell(f"gzip -1c {ours} > {base}/packed.gz"),
            )


def make_tree(root: Path, files: int, size: int) -> Path:
    for number in range(files):
        directory = root / f"d{number // 1000:03}"
        if not number % 1000:
            directory.mkdir(parents=True)
        (directory / f"file{number % 1000:04}.txt").write_bytes((os.urandom(64) * (size // 64 + 1))[:size])
    return root


def fresh(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()


def python(program: str, *arguments: object) -> None:
    subprocess.run([sys.executable, "-c", program, *map(str, arguments)], check=True)


def shell(command: str) -> None:
    subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)


def compare(
    what: str,
    rounds: int,
    ours: Callable[[], None],
    theirs: Callable[[], None],
    before: Callable[[], None] = lambda: None,
) -> None:
    """Best of the rounds, alternating so that the machine's noise hits both."""
    times: tuple[list[float], list[float]] = ([], [])
    peak = 0
    for _ in range(rounds):
        for run, found in zip((ours, theirs), times, strict=True):
            before()
            started = time.perf_counter()
            run()
            found.append(time.perf_counter() - started)
            if run is ours:
                peak = max(peak, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
    best, other = min(times[0]), min(times[1])
    print(f"{what}: {best:.2f} s, theirs {other:.2f} s, ratio {best / other:.2f} (children's peak {peak} MiB)")


if __name__ == "__main__":
    main()
