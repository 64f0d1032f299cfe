"""The import rules: rooms import one way, and only as ALLOWED says.

A key is a module or package of moldar, the most specific key rules; its value lists what it may import besides
itself, its own package's modules (unless a rule says otherwise) and `errors`.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "src" / "moldar"
MACHINERY = {"image", "store", "sandbox"}
HUB = {
    "image",
    "remote.wire",
    "hub.addresses",
    "hub.settings",
    "hub.upstreams",
    "hub.clock",
    "hub.refusals",
    "hub.exchange",
    "hub.metrics",
    "hub.waiting",
}
SERVICES = HUB | {"hub.data", "hub.storage", "hub.access", "hub.registry"}
SERVED = SERVICES | {"hub.webhooks", "hub.services", "hub.authentication"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "dockerfile": set(),
    "image": set(),
    "store": {"image"},
    "sandbox": {"image"},
    "remote": {"image"},
    "export": MACHINERY,
    "containers": MACHINERY,
    "builder": MACHINERY | {"dockerfile"},
    "builder.progress": set(),
    "builder.graph": {"dockerfile", "image"},
    "builder.plan": {"dockerfile", "image", "builder.graph"},
    "builder.solver": {"image", "builder.graph", "builder.progress"},
    "hub": {"image", "remote.wire"},
    "hub.data": HUB,
    "hub.storage": HUB | {"hub.data"},
    "hub.access": HUB | {"hub.data"},
    "hub.registry": SERVICES,
    "hub.webhooks": SERVICES,
    "hub.layers": SERVED,
    "hub.proxy": SERVED,
    "hub.api": SERVED | {"hub.proxy"},
    "hub.rest": SERVED,
    "hub.web": SERVED | {"hub.layers"},
    "advice": {"dockerfile", "image", "builder.graph"},
    "app": MACHINERY | {"advice", "dockerfile", "builder", "containers", "remote", "export", "hub"},
    "__main__": {"cli"},
    "cli": {"app", "image", "dockerfile", "builder.progress"},
}
STRICT = {room for room in ALLOWED if "." in room}  # no free imports within the package
LAZY_ROOMS = {"cli", "app"}  # rooms where imports inside functions are the rule
LONGEST = 500


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        found.append((".".join(parts), path))
    return found


def rule_for(module: str) -> str:
    while module and module not in ALLOWED:
        module = module.rpartition(".")[0]
    return module


def imported(tree: ast.AST) -> list[str]:
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name.removeprefix("moldar.") for name in names if name.startswith("moldar.")]


def within(name: str, roots: set[str]) -> bool:
    return any(name == root or name.startswith(root + ".") for root in roots)


@pytest.mark.parametrize(
    ("module", "path"), modules(), ids=lambda value: str(value) if isinstance(value, str) else ""
)
def test_imports_run_one_way(module: str, path: Path) -> None:
    if not module:
        return
    rule = rule_for(module)
    assert rule, f"{module} has no rule: give its room one"
    own = {rule} if rule in STRICT else {rule.partition(".")[0]}
    for name in imported(ast.parse(path.read_text())):
        assert within(name, ALLOWED[rule] | own | {"errors", "__version__"}), f"{module} may not import {name}"


@pytest.mark.parametrize(
    ("module", "path"), modules(), ids=lambda value: str(value) if isinstance(value, str) else ""
)
def test_no_import_hides(module: str, path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert "TYPE_CHECKING" not in path.read_text(), f"{module} imports for type checking only"
    if module.partition(".")[0] in LAZY_ROOMS:
        return
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            assert not imported(function), f"{module}.{function.name} imports inside a function"


@pytest.mark.parametrize(
    ("module", "path"), modules(), ids=lambda value: str(value) if isinstance(value, str) else ""
)
def test_files_stay_small_and_say_what_they_own(module: str, path: Path) -> None:
    text = path.read_text()
    docstring = ast.get_docstring(ast.parse(text)) or ""
    assert docstring, f"{module} has no docstring"
    if len(text.splitlines()) > LONGEST:
        assert "Longer than" in docstring, f"{module} has over {LONGEST} lines and its docstring gives no reason"
