"""Parts of experiments' pages: groups of results and their numbers, texts from a template, tables."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from borderless.experiments import published
from borderless.experiments.experiment import Result
from borderless.measures.intervals import mean_in_words, over_seeds
from borderless.report import plots
from borderless.report.content import TableCell
from borderless.report.page_text import PageText, filled_in
from borderless.runtime.arrays import load_arrays
from borderless.runtime.files import write_csv


def by(results: Sequence[Result], *parameters: str) -> dict[Any, list[Result]]:
    """Group results by the value of a parameter, or by the tuple of several, in the order of the cells."""
    groups: dict[Any, list[Result]] = {}
    for result in results:
        key = tuple(result.cell.parameters[name] for name in parameters)
        groups.setdefault(key[0] if len(key) == 1 else key, []).append(result)
    return groups


def arrays(result: Result, name: str) -> dict[str, np.ndarray]:
    """Return the arrays that a cell saved in its folder as `name`.

    Raises:
        RunError: The file is missing, cut, or something else.
    """
    return load_arrays(result.folder / name)


def write_table(
    results: Sequence[Result],
    folder: Path,
    metrics: Callable[[dict[str, Any]], Mapping[str, Any]] = lambda metrics: metrics,
) -> None:
    """Write `folder/table.csv`: a line per cell, its parameters and all of its metrics that are single values.

    Args:
        results: One per cell.
        folder: Where to write.
        metrics: Function that selects the metrics to write, by column; by default all.
    """
    parameters = list(results[0].cell.parameters)
    shown = [metrics(r.metrics) for r in results]
    singles = [key for one in shown for key, value in one.items() if not isinstance(value, list | dict)]
    keys = list(dict.fromkeys(singles))
    rows = [
        [*(r.cell.parameters[name] for name in parameters), *(one.get(key) for key in keys)]
        for r, one in zip(results, shown, strict=True)
    ]
    write_csv(folder / "table.csv", [*parameters, *keys], rows)


def texts(page: str, **values: Any) -> PageText:
    """Fill in the template beside a page.

    Args:
        page: The `__file__` of the page's module.
        **values: The variables of the template. `mean_in_words`, `over(seeds)` (the unit of a mean) and the tables of
            `published` are defined, too.
    """
    words = {"mean_in_words": mean_in_words, "over": _over}
    return filled_in(Path(page).with_suffix(".j2"), values | {"published": published}, words)


def means(rows: Sequence[Sequence[TableCell | list[float]]]) -> list[list[TableCell]]:
    """Return the rows of a table, with lists of numbers over seeds shown as mean and interval."""
    return [[mean_in_words(cell) if isinstance(cell, list) else cell for cell in row] for row in rows]


def _over(seeds: int) -> str:
    return f"{seeds} seeds ± half the 95 % interval (Student’s t)" if seeds > 1 else "1 seed"


def values(results: Sequence[Result], metric: str, scale: float = 1.0) -> list[float]:
    """Return one metric of every result, times `scale`."""
    return [scale * r.metrics[metric] for r in results]


def percents(results: Sequence[Result], metric: str) -> list[float]:
    """Return one metric in [0, 1] of every result, in percent."""
    return values(results, metric, 100)


def cost(group: Sequence[Result]) -> str:
    """Return the multiply-adds of a group's networks, as a multiple of what they are compared with."""
    return f"{group[0].metrics['cost']:.1f}×"


def points_over_seeds(ax: Axes, at: Sequence[float], found: Sequence[Sequence[float]], **style: Any) -> None:
    """Draw the mean of each list of numbers over seeds, with its interval; the style is that of `plots.points`."""
    centers = [float(np.mean(one)) for one in found]
    plots.points(ax, at, centers, plots.around(centers, [over_seeds(one) for one in found]), **style)
