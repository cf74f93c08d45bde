"""Definition of an experiment: settings, independent cells of work, and a page drawn from their results.

    @register(chapter=3, cells=grid("{border}-seed{seed}", border="borders", seed="seeds"))
    @dataclass(frozen=True)
    class RookConfig(Settings): ...

is written in `experiments/rook/__init__.py`, whose docstring is title and summary, and which loads nothing heavy,
because a help text needs no more. Beside it `experiment.py` has `run_cell(config, cell, folder)`, which returns numbers
that JSON can hold and puts arrays into the folder, and `page.py` has `draw(config, results, folder)`.
"""

import itertools
import string
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from borderless.report.content import Section


@dataclass(frozen=True)
class Cell:
    """One independent unit of work. name: a slug, also its folder's name. parameters: values that JSON can hold."""

    name: str
    parameters: Mapping[str, Any]


class MissingMetric(KeyError):
    """A metric that a result does not have."""


class Metrics(dict[str, Any]):
    """The numbers of a result, by name."""

    def __missing__(self, key: str) -> Any:
        """Raise MissingMetric, which distinguishes a metric that was never measured from any other missing key."""
        raise MissingMetric(key)


@dataclass(frozen=True)
class Result:
    """The result of a cell: numbers in `metrics`, arrays as files in `folder`."""

    cell: Cell
    metrics: dict[str, Any]
    folder: Path
    duration_s: float


RunCell = Callable[[Any, Cell, Path], dict[str, Any]]
_Config = TypeVar("_Config")


@dataclass(frozen=True)
class Experiment:
    """An experiment, as `run` takes it.

    Attributes:
        name: Its name on the command line and in results.
        title: The heading of its page.
        summary: One sentence.
        Config: A frozen dataclass, a default for every field; `Config.small()` gives the demo's settings,
            `Config.paper()`, where there is one, the paper's, which the command line starts from when data is given.
        cells: config -> the independent units of work.
        run_cell: (config, cell, folder) -> metrics that JSON can hold; arrays go into the folder.
        draw: (config, results, folder) -> Section; writes the figures and `table.csv` into the folder.
        chapter: Its number in the list of experiments.
    """

    name: str
    title: str
    summary: str
    Config: type
    cells: Callable[[Any], list[Cell]]
    run_cell: RunCell
    draw: Callable[[Any, list[Result], Path], Section]
    chapter: int = 0


REGISTERED: dict[str, Experiment] = {}


def name_of(module: str) -> str:
    """Return the name of the experiment in a folder: `experiments.one_place` is "one-place"."""
    return module.rpartition(".")[2].replace("_", "-")


def title_and_summary(docstring: str | None) -> tuple[str, str]:
    """Return the first paragraph of a docstring, without a full stop, and the second, "" if there is none."""
    title, summary, *_ = [" ".join(part.split()) for part in f"{docstring or ''}\n\n".split("\n\n")]
    return title.removesuffix("."), summary


def register(*, chapter: int, cells: Callable[[Any], list[Cell]]) -> Callable[[type[_Config]], type[_Config]]:
    """Make an `Experiment` of the decorated settings and of the modules `experiment` and `page` beside them.

    chapter is a literal: lists of experiments are made from the source, without importing it.
    """

    def registered(Config: type[_Config]) -> type[_Config]:
        module = Config.__module__
        REGISTERED[name_of(module)] = Experiment(
            name_of(module),
            *title_and_summary(sys.modules[module].__doc__),
            Config,
            cells,
            # PyTorch and drawing libraries load when they are needed.
            run_cell=lambda *given: import_module(f"{module}.experiment").run_cell(*given),
            draw=lambda *given: import_module(f"{module}.page").draw(*given),
            chapter=chapter,
        )
        return Config

    return registered


def grid(
    name: str, named: Mapping[str, Mapping[Any, str]] | None = None, /, **axes: str | Iterable[Any]
) -> Callable[[Any], list[Cell]]:
    """Return the function from settings to a cell for every combination of parameters; the first axis varies slowest.

    Args:
        name: A format such as "{arm}-seed{seed}"; its fields, in order, are the cell's parameters.
        named: For an axis, how values are written in the name.
        **axes: The values of each parameter, or the field of the settings that has them; of a count those below it.

    Example:
        >>> from types import SimpleNamespace
        >>> cells = grid("{arm}-seed{seed}", seed="seeds", arm="arms")
        >>> [cell.name for cell in cells(SimpleNamespace(seeds=2, arms=("own", "full")))]
        ['own-seed0', 'full-seed0', 'own-seed1', 'full-seed1']
    """
    fields = [field for _, field, _, _ in string.Formatter().parse(name) if field]

    def cells(config: Any) -> list[Cell]:
        of_axes = [getattr(config, axis) if isinstance(axis, str) else axis for axis in axes.values()]
        found = []
        for values in itertools.product(*(range(axis) if isinstance(axis, int) else axis for axis in of_axes)):
            of = dict(zip(axes, values, strict=True))
            words = {key: (named or {}).get(key, {}).get(one, str(one).replace("/", "-")) for key, one in of.items()}
            found.append(Cell(name.format(**words), {field: of[field] for field in fields}))
        return found

    return cells
