"""Programs beside the package (documentation, examples, benchmarks, tools) import names that it has."""

import ast
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(
    path
    for folder in ("docs", "examples", "benchmarks", "tools")
    for path in (ROOT / folder).rglob("*.py")
    if not {"_build", "gallery"} & {*path.parts}
)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_imported_name_exists(path: Path) -> None:
    missing = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "borderless":
            module = import_module(node.module or "")
            names = [each.name for each in node.names if not hasattr(module, each.name)]
            missing += [f"{node.module}.{name}" for name in names if find_spec(f"{node.module}.{name}") is None]
    assert missing == []
