"""The picture of `placed-object`: for each photograph and border, the right classes' probability at every position."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from borderless.report import Figure, plots

WRONG = "#ff6b4a"


def maps(
    path: Path,
    canvases: Mapping[str, np.ndarray],
    arms: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]],
    background: str,
    offsets_px: Sequence[int],
) -> Figure:
    """One row a photograph, one column an arm.

    canvases: by photograph, height × width × 3. arms: by title, for each photograph the probability in percent and
    whether the first place is right, both rows × columns of positions.
    """
    n = len(offsets_px)
    fig, axes = plots.new_figure(len(canvases), 1 + len(arms), (1.4, 1.18))
    for ax, (photo, canvas) in zip(axes[:, 0], canvases.items(), strict=True):
        ax.imshow(canvas, interpolation="nearest")
        plots.bare(ax)
        ax.set_ylabel(photo)
    image = None
    for column, (title, rows) in enumerate(arms.items(), start=1):
        for ax, (probability, is_right) in zip(axes[:, column], rows, strict=True):
            image = plots.heat_map(ax, probability, title="", vmin=0, vmax=100, colour_bar=False)
            wrong = np.argwhere(~is_right)
            ax.scatter(wrong[:, 1], wrong[:, 0], marker="x", s=min(40, 260 / n), color=WRONG, linewidth=1)
            plots.bare(ax)
            ax.set_xlabel(_range(probability.min(), probability.max()), fontsize=8)
        axes[0, column].set_title(title, fontsize=8.5)
    bar = fig.colorbar(image, ax=axes, label="probability, %", shrink=0.8, aspect=40, pad=0.01)
    bar.outline.set_visible(False)
    worst = "; ".join(
        f"{title.replace(chr(10), ' ')} {', '.join(_range(p.min(), p.max()) for p, _ in rows)}"
        for title, rows in arms.items()
    )
    return Figure(
        plots.save(fig, path),
        f"Probability of the right classes with the photograph at each of {n} × {n} positions on a {background} canvas "
        f"(offsets {', '.join(map(str, offsets_px))} px), under each border; below each map its range over positions. "
        "A cross: another class has the first place. Left: the photograph at the middle position.",
        f"A grid of heat maps, a row for each of {', '.join(canvases)}. Under infinite with adaptive phase each map "
        f"has one colour; under the others the colour changes with the position. Ranges, row by row: {worst}.",
    )


def _range(low: float, high: float) -> str:
    if high < 1:
        return "< 1 %"
    return f"{low:.0f}–{high:.0f} %" if round(high) > round(low) else f"{high:.0f} %"
