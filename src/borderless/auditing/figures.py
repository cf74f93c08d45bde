"""Draw what the first screen of an audit shows: one object at two positions, and where predictions change."""

from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

import numpy as np

from borderless.auditing.result import Measurements
from borderless.measures.prediction_changes import OnPhotographs
from borderless.report.content import Figure
from borderless.report.numbers import percent, safe
from borderless.report.plots import bare, heat_map, new_figure, save


@dataclass(frozen=True)
class Example:
    """One object at the middle of a photograph, and at another position.

    Attributes:
        pictures: Two, (height, width, 3), 8 bits.
        classes: The prediction for each.
        probabilities: Of the class that is predicted in the middle.
        positions: (row, column) of the object's upper left pixel.
        object_px: Height and width of the object.
    """

    pictures: tuple[np.ndarray, np.ndarray]
    classes: tuple[str, str]
    probabilities: tuple[float, float]
    positions: tuple[tuple[int, int], tuple[int, int]]
    object_px: tuple[int, int]


def draw_example(path: Path, example: Example) -> Figure:
    """Draw the object at both positions, with the predictions above them."""
    from matplotlib.patches import Rectangle

    fig, axes = new_figure(1, 2, (2.15, 1.78))
    titles = ("in the middle", "elsewhere")
    rows = zip(axes[0], example.pictures, example.classes, example.positions, titles, strict=True)
    for ax, picture, label, (row, column), where in rows:
        ax.imshow(picture)
        bare(ax)
        ax.add_patch(
            Rectangle(
                (column - 0.5, row - 0.5),
                example.object_px[1],
                example.object_px[0],
                fill=False,
                edgecolor="#ffffff",
                linewidth=1.2,
            )
        )
        ax.set_title(f"{where}:\n{shorten(label, 26, placeholder=' …')}", fontsize=8.5)
    first, other = example.classes
    before, after = (percent(probability) for probability in example.probabilities)
    return Figure(
        save(fig, path),
        f"The same object (white frame) on the same photograph, with its prediction. The probability of {safe(first)} "
        f"is {before} in the middle and {after} elsewhere.",
        f"Two pictures of one object on a photograph. The prediction in the middle is {first}, at another position "
        f"{other}.",
    )


def draw_positions(path: Path, audit: Measurements) -> Figure:
    """Draw how much the output for an object on a photograph changes, at each position."""
    found: OnPhotographs = audit.results["photographs"]
    grid, extent = as_grid(found.positions, found.differs.mean(1))
    fig, axes = new_figure(1, 1, (2.55, 3.56))
    heat_map(
        axes[0, 0],
        100 * grid,
        title=audit.words.column,
        vmin=0,
        vmax=max(100, 100 * float(np.nanmax(grid))),
        extent=extent,
        cmap="Reds",
        annotate="{:.0f}",
    )
    axes[0, 0].set(xlabel="column of the object, px", ylabel="row, px")
    effect = found.effect
    return Figure(
        save(fig, path),
        f"Another output than in the middle ({audit.words.column}), the mean of {effect.objects} objects, by the "
        f"position of their upper left pixel on photographs of {audit.size[0]} × {audit.size[1]} px.",
        f"Heat map over {len(found.positions)} positions, {audit.words.column}: from {100 * np.nanmin(grid):.0f} to "
        f"{100 * np.nanmax(grid):.0f}.",
    )


def as_grid(positions: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """Return values (P,) at positions (P, 2) as rows and columns, without the middle if it is between them.

    Returns:
        The grid, and its extent (left, right, bottom, top) for `heat_map`.
    """
    rows, columns = (np.unique(positions[:, axis]) for axis in range(2))
    grid = np.full((len(rows), len(columns)), np.nan)
    for (row, column), value in zip(positions, values, strict=True):
        grid[np.searchsorted(rows, row), np.searchsorted(columns, column)] = value
    whole_rows = ~np.isnan(grid).all(1) & (np.isnan(grid).sum(1) < len(columns) / 2)
    whole_columns = ~np.isnan(grid).all(0) & (np.isnan(grid).sum(0) < len(rows) / 2)
    extent = (float(columns[0]), float(columns[-1]), float(rows[-1]), float(rows[0]))
    return grid[np.ix_(whole_rows, whole_columns)], extent
