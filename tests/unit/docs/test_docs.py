"""The documents say what is: links lead somewhere, commands exist, Dockerfiles are those of the examples."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from moldar.cli import index
from moldar.cli.argv import parse

ROOT = Path(__file__).parents[3]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
TUTORIALS = [ROOT / "docs" / "tutorial.md", ROOT / "docs" / "tutorial.pt-BR.md"]
SAME = {"walk": "passeio", "page": "pagina", "token-file": "arquivo-do-token"}  # names that the translation changes


def name(path: object) -> str:
    return str(path.relative_to(ROOT)) if isinstance(path, Path) else ""


def fences(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)


def commands(path: Path) -> list[str]:
    """Every `moldar …` line of the shell blocks, and every inline one that is more than a name."""
    lines = [line for block in fences(path, "sh") for line in block.splitlines()]
    lines += re.findall(r"`(moldar [^`]+)`", path.read_text())
    return [line for line in lines if line.startswith("moldar ") and not re.search(r"COMM?ANDO?|…|\.\.\.", line)]


def words(line: str) -> list[str]:
    """The command's own words, without what the shell takes: redirections, `&`, a following command, comments."""
    found = shlex.split(line, comments=True)
    for stop in ("<", ">", "&", "|", "&&", ";"):
        if stop in found:
            found = found[: found.index(stop)]
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{name(path)} links to {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_commands_exist(path: Path) -> None:
    for line in commands(path):
        typed = words(line)[1:]
        found = index.find(typed)
        if found is None:
            assert typed[0] in index.GROUPS or typed[0].startswith("-"), f"{name(path)}: {line}"
            continue
        command_name, count = found
        module = importlib.import_module("moldar.cli." + index.COMMANDS[command_name].module)
        (command,) = [each for each in module.COMMANDS if " ".join(each.path) == command_name]
        if len(typed) > count:  # not just a mention of the verb
            parse(command, typed[count:])


@pytest.mark.parametrize("path", TUTORIALS, ids=name)
def test_dockerfiles_are_those_of_the_examples(path: Path) -> None:
    known = [example.read_text() for example in ROOT.glob("examples/*/Dockerfile*")]
    blocks = fences(path, "dockerfile")
    assert len(blocks) >= 5
    for block in blocks:
        assert any(block in example for example in known), block


def test_both_tutorials_give_the_same_commands() -> None:
    english, portuguese = (re.findall(r"^moldar .*?(?=\s*#|$)", path.read_text(), re.MULTILINE) for path in TUTORIALS)
    translated = [" ".join(SAME.get(word, word) for word in line.split(" ")) for line in english]
    assert translated == portuguese


def test_the_reading_order_names_files_that_exist() -> None:
    text = (ROOT / "docs" / "dev" / "reading-order.md").read_text()
    for path in re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", text):
        base = ROOT if path.startswith("tests/") else ROOT / "src" / "moldar"
        assert (base / path).exists(), path
