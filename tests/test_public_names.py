"""What users can import, with signatures, is written down in public_names.txt: a change of it is a decision."""

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import borderless as bl
import borderless.models
import borderless.training

SNAPSHOT = Path(__file__).parent / "public_names.txt"
MODULES = (bl, bl.nn, bl.rules, bl.testing, borderless.models, borderless.training)


def signature_of(value: Any) -> str:
    """As Python prints it, less the modules of types: a type that moves to another file stays the same type."""
    return re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Z])", "", str(inspect.signature(value)))


def exported(module: ModuleType) -> list[str]:
    """Its `__all__`, or the public classes and functions that it defines itself."""
    defined = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    return sorted(getattr(module, "__all__", defined))


def members(kind: type) -> Iterator[str]:
    """The public methods and properties that a class defines, or inherits from a class of this package."""
    ours = [base for base in kind.__mro__ if base.__module__.partition(".")[0] == "borderless"]
    names = {name for base in ours for name in vars(base) if not name.startswith("_")}
    for name in sorted(names):
        value = inspect.getattr_static(kind, name)
        if isinstance(value, property):
            yield f".{name}: property"
        elif isinstance(value, classmethod | staticmethod) or inspect.isfunction(value):
            yield f".{name}{signature_of(getattr(kind, name))}"


def describe(module: ModuleType) -> Iterator[str]:
    for name in exported(module):
        value, path = getattr(module, name), f"{module.__name__}.{name}"
        if isinstance(value, ModuleType):
            yield f"{path}: module"
        elif inspect.isclass(value):
            bases = ", ".join(base.__name__ for base in value.__bases__)
            yield f"class {path}({bases})" + ("" if issubclass(value, BaseException) else f": {signature_of(value)}")
            yield from (f"    {member}" for member in members(value))
        elif callable(value):
            yield f"{path}{signature_of(value)}"
        else:
            yield f"{path} = {value!r}"


def snapshot() -> str:
    return "\n".join(line for module in MODULES for line in describe(module)) + "\n"


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python prints unions of types in another way from 3.14 on")
def test_public_names_and_signatures() -> None:
    assert snapshot() == SNAPSHOT.read_text(encoding="utf-8"), (
        "names or signatures that users rely on have changed; if that is meant, write it into CHANGELOG.md, then run: "
        "python tests/test_public_names.py"
    )


def test_the_names_of_the_package_are_there_before_and_after_they_are_imported() -> None:
    code = (
        "import sys, borderless; assert 'torch' not in sys.modules; assert dir(borderless) == borderless.__all__; "
        "from borderless import *; print(sorted(n for n in borderless.__all__ if n not in globals()))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


if __name__ == "__main__":
    SNAPSHOT.write_text(snapshot(), encoding="utf-8")
