"""What `moldar advise --fix` is worth: the rebuild after a source edit with exact caching, before and after.

    python bench/advise.py [--rounds 3]

Five projects (tests/advise_projects.py) with the Dockerfiles that people write first. Each is built in a fresh store
as it is and as rewritten; the quickest of the rounds counts. Base images are made or found by `scripts/stand-ins`.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))


def main() -> None:
    from tests.advise_projects import PROJECTS

    from moldar.app.advice_trial import try_out
    from moldar.app.advising import advise_request, request_for
    from moldar.app.engine import Engine, Settings
    from moldar.app.images import load

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    rounds = options.parse_args().rounds
    listed = subprocess.run(
        [sys.executable, ROOT / "scripts/stand-ins", "--list"], capture_output=True, text=True, check=True
    )
    archives = dict(line.split(" ")[:2] for line in listed.stdout.splitlines() if line.endswith(".tar"))
    print("| project | before | after | images |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory, Engine(Settings(f"{directory}/home")) as engine:
        for archive in archives.values():
            load(engine, archive)
        for number, (name, project) in enumerate(PROJECTS.items()):
            context = project.write(Path(directory) / str(number))
            advised = advise_request(engine, request_for(engine, str(context), ""))
            trial = try_out(engine, advised, lambda _: None, rounds)
            same = "the same" if trial.same else f"differ: {', '.join(trial.different[:3])}"
            print(f"| {name} | {trial.before:.2f} s | {trial.after:.2f} s | {same} |", flush=True)


if __name__ == "__main__":
    main()
