"""A rebuild after an edit of the badly ordered project, beside its fully cached build in the same run, as a ratio.

    python bench/reuse.py [--rounds 12]

The tutorial's order: COPY of everything before `pip install`. The edit changes app.py, which pip does not read.
`python:3.11.6-slim` is that of the user's own store.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DOCKERFILE = """
FROM python:3.11.6-slim
WORKDIR /app
COPY . .
RUN python -m pip install Flask
EXPOSE 5000
CMD ["python", "app.py"]
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=12)
    rounds = options.parse_args().rounds
    times: dict[str, list[float]] = {"edited": [], "cached": []}
    with tempfile.TemporaryDirectory() as directory:
        context = Path(directory)
        (context / "Dockerfile").write_text(DOCKERFILE)
        first = edited(context)
        for _ in range(rounds):
            times["edited"].append(edited(context))
            times["cached"].append(build(context))
    medians = {name: statistics.median(found) for name, found in times.items()}
    print(f"first build: {first:.2f} s")
    for name, median in medians.items():
        print(f"{name}, median of {rounds}: {median * 1000:.0f} ms (best {min(times[name]) * 1000:.0f})")
    print(f"ratio: {medians['edited'] / medians['cached']:.2f}")


def edited(context: Path) -> float:
    """The build after a change of app.py."""
    (context / "app.py").write_text(f"print({time.time_ns()})\n")
    return build(context)


def build(context: Path) -> float:
    command = [str(Path(sys.executable).with_name("moldar")), "build", "-t", "reuse-bench", str(context)]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
