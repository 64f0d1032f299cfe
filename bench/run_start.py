"""What it costs to start a process in a container and see it end, by each runtime in the same run, as ratios to runc.

    python bench/run_start.py [--rounds 40]

The program is /bin/true of busybox; nothing but the runtime is timed: no snapshot, no network.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time

from moldar.sandbox.bundle import write_bundle
from moldar.sandbox.choosing import choose_runtime
from moldar.sandbox.runtime import Runtime, Streams
from moldar.sandbox.spec import ProcessSpec, SandboxSpec

NAMES = ("crun", "runc", "builtin")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=40)
    rounds = options.parse_args().rounds
    with tempfile.TemporaryDirectory() as directory:
        os.makedirs(f"{directory}/root/bin")
        shutil.copy(shutil.which("busybox") or "/bin/busybox", f"{directory}/root/bin/true")
        runtimes = {name: choose_runtime(f"{directory}/run", name) for name in NAMES}
        times: dict[str, list[float]] = {name: [] for name in NAMES}
        for _ in range(rounds):  # alternating, so that noise of the machine hits all
            for name, runtime in runtimes.items():
                times[name].append(timed(runtime, directory))
    medians = {name: statistics.median(found) for name, found in times.items()}
    for name, found in times.items():
        best, ratio = min(found), medians[name] / medians["runc"]
        print(f"{name}: median of {rounds} {medians[name] * 1000:.0f} ms (best {best * 1000:.0f}), ratio {ratio:.2f}")


def timed(runtime: Runtime, directory: str) -> float:
    identity = f"bench-{os.urandom(6).hex()}"
    bundle = f"{directory}/{identity}"
    spec = SandboxSpec(f"{directory}/root", ProcessSpec(("/bin/true",), ("PATH=/bin",)), hostname="bench")
    write_bundle(bundle, spec, identity, runtime.features)
    with open(os.devnull, "r+b") as null:
        streams = Streams(null.fileno(), null.fileno(), null.fileno())
        start = time.perf_counter()
        assert runtime.run(bundle, identity, streams) == 0
        taken = time.perf_counter() - start
    shutil.rmtree(bundle)
    return taken


if __name__ == "__main__":
    main()
