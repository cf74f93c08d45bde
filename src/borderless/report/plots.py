"""Drawing primitives that every figure shares: one style, panels for feature maps and heat maps, PNG out.

Figures are drawn on matplotlib's Agg canvas without pyplot, so a caller's own plots and settings stay as they are.
Sizes are (height, width) in inches; one inch is 96 pixels of a page and is saved with twice as many.
"""

# matplotlib's keywords have no types.
# pyright: reportUnknownMemberType=false

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike
from PIL import Image

from borderless.report.dark import BOXES, boxes
from borderless.runtime.files import write_atomically

PAGE_DPI = 96
SEQUENTIAL = "viridis"
DIVERGING = "RdBu_r"
INTENSITY = "gray"
# Below this a relative difference is rounding; it is drawn at the foot of a logarithmic axis.
ROUNDING = 1e-8

# One color and one marker per border in every figure, distinct also without color vision.
BORDER_COLORS = {
    "valid": "#77736b",
    "zero": "#c43c2a",
    "reflect": "#e08a1e",
    "replicate": "#b59b12",
    "circular": "#8457a8",
    "full": "#2878b5",
    "infinite": "#16805a",
}
BORDER_MARKERS = {
    "valid": "v",
    "zero": "s",
    "reflect": "D",
    "replicate": "P",
    "circular": "X",
    "full": "o",
    "infinite": "^",
}

# Of the arms of experiments, in which the original padding takes the place of `zero`.
_ARM_COLORS_AND_MARKERS = {
    "own": ("#c43c2a", "s"),
    "same": ("#c43c2a", "s"),
    "full": ("#2878b5", "o"),
    "full-temporal": ("#0f4c81", "P"),
    "infinite": ("#16805a", "^"),
    "infinite-adaptive": ("#8457a8", "D"),
    "own-padded": ("#77736b", "v"),
    "own-moved": ("#e08a1e", "P"),
    "own-padded-moved": ("#33322f", "X"),
    "recipe": ("#0b8f8f", "*"),
}

# Published numbers beside measured ones; what is neither border nor arm.
PAPER_GRAY, GRAY, INK = "#b9b7ae", "#4c4b47", "#1d1d1b"

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "axes.edgecolor": "#8a8880",
    "axes.linewidth": 0.8,
    "axes.labelcolor": "#33322f",
    "axes.titlecolor": "#1d1d1b",
    "axes.titlepad": 5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#e4e2db",
    "grid.linewidth": 0.8,
    "xtick.color": "#8a8880",
    "ytick.color": "#8a8880",
    "xtick.labelcolor": "#4c4b47",
    "ytick.labelcolor": "#4c4b47",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


def style() -> Any:
    """Return a context in which what is drawn has this style; the caller's matplotlib settings come back after it."""
    return matplotlib.rc_context(STYLE)


@style()
def new_figure(
    nrows: int = 1, ncols: int = 1, panel_size: tuple[float, float] = (2.4, 2.4), **subplots: Any
) -> tuple[Figure, np.ndarray]:
    """Return a figure of nrows × ncols panels of (height, width) inches, and its axes as an array of that shape.

    Further arguments go to `Figure.subplots` (`sharey`, `width_ratios`, ...).
    """
    height, width = panel_size
    fig = Figure(figsize=(width * ncols, height * nrows), layout="constrained")
    FigureCanvasAgg(fig)
    return fig, fig.subplots(nrows, ncols, squeeze=False, **subplots)


@style()
def save(fig: Figure, path: Path, width_px: int | None = None) -> Path:
    """Save as PNG, `width_px` wide (by default twice its size on a page), whole or not at all. Returns `path`."""
    dpi = 2 * PAGE_DPI if width_px is None else width_px / fig.get_figwidth()
    fig.set_dpi(dpi)
    # Each drawing lays out anew. The second has settled, and what is saved keeps it, so that the boxes fit.
    fig.draw_without_rendering()
    fig.draw_without_rendering()
    fig.set_layout_engine("none")
    data = io.BytesIO()
    fig.savefig(data, format="png", dpi=dpi, metadata={"Software": None, BOXES: json.dumps(boxes(fig))})
    write_atomically(path, data.getvalue())
    return path


@style()
def to_image(fig: Figure, dpi: float = PAGE_DPI) -> Image.Image:
    """Return the figure as an RGB picture, for the frames of an animation."""
    fig.set_dpi(dpi)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def save_animation(pictures: Sequence[Image.Image], path: Path, frame_ms: int, last_frame_ms: int) -> Path:
    """Save a looping GIF with one palette for all pictures, so that only what changes is stored. Returns `path`."""
    palette = pictures[-1].quantize(256, dither=Image.Dither.NONE)
    # Near-whites are averaged on the way; the page behind the film is pure white.
    palette.putpalette([255 if value > 248 else value for value in palette.getpalette() or []])
    frames = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    durations = [frame_ms] * (len(frames) - 1) + [last_frame_ms]
    film = io.BytesIO()
    frames[0].save(
        film, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True
    )
    write_atomically(path, film.getvalue())
    return path


