"""`moldar check` and `moldar check --fix`."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.e2e.program import Moldar

Project = Callable[..., Path]
QUESTIONABLE = "from scratch as Base\nWORKDIR app\nENV name some value\nARG TOKEN\nCMD serve --all\n"


def test_check_tells_rule_line_and_page(moldar: Moldar, project: Project) -> None:
    context = project(Dockerfile=QUESTIONABLE)
    done = moldar.run("check", context)
    assert done.returncode == 1
    assert "WARNING: WorkdirRelativePath - https://docs.docker.com/go/dockerfile/rule/" in done.stdout
    assert "   2 | >>> WORKDIR app" in done.stdout
    report = json.loads(moldar.run("check", "--format", "json", context).stdout)
    assert "SecretsUsedInArgOrEnv" in [warning["ruleName"] for warning in report["warnings"]]


def test_fix_shows_the_difference_and_writes_it(moldar: Moldar, project: Project) -> None:
    context = project(Dockerfile=QUESTIONABLE)
    path = context / "Dockerfile"
    path.chmod(0o640)
    done = moldar.run("check", "--fix", context)
    assert done.returncode == 1, done.stderr
    assert "-from scratch as Base\n" in done.stdout
    assert "+FROM scratch AS base\n" in done.stdout
    assert "left: SecretsUsedInArgOrEnv (line 4)" in done.stdout
    assert path.read_text() == (
        'FROM scratch AS base\nWORKDIR /app\nENV name="some value"\nARG TOKEN\nCMD ["serve", "--all"]\n'
    )
    assert path.stat().st_mode & 0o777 == 0o640
    assert [entry.name for entry in context.iterdir()] == ["Dockerfile"]
    assert moldar.run("check", "--fix", context).stdout.endswith("Nothing to mend.\n")


def test_a_file_without_findings_is_left_as_it_is(moldar: Moldar, project: Project) -> None:
    context = project(Dockerfile="FROM scratch\nLABEL a=b\n")
    assert moldar("check", context) == "Check complete, no warnings found.\n"
    assert moldar("check", "--fix", context) == "Nothing to mend.\n"


def test_mistakes_are_reported_and_nothing_is_written(moldar: Moldar, project: Project) -> None:
    context = project(Dockerfile="from scratch\nCOPPY a b\n")
    assert "Dockerfile:2: unknown instruction: COPPY" in moldar.fails("check", "--fix", context)
    assert (context / "Dockerfile").read_text() == "from scratch\nCOPPY a b\n"
    assert "no such file" in moldar.fails("check", "--fix", "-f", context / "none", context)
