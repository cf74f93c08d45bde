"""What pages of experiments are made of: their texts from a template, and tables of means.

A page's texts stand in `page.j2` beside it: `# title`, paragraphs, then `## figure NAME` with the caption and the
alternative text, and `## table NAME` with the caption, in paragraphs. Jinja2 fills in the numbers.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from borderless.experiments.experiment import Result
from borderless.measures.intervals import over_seeds
from borderless.report.content import Figure, Section, Table, TableCell


@dataclass(frozen=True)
class PageText:
    """The filled-in texts of a page: its title, its paragraphs, and those of each figure and table."""

    title: str
    paragraphs: list[str]
    blocks: dict[str, list[str]]

    def figure(self, name: str, path: Path) -> Figure:
        """Return the figure at `path` with its caption and alternative text."""
        caption, alternative = self.blocks[f"figure {name}"]
        return Figure(path, caption, alternative)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], sign: str = "") -> Table:
        """Return a table whose cells are texts, or numbers over seeds to be shown as mean and interval."""
        (caption,) = self.blocks[f"table {name}"]
        shown: list[list[TableCell]] = [
            [cell if isinstance(cell, TableCell) else mean_in_words(cell, sign) for cell in row] for row in rows
        ]
        return Table(columns, shown, caption)

    def section(self, figures: Sequence[Figure], tables: Sequence[Table]) -> Section:
        """Return the whole page."""
        return Section(self.title, self.paragraphs, list(figures), list(tables))


def page_text(page: str, **values: Any) -> PageText:
    """Fill in the template beside the module `page` (its `__file__`).

    Args:
        page: The file of the page's module.
        **values: What the template names. It also knows the filters `percent` (a share, or the mean of several, to so
            many digits), `mean`, `form` (a format), `listed`, and `over(seeds)`, how a mean over seeds is announced.
    """
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    environment.filters |= {
        "percent": lambda share, digits=1: f"{100 * np.mean(share):.{digits}f}",
        "mean": lambda numbers, digits=1: f"{np.mean(numbers):.{digits}f}",
        "form": format,
        "mean_in_words": mean_in_words,
    }
    environment.globals["over"] = seeds_in_words
    text = environment.from_string(Path(page).with_suffix(".j2").read_text(encoding="utf-8")).render(values)
    first, *others = re.split(r"^##? (.+)\n", text.lstrip(), flags=re.MULTILINE)[1:]
    blocks = dict(zip(["page", *others[1::2]], map(_paragraphs, others[::2]), strict=True))
    return PageText(first, blocks.pop("page"), blocks)


def _paragraphs(text: str) -> list[str]:
    """Split at empty lines, and unwrap."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def mean_in_words(values: Sequence[float], sign: str = "") -> str:
    """Return the mean over seeds and half its 95 % interval, to one place.

    Args:
        values: One number per seed.
        sign: "+" for differences.

    Example:
        >>> mean_in_words([1.0, 2.0, 3.0]), mean_in_words([1.5], "+")
        ('2.0 ± 2.5', '+1.5')
    """
    half = over_seeds(values)
    return f"{np.mean(values):{sign}.1f}" + ("" if half is None else f" ± {half:.1f}")


def seeds_in_words(count: int) -> str:
    """Say what a mean over seeds is of."""
    return f"{count} seeds ± half the 95 % interval (Student’s t)" if count > 1 else "1 seed"


def values(results: Sequence[Result], metric: str, scale: float = 1.0) -> list[float]:
    """Return one metric of every result, times `scale`."""
    return [scale * r.metrics[metric] for r in results]


def percents(results: Sequence[Result], metric: str) -> list[float]:
    """Return one metric in [0, 1] of every result, in percent."""
    return values(results, metric, 100)
