"""Which runtime is taken, and why none is."""

import subprocess
import sys
from pathlib import Path

import pytest

from moldar.sandbox.choosing import choose_runtime

WITHOUT_CAPABILITIES = (
    "import sys\n"
    "from moldar.sandbox.choosing import NoRuntime, choose_runtime\n"
    "from moldar.sandbox.isolation.calls import drop_bounding, set_capabilities\n"
    "from moldar.sandbox.isolation.processes import last_capability\n"
    "for number in range(last_capability() + 1):\n"
    "    drop_bounding(number)\n"
    "set_capabilities(0, 0, 0)\n"
    "try:\n"
    "    choose_runtime(sys.argv[1])\n"
    "except NoRuntime as error:\n"
    "    print(*error.reasons, sep='\\n')\n"
    "    print(error.excerpt)\n"
)


@pytest.mark.parametrize("name", ["crun", "runc", "builtin"])
def test_one_is_asked_for(tmp_path: Path, name: str) -> None:
    assert choose_runtime(str(tmp_path), name).name == name
    assert choose_runtime(str(tmp_path), name).name == name, "remembered"


def test_the_quickest_comes_first(tmp_path: Path) -> None:
    assert choose_runtime(str(tmp_path)).name == "crun"


def test_without_any_rights_each_says_why(tmp_path: Path) -> None:
    words = [sys.executable, "-c", WITHOUT_CAPABILITIES, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[:3] == ["crun", "runc", "builtin"]
    assert [line.partition(": ")[0] for line in lines[3:]] == lines[:3]
    assert "builtin: builtin: cannot make name spaces: Operation not permitted" in lines