@style()
def feature_map(
    ax: Axes,
    values: ArrayLike,
    *,
    title: str = "",
    vmin: float | None = None,
    vmax: float | None = None,
    start: tuple[int, int] = (0, 0),
    frame: tuple[int, int] | None = None,
    show: tuple[int, int, int, int] | None = None,
    cmap: str = INTENSITY,
    cells: bool = False,
) -> Any:
    """One map (rows × columns) drawn cell by cell in frame coordinates; returns matplotlib's image.

    start: frame index (row, column) of the first value. frame: (height, width) of the dashed outline of the frame.
    show: (top, left, bottom, right), the part of the plane to show. cells: draw the lines between cells.
    """
    values = np.asarray(values)
    top, left = start
    bottom, right = top + values.shape[0], left + values.shape[1]
    image = ax.imshow(
        values, cmap=cmap, vmin=vmin, vmax=vmax, interpolation="nearest", extent=(left, right, bottom, top)
    )
    if cells:
        ax.hlines(range(top + 1, bottom), left, right, colors="#8a8880", linewidth=0.4)
        ax.vlines(range(left + 1, right), top, bottom, colors="#8a8880", linewidth=0.4)
    if frame is not None:
        ax.add_patch(
            Rectangle((0, 0), frame[1], frame[0], fill=False, edgecolor="#e0541b", linewidth=1.2, linestyle=(0, (3, 2)))
        )
    if show is not None:
        ax.set(xlim=(show[1], show[3]), ylim=(show[2], show[0]))
    bare(ax)
    ax.add_patch(
        Rectangle((left, top), values.shape[1], values.shape[0], fill=False, edgecolor="#8a8880", linewidth=0.8)
    )
    if title:
        ax.set_title(title)
    return image


@style()
def heat_map(
    ax: Axes,
    values: ArrayLike,
    *,
    title: str,
    vmin: float,
    vmax: float,
    extent: tuple[float, float, float, float] | None = None,
    cmap: str = SEQUENTIAL,
    label: str = "",
    annotate: str | None = None,
    color_bar: bool = True,
) -> Any:
    """Values over positions (rows × columns); returns matplotlib's image.

    extent: (left, right, bottom, top) in units of the axes; without it, cells are counted. label: the color bar's.
    annotate: a format such as "{:.0f}" that writes each value into its cell.
    """
    values = np.asarray(values, dtype=float)
    image = ax.imshow(values, cmap=cmap, vmin=vmin, vmax=vmax, interpolation="nearest", extent=extent)
    ax.set_title(title)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=2)
    if annotate is not None:
        _annotate(ax, image, values, annotate)
    if color_bar:
        color_bar_beside(image, ax, label=label, shrink=0.85, pad=0.03)
    return image


def color_bar_beside(image: Any, axes: Any, **settings: Any) -> None:
    """Put the color bar of an image beside one panel or several; settings are those of `Figure.colorbar`."""
    image.figure.colorbar(image, ax=axes, **settings).outline.set_visible(False)


def picture(ax: Axes, image: ArrayLike, label: str = "", **settings: Any) -> None:
    """Show a picture, pixel by pixel, with a label on its left; settings are those of `Axes.imshow`."""
    ax.imshow(image, interpolation="nearest", **settings)
    bare(ax)
    ax.set_ylabel(label)


def marker_style(arm: str) -> dict[str, Any]:
    """Return the marker and color of an arm's points; a variant of an arm, such as with blur, has hollow ones."""
    base = max((name for name in _ARM_COLORS_AND_MARKERS if f"{arm}-".startswith(f"{name}-")), key=len)
    color, marker = _ARM_COLORS_AND_MARKERS[base]
    return {
        "marker": marker,
        "color": color,
        "markerfacecolor": "white" if arm != base else color,
        "markeredgecolor": color,
    }


def points(
    ax: Axes,
    at: Sequence[float],
    means: Sequence[float],
    intervals: Sequence[tuple[float, float] | None],
    *,
    alpha: float = 0.5,
    **style: Any,
) -> None:
    """Draw means, each with a vertical line from end to end of its interval.

    Args:
        ax: Where to draw.
        at: Horizontal positions.
        means: The points.
        intervals: (low, high) of each point; None where there is none.
        alpha: How opaque the lines of the intervals are.
        **style: Of the points and the line between them; for `ax.plot`.
    """
    ax.plot(at, means, **style)
    for x, ends in zip(at, intervals, strict=True):
        if ends is not None:
            ax.plot([x, x], ends, color=style["color"], linewidth=1, alpha=alpha)


def around(means: Sequence[float], halves: Sequence[float | None]) -> list[tuple[float, float] | None]:
    """Return the intervals of means, from half their widths; None where there is none."""
    return [None if half is None else (mean - half, mean + half) for mean, half in zip(means, halves, strict=True)]


def panel(ax: Axes, *, ticks: Sequence[str] = (), grid: Literal["x", "y"] = "y", **settings: Any) -> None:
    """Set titles, labels and limits of a panel, lines across it, and labels at 0, 1, … of its horizontal axis."""
    if ticks:
        ax.set_xticks(range(len(ticks)), list(ticks))
    ax.set(**settings)
    ax.grid(axis=grid)


def legend_below(fig: Figure, ax: Axes, columns: int = 3) -> None:
    """Put the legend of a panel below the figure, in at most so many columns, as many as are not wider than it."""
    for count in range(columns, 0, -1):
        legend = fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=count)
        if count == 1 or legend.get_window_extent().width <= fig.bbox.width:
            return
        legend.remove()


def legend_beside(ax: Axes) -> None:
    """Put the legend of a panel to its right."""
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def bare(ax: Axes) -> None:
    """Remove ticks and spines: for panels that are pictures."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _annotate(ax: Axes, image: Any, values: np.ndarray, form: str) -> None:
    left, right, bottom, top = image.get_extent()
    rows, columns = values.shape
    for (row, column), value in np.ndenumerate(values):
        x = left + (column + 0.5) * (right - left) / columns
        y = top + (row + 0.5) * (bottom - top) / rows
        red, green, blue, _ = image.cmap(image.norm(value))
        color = INK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.55 else "white"
        ax.text(x, y, form.format(value), ha="center", va="center", fontsize=7.5, color=color)
