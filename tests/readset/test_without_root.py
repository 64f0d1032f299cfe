"""Read sets in a user namespace, where overlayfs's marks are attributes of users: the same tests, run in one."""

import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
MAP = "0 0 65536\n"
TRIALS = os.environ.get("READSET_TRIALS_WITHOUT_ROOT", "40")


def test_soundness_and_holes_in_a_user_namespace(tmp_path: Path) -> None:
    tests = [str(HERE / "test_soundness.py"), str(HERE / "test_holes.py")]
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--basetemp={tmp_path}/inside", *tests]
    words = ["unshare", "--user", "--mount", "sh", "-c", 'read go; exec "$@" < /dev/null', "sh", *pytest]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "READSET_"))}
    process = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environment, "READSET_TRIALS": TRIALS, "READSET_SEED": "3"},
        cwd=HERE.parent.parent,
    )
    _map(process.pid)
    output, _ = process.communicate("go\n", timeout=1800)
    assert process.returncode == 0, output
    assert " passed" in output and "skipped" not in output, output


def _map(pid: int) -> None:
    """Give the namespace that the process makes the ids that it has outside, as soon as it is there."""
    ours = os.readlink("/proc/self/ns/user")
    deadline = time.monotonic() + 10
    while os.readlink(f"/proc/{pid}/ns/user") == ours:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{pid}/{name}").write_text(MAP)
