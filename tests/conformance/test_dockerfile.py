"""Every case of the suite, built by the program and compared with what BuildKit made of it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conformance.harness import builders, cases

SUITE = Path(__file__).parent / "suite"
CASES = cases.load_cases(SUITE)


@pytest.fixture(scope="module")
def base() -> cases.BaseImage:
    return cases.BaseImage()


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory, base: cases.BaseImage) -> Iterator[builders.Builder]:
    root = tmp_path_factory.mktemp("conformance")
    made = builders.Builder([sys.executable, "-m", "moldar"], root / "home")
    made.load(base, root / "busybox.tar")
    yield made
    cases.remove_tree(root)


def test_there_are_cases() -> None:
    assert len(CASES) > 200


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: cases.Case, builder: builders.Builder, base: cases.BaseImage, tmp_path: Path) -> None:
    workspace = cases.Workspace(case, tmp_path / "case")
    try:
        assert difference(case, builder, base, workspace) is None, case.data["description"]
    finally:
        workspace.close()
        cases.remove_tree(tmp_path / "case")


def difference(
    case: cases.Case, builder: builders.Builder, base: cases.BaseImage, workspace: cases.Workspace
) -> str | None:
    """One line about the first thing that is not as BuildKit has it."""
    golden = case.golden()
    if case.is_lint:
        return cases.first_difference(golden, {"warnings": builder.lint(workspace)})
    status, output = builder.build(workspace)
    if case.expect == "error":
        return cases.error_problem(case, output) if status else "the build succeeded, an error was expected"
    if status and case.data.get("or_error"):
        return cases.error_problem(case, output)
    if status:
        return f"the build failed:\n{output}"
    ignored = case.data.get("ignore", [])
    made = cases.summarize(workspace, base)
    return cases.first_difference(cases.comparable(golden, ignored), cases.comparable(made, ignored))
