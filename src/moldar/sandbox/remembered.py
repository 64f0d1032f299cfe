"""What was found out about this host, kept in a file with what it depends on: asking again costs one read."""

import json
import os
from collections.abc import Callable
from typing import Any


def remembered(path: str, facts: list[Any], ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The answer in `path` if it was given under the same `facts`, kernel and boot; else that of `ask`, then kept."""
    answer = recall(path, facts)
    if answer is None:
        answer = ask()
        staged = f"{path}.{os.urandom(6).hex()}"
        with open(staged, "w") as file:
            json.dump({"facts": _with_host(facts), "answer": answer}, file)
        os.replace(staged, path)
    return answer


def recall(path: str, facts: list[Any]) -> dict[str, Any] | None:
    """The answer in `path`; None when there is none that was given under the same `facts`, kernel and boot."""
    try:
        with open(path) as file:
            kept = json.load(file)
        if kept["facts"] == _with_host(facts):
            return dict(kept["answer"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _with_host(facts: list[Any]) -> list[Any]:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return [os.uname().release, file.read().strip(), *facts]
