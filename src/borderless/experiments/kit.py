"""Parts of experiments' pages: numbers of groups, texts from a template, tables of means."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from borderless.experiments import published
from borderless.experiments.experiment import Result
from borderless.measures.intervals import over_seeds, seeds_to_settle
from borderless.report.content import TableCell
from borderless.report.page_text import PageText, filled_in


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


def mean_in_words(values: Sequence[float], sign: str = "") -> str:
    """Return the mean over seeds and half its 95 % interval, to one decimal.

    Args:
        values: One number per seed.
        sign: "+" for differences.

    Example:
        >>> mean_in_words([1.0, 2.0, 3.0]), mean_in_words([1.5], "+")
        ('2.0 ± 2.5', '+1.5')
    """
    half = over_seeds(values)
    return f"{np.mean(values):{sign}.1f}" + ("" if half is None else f" ± {half:.1f}")


def difference_in_words(values: Sequence[float], reference: Sequence[float]) -> str:
    """Return the mean difference of paired numbers with its interval, and what would settle an unsettled sign.

    Args:
        values: One number per seed.
        reference: The number of the same seed that it is compared with.

    Example:
        >>> difference_in_words([3.0, 3.5, 4.0], [1.0, 1.0, 1.0])
        '+2.5 ± 1.2'
        >>> difference_in_words([4.0, 0.0, 2.0], [1.0, 1.0, 1.0])
        '+1.0 ± 5.0 (open; about 18 seeds would settle it)'
    """
    differences = list(np.subtract(values, reference))
    half, words = over_seeds(differences), mean_in_words(differences, "+")
    if half is None or abs(np.mean(differences)) > half or not np.any(differences):
        return words
    needed = seeds_to_settle(differences)
    return f"{words} (open; {f'about {needed}' if needed else 'more than 1,000'} seeds would settle it)"


def _over(seeds: int) -> str:
    return f"{seeds} seeds ± half the 95 % interval (Student’s t)" if seeds > 1 else "1 seed"


def values(results: Sequence[Result], metric: str, scale: float = 1.0) -> list[float]:
    """Return one metric of every result, times `scale`."""
    return [scale * r.metrics[metric] for r in results]


def percents(results: Sequence[Result], metric: str) -> list[float]:
    """Return one metric in [0, 1] of every result, in percent."""
    return values(results, metric, 100)
