"""Golden files of the parser: what each Dockerfile in `parser/` is read as.

With UPDATE_GOLDENS=1 in the environment the results are written anew and the tests fail: look at the difference
before committing it.
"""

import os
from pathlib import Path

import pytest

from moldar.dockerfile.instructions import Instruction, Stage
from moldar.dockerfile.parser import Node, parse
from moldar.dockerfile.reading import read_dockerfile

GOLDEN = Path(__file__).parent / "parser"
CASES = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())


@pytest.mark.parametrize("case", CASES)
def test_parser(case: str) -> None:
    result = GOLDEN / case / "result"
    text = describe((GOLDEN / case / "Dockerfile").read_bytes())
    if os.environ.get("UPDATE_GOLDENS") and (not result.exists() or result.read_text() != text):
        result.write_text(text)
        pytest.fail(f"{result} is written anew: look at the difference")
    assert text == result.read_text()


def describe(data: bytes) -> str:
    """Every instruction's lines, text and values, one fact a line."""
    parsed = parse(data)
    file = read_dockerfile(data)
    lines = [f"escape {file.escape}", f"syntax {file.syntax}", f"check {file.check}"]
    lines.append(f"empty continuations {list(file.empty_continuations)}")
    read: dict[int, Instruction | Stage] = {arg.origin.location.start: arg for arg in file.global_args}
    for stage in file.stages:
        read[stage.origin.location.start] = stage._replace(instructions=())
        read |= {instruction.origin.location.start: instruction for instruction in stage.instructions}
    for node in parsed.nodes:
        lines += ["", *_node(node), *_fields(read[node.location.start])]
    return "\n".join(lines) + "\n"


def _node(node: Node) -> list[str]:
    lines = [f"{node.location.start}-{node.location.end} {node.keyword} {list(node.flags)} {node.rest!r}"]
    lines += [f"  # {comment}" for comment in node.comments]
    for heredoc in node.heredocs:
        marks = ("expand " if heredoc.expand else "") + ("chomp" if heredoc.chomp else "")
        lines.append(f"  <<{heredoc.name} {marks} {heredoc.content!r}")
    return lines


def _fields(value: Instruction | Stage) -> list[str]:
    """The fields that are set."""
    defaults = type(value)._field_defaults
    fields = [(name, field) for name, field in value._asdict().items() if name != "origin"]
    return [f"    {name} = {field!r}" for name, field in fields if name not in defaults or defaults[name] != field]
