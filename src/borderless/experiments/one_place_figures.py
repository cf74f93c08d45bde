"""The picture of `one-place`: where the digits stood in training, and accuracy at every place for each arm."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle

from borderless.data.digits import DIGIT_PX
from borderless.report import Figure, plots

WIDTH_PX = 1200
INK = "#1d1d1b"


def maps(path: Path, example: np.ndarray, accuracies: Mapping[str, np.ndarray], stride: int, seeds: str) -> Figure:
    """One map an arm, on one scale, after an example of the training images.

    example: height × width. accuracies: arm's title to percent, rows × columns of places. stride: ticks, in px. seeds:
    what the maps are means of, for the caption.
    """
    fig, axes = plots.new_figure(2, 3, (3.15, 2.95))
    _example(axes[0, 0], example, next(iter(accuracies.values())).size)
    image = None
    for ax, (title, values) in zip(axes.flat[1:], accuracies.items(), strict=True):
        rows, columns = values.shape
        image = plots.heat_map(
            ax,
            values,
            title=title,
            vmin=0,
            vmax=100,
            extent=(-0.5, columns - 0.5, rows - 0.5, -0.5),
            colour_bar=False,
        )
        ax.set(xticks=range(0, columns, stride), yticks=range(0, rows, stride))
        ax.set_xlabel(f"min {values.min():.0f} %    mean {values.mean():.0f} %", fontsize=10, color=INK)
    bar = fig.colorbar(image, ax=axes[:, -1], label="accuracy, %", shrink=0.6, aspect=28)
    bar.outline.set_visible(False)
    ranges = "; ".join(
        f"{title} {values.min():.0f} to {values.max():.0f} %, mean {values.mean():.0f} %"
        for title, values in accuracies.items()
    )
    return Figure(
        plots.save(fig, path, width_px=WIDTH_PX),
        "Accuracy on test digits at every place of the canvas, for a network trained in the upper left corner only "
        "(the last one: everywhere). A cell is one place, by the row and column of the digit's upper left pixel, with "
        f"a tick at every {stride} px, the network's total stride. {seeds}; least and mean value of the map shown.",
        f"An example of the training images and five heat maps of accuracy over places: {ranges}. Own padding is good "
        "near the corner and poor elsewhere; full and infinite are good on a grid of single places one stride apart; "
        "infinite with adaptive phase is one even colour.",
    )


def _example(ax: Any, image: np.ndarray, places: int) -> None:
    ax.imshow(image, cmap=plots.INTENSITY, interpolation="nearest")
    plots.bare(ax)
    ax.add_patch(Rectangle((-0.5, -0.5), DIGIT_PX, DIGIT_PX, fill=False, edgecolor="#e0541b", linewidth=1.6))
    ax.set_title("every training digit stands here")
    ax.set_xlabel(f"… and is tested at all {places} places", fontsize=10, color=INK)
