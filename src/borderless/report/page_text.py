"""Make the texts of a page from a template: all words are in one file, and Jinja2 fills in the numbers.

# The title

A paragraph with {{ share|percent }} %.

## figure NAME

Its caption.

Its alternative text.

## table NAME

Its caption.

## result

What was found, in one line (optional).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

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

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[TableCell]]) -> Table:
        """Return the table with its caption."""
        (caption,) = self.blocks[f"table {name}"]
        return Table(columns, rows, caption)

    def section(self, figures: Sequence[Figure], tables: Sequence[Table]) -> Section:
        """Return the whole page."""
        result = " ".join(self.blocks.get("result", []))
        return Section(self.title, self.paragraphs, list(figures), list(tables), result)


def filled_in(template: Path, values: Mapping[str, Any], words: Mapping[str, Callable[..., str]]) -> PageText:
    """Fill in a template.

    Args:
        template: The file.
        values: What it names.
        words: Further functions and filters. It always knows `percent` (a share, or the mean of several, to so many
            digits), `mean` (of numbers, to so many digits) and `form` (a number in a format).
    """
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    known: dict[str, Callable[..., str]] = {"percent": _percent, "mean": _mean, "form": format, **words}
    environment.globals.update(words)  # pyright: ignore[reportUnknownMemberType]
    environment.filters.update(known)  # pyright: ignore[reportUnknownMemberType]
    text = environment.from_string(template.read_text(encoding="utf-8")).render(values)
    title, *others = re.split(r"^##? (.+)\n", text.lstrip(), flags=re.MULTILINE)[1:]
    blocks = dict(zip(["page", *others[1::2]], map(_paragraphs, others[::2]), strict=True))
    return PageText(title, blocks.pop("page"), blocks)


def _percent(share: float | Sequence[float], digits: int = 1) -> str:
    return f"{100 * np.mean(share):.{digits}f}"


def _mean(numbers: float | Sequence[float], digits: int = 1) -> str:
    return f"{np.mean(numbers):.{digits}f}"


def _paragraphs(text: str) -> list[str]:
    """Split at empty lines, and unwrap."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]
