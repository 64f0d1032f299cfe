"""Files that the context brings into the image although nothing there needs them."""

import fnmatch
import re

from moldar.advice.facts import Advice, Facts, size_text
from moldar.dockerfile.instructions import Add, Copy, Run

_DIRECTORIES = {
    ".git": r"\bgit\b",
    ".hg": r"\bhg\b",
    ".svn": r"\bsvn\b",
    "node_modules": r"\Znever",
    "__pycache__": r"\Znever",
    ".venv": r"\.venv\b",
    "venv": r"\bvenv\b",
    ".tox": r"\btox\b",
    ".mypy_cache": r"\bmypy\b",
    ".pytest_cache": r"\bpytest\b",
    ".ruff_cache": r"\bruff\b",
    ".idea": r"\.idea\b",
    ".vscode": r"\.vscode\b",
}
"""Names of directories, and what in a RUN says that a step may need them all the same."""
_FILES = ("*.pyc", "*.log", ".DS_Store", "*.swp", ".env", ".env.*", "*.pem", "*.key", "id_rsa", "id_ed25519")
_SECRET = frozenset({".env", ".env.*", "*.pem", "*.key", "id_rsa", "id_ed25519"})


def advise_context(facts: Facts) -> tuple[Advice, ...]:
    """One piece of advice with all lines for the ignore file, and what they would keep out; none without a copy."""
    if not any(_brings_all(item) for stage in facts.file.stages for item in stage.instructions):
        return ()
    runs = " ".join(
        item.origin.text for stage in facts.file.stages for item in stage.instructions if isinstance(item, Run)
    )
    named = " ".join(
        item.origin.text for stage in facts.file.stages for item in stage.instructions if isinstance(item, Copy | Add)
    )
    sizes: dict[str, int] = {}
    for path, size in facts.context:
        line = _line_for(path)
        if line and not _needed(line, runs, named):
            sizes[line] = sizes.get(line, 0) + size
    if not sizes:
        return ()
    lines = tuple(sorted(sizes, key=lambda line: (-sizes[line], line)))
    shown = ", ".join(f"{line} ({size_text(sizes[line])})" for line in lines)
    message = f"no step needs these files of the context; lines for .dockerignore: {shown}"
    if any(line.removeprefix("**/") in _SECRET for line in lines):
        message += "; some look like secrets, which the image then holds"
    return (Advice("context", 0, message, size=sum(sizes.values()), lines=lines),)


def _brings_all(item: object) -> bool:
    return isinstance(item, Copy | Add) and any(source in (".", "./", "/") for source in item.sources)


def _line_for(path: str) -> str:
    parts = path.split("/")
    for depth, part in enumerate(parts[:-1]):
        if part in _DIRECTORIES:
            return part if depth == 0 else f"**/{part}"
    for pattern in _FILES:
        if fnmatch.fnmatch(parts[-1], pattern):
            return f"**/{pattern}" if len(parts) > 1 or "*" in pattern else pattern
    return ""


def _needed(line: str, runs: str, named: str) -> bool:
    name = line.removeprefix("**/")
    pattern = _DIRECTORIES.get(name)
    if pattern is None:
        return name.replace("*", "") in runs or name in named
    return bool(re.search(pattern, runs)) or bool(re.search(rf"(?:^|[\s/]){re.escape(name)}(?:[\s/]|$)", named))
