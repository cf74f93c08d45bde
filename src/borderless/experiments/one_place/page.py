"""The page of `one-place`: the position of digits in training, and accuracy at every position for each arm."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle

from borderless.data.digits import CANVAS_PX, DIGIT_PX, TRAINED_AT, load_digits, place_digits
from borderless.experiments.experiment import Result
from borderless.experiments.kit import arrays, by, cost, means, percents, texts, values, write_table
from borderless.experiments.one_place import ARMS, OnePlaceConfig
from borderless.models.small import STRIDE_PX
from borderless.report import Section, plots

WIDTH_PX = 1200
SIDE = CANVAS_PX[0] - DIGIT_PX + 1
COLUMNS = {
    "where_trained": "in the corner",
    "mean": "mean",
    "min": "worst position",
    "max": "best position",
    "on_stride": "whole strides",
    "off_stride": "between",
}


def draw(config: OnePlaceConfig, results: list[Result], folder: Path) -> Section:
    """Draw the page."""
    write_table(results, folder)
    groups = by(results, "arm")
    accuracies = {name: {key: percents(group, f"accuracy_{key}") for key in COLUMNS} for name, group in groups.items()}
    keys = ("changed_predictions", "predictions")
    counts = {name: [sum(values(group, key)) for key in keys] for name, group in groups.items()}
    changed = {name: f"{100 * one / of:.2g}" if one else "0" for name, (one, of) in counts.items()}
    maps = {ARMS[name].title: 100 * _accuracy_map(group) for name, group in groups.items()}
    text = texts(
        __file__, config=config, accuracies=accuracies, counts=counts, changed=changed, maps=maps, stride=STRIDE_PX
    )
    rows = [
        [ARMS[name].title, *accuracies[name].values(), changed[name], cost(group)] for name, group in groups.items()
    ]
    table = text.table("accuracies", ["arm", *COLUMNS.values(), "changed", "cost"], means(rows))
    return text.section([text.figure("maps", _figure(folder / "one_place.png", maps))], [table])


def _accuracy_map(group: list[Result]) -> np.ndarray:
    """Return the accuracy at every position in [0, 1], mean over the group's seeds: 19 × 19."""
    saved = [arrays(result, "predictions.npz") for result in group]
    return np.mean([(one["predictions"] == one["labels"]).mean(1) for one in saved], axis=0).reshape(SIDE, SIDE)


def _figure(path: Path, maps: dict[str, np.ndarray]) -> Path:
    """Draw one map per arm, on one scale, after an example of the training images."""
    fig, axes = plots.new_figure(2, 4, (3.15, 2.95))
    _example(axes[0, 0])
    image = None
    panels = axes.flat[1 : 1 + len(maps)]
    for ax in axes.flat[1 + len(maps) :]:
        ax.set_axis_off()
    for ax, (title, accuracy) in zip(panels, maps.items(), strict=True):
        extent = (-0.5, SIDE - 0.5, SIDE - 0.5, -0.5)
        shown = title.replace(", ", ",\n", 1)
        image = plots.heat_map(ax, accuracy, title=shown, vmin=0, vmax=100, extent=extent, color_bar=False)
        ax.set(xticks=range(0, SIDE, STRIDE_PX), yticks=range(0, SIDE, STRIDE_PX))
        label = f"min {accuracy.min():.0f} %    mean {accuracy.mean():.0f} %"
        ax.set_xlabel(label, fontsize=10, color=plots.INK)
    # In the free cell, so that the panels stay equal in size.
    free = axes.flat[1 + len(maps)] if len(axes.flat) > 1 + len(maps) else None
    where = {"ax": panels[-1], "shrink": 0.6} if free is None else {"cax": free.inset_axes((0.1, 0.15, 0.06, 0.7))}
    bar = fig.colorbar(image, label="accuracy, %", **where)
    bar.outline.set_visible(False)
    return plots.save(fig, path, width_px=WIDTH_PX)


def _example(ax: Any) -> None:
    image = place_digits(load_digits().images[3:4], TRAINED_AT)[0, 0].numpy()
    plots.picture(ax, image, cmap=plots.INTENSITY)
    ax.add_patch(Rectangle((-0.5, -0.5), DIGIT_PX, DIGIT_PX, fill=False, edgecolor="#e0541b", linewidth=1.6))
    ax.set_title("every training digit is here")
    ax.set_xlabel(f"… and is tested at all {SIDE * SIDE} positions", fontsize=10, color=plots.INK)
