"""The order of the package: imports point downward only, and no file imports itself through others.

Read from the sources, so that imports inside functions and for type checkers count as well.
"""

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

import borderless

PACKAGE = Path(borderless.__file__).parent

# Lowest first. A module belongs to the longest name that it starts with, and imports from its own layer or lower ones.
LAYERS = (
    ("errors", "version"),
    ("report", "runtime"),
    ("engine",),
    ("antialiasing", "batching", "conversion", "explanation", "export", "nn", "partition", "placement", "rules"),
    ("measures", "testing"),
    ("data", "models", "training"),
    ("auditing", "experiments"),
    ("cli", "playground"),
    ("", "__main__"),
)
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}
GROUPS_OF_ONE_LAYER = {"batching", "engine", "placement", "measures", "partition"}


def modules_of(package: Path) -> dict[str, str]:
    """The sources of all modules, by their names without the package's: "" is the package itself."""
    found = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


tree_of = cache(ast.parse)


def imports_of(source: str, modules: Iterable[str]) -> set[str]:
    """The modules of the package that a source imports, wherever it does."""
    names, found = set(modules), set()
    for node in ast.walk(tree_of(source)):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.partition(".")[0] == "borderless"}
        elif isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").partition(".")[0] == "borderless"):
            assert not node.level, "relative imports hide what is imported"
            base = (node.module or "").removeprefix("borderless").lstrip(".")
            for a in node.names:
                inner = f"{base}.{a.name}".lstrip(".")
                found.add(f"borderless.{inner if inner in names else base}".rstrip("."))
    return {name.removeprefix("borderless").lstrip(".") for name in found}


def layer(module: str) -> int:
    return LAYER_OF[module.partition(".")[0]]


def upward(graph: dict[str, set[str]]) -> list[str]:
    return sorted(f"{a} → {b}" for a, targets in graph.items() for b in targets if layer(b) > layer(a))


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of some circle of imports, in order; [] if there is none."""
    done: set[str] = set()
    path: list[str] = []

    def visit(module: str) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        path.append(module)
        for target in sorted(graph[module]):
            if found := visit(target):
                return found
        done.add(path.pop())
        return []

    return next((found for module in sorted(graph) if (found := visit(module))), [])


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    modules = modules_of(PACKAGE)
    return {name: imports_of(source, modules) for name, source in modules.items()}


def test_imports_point_downward(graph: dict[str, set[str]]) -> None:
    assert upward(graph) == []


def test_no_import_circle(graph: dict[str, set[str]]) -> None:
    assert circle(graph) == []


@pytest.mark.parametrize(
    "planted",
    [
        "from borderless.measures.equivariance import equivariance_error",
        "def later():\n    from borderless.measures import equivariance",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import borderless.measures.equivariance",
    ],
)
def test_a_planted_import_upward_is_found(planted: str) -> None:
    modules = modules_of(PACKAGE)
    modules["engine.geometry"] += "\n" + planted + "\n"
    graph = {name: imports_of(source, modules) for name, source in modules.items()}
    assert "engine.geometry → measures.equivariance" in upward(graph)


@pytest.mark.parametrize("planted", ["from borderless.engine.signal import Signal", "import borderless.engine.signal"])
def test_a_planted_circle_is_found(planted: str) -> None:
    modules = modules_of(PACKAGE)
    modules["engine.geometry"] += f"\ndef later():\n    {planted}\n"
    found = circle({name: imports_of(source, modules) for name, source in modules.items()})
    assert "engine.geometry" in found and found[0] == found[-1]


def test_files_are_short() -> None:
    lengths = {name: len(source.splitlines()) for name, source in modules_of(PACKAGE).items()}
    assert {name: lines for name, lines in lengths.items() if lines > 330} == {}
    assert sum(lines for name, lines in lengths.items() if name.startswith("experiments")) <= 3600


def test_one_class_a_name() -> None:
    places: dict[str, list[str]] = {}
    for module, source in modules_of(PACKAGE).items():
        for node in ast.walk(tree_of(source)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}


def test_no_function_shadows_a_module() -> None:
    for module, source in modules_of(PACKAGE).items():
        if not (PACKAGE / module.replace(".", "/") / "__init__.py").is_file() and module:
            continue
        folder = PACKAGE / module.replace(".", "/")
        inside = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
        given = {
            (a.asname or a.name)
            for node in tree_of(source).body
            if isinstance(node, ast.ImportFrom)
            for a in node.names
            if (node.module or "") != ("borderless." + module).rstrip(".")
        }
        assert not inside & given, f"{module or 'borderless'}: {inside & given} are modules and something else"
