"""Find the experiments: every folder here whose `__init__.py` registers settings.

Names and summaries are read from the source of each `@register(...)`, so that listing them imports none.
"""

import ast
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from borderless.errors import RunError
from borderless.experiments.experiment import REGISTERED, Experiment


class Registry(Mapping[str, Experiment]):
    """Experiments by name, in the order of their chapters; only looking one up imports its settings."""

    def __init__(self, package: str, folder: Path) -> None:
        self.package, self.folder = package, folder

    @cached_property
    def _listed(self) -> dict[str, tuple[str, str]]:
        """Module and summary of each experiment."""
        found = []
        for path in self.folder.glob("*/__init__.py"):
            facts = _registration(ast.parse(path.read_text(encoding="utf-8")))
            if not facts.keys() >= {"name", "chapter", "summary"}:
                raise RunError(
                    f"Expected @register with a literal name, chapter and summary in {path} but got {facts}."
                )
            module = f"{self.package}.{path.parent.name}"
            found.append((facts["chapter"], facts["name"], (module, facts["summary"])))
        return {name: listed for _, name, listed in sorted(found)}

    @property
    def summaries(self) -> dict[str, str]:
        """One sentence on each experiment."""
        return {name: summary for name, (_, summary) in self._listed.items()}

    def __getitem__(self, name: str) -> Experiment:
        import_module(self._listed[name][0])
        return REGISTERED[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._listed)

    def __len__(self) -> int:
        return len(self._listed)

    def __contains__(self, name: object) -> bool:
        return name in self._listed


def _registration(source: ast.Module) -> dict[str, Any]:
    """Return the literal arguments of the decorator `@register(...)`, by their keywords."""
    for call in ast.walk(source):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "register":
            return {k.arg: k.value.value for k in call.keywords if k.arg and isinstance(k.value, ast.Constant)}
    return {}


EXPERIMENTS = Registry("borderless.experiments", Path(__file__).parent)
