"""Find the experiments: every folder here whose `__init__.py` registers settings.

A folder's name is the experiment's; summary and chapter are read from the source, so that listing them imports none.
"""

import ast
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module
from pathlib import Path

from borderless.errors import RunError
from borderless.experiments.experiment import REGISTERED, Experiment, name_of, title_and_summary


class Registry(Mapping[str, Experiment]):
    """Experiments by name, in the order of their chapters; only looking one up imports its settings."""

    def __init__(self, package: str, folder: Path) -> None:
        self.package, self.folder = package, folder

    @cached_property
    def _listed(self) -> dict[str, tuple[str, str]]:
        """Module and summary of each experiment."""
        found = []
        for path in self.folder.glob("*/__init__.py"):
            source = ast.parse(path.read_text(encoding="utf-8"))
            summary, chapter = title_and_summary(ast.get_docstring(source))[1], _chapter(source)
            if not summary or chapter is None:
                raise RunError(
                    f"Expected title and summary in the docstring, and @register with a literal chapter, in {path} but "
                    f"got the summary {summary!r} and the chapter {chapter}; add what is missing."
                )
            module = f"{self.package}.{path.parent.name}"
            found.append((chapter, name_of(module), (module, summary)))
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


def _chapter(source: ast.Module) -> int | None:
    """Return the literal `chapter` of the decorator `@register(...)`."""
    for call in ast.walk(source):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "register":
            return next((ast.literal_eval(k.value) for k in call.keywords if k.arg == "chapter"), None)
    return None


EXPERIMENTS = Registry("borderless.experiments", Path(__file__).parent)
