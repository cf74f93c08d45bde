"""The figures of `red-green`: its three sets of images, and the accuracies under every border."""

from pathlib import Path
from typing import Any

import numpy as np

from borderless.data.red_green import SIZE_PX, RedGreen, Split
from borderless.experiments import published
from borderless.report import Figure, plots

EXAMPLES = 4
CLASSES = ("class 1: red left of green", "class 2: green left of red")


def sets(path: Path, data: RedGreen) -> Figure:
    """Some images of each class (rows) from training and from both test sets."""
    shown = {"training": data.train, "test, similar": data.similar, "test, dissimilar": data.dissimilar}
    fig, axes = plots.new_figure(2, len(shown), panel_size=(1.05, 3.3))
    for column, (title, split) in enumerate(shown.items()):
        for label in (0, 1):
            ax = axes[label, column]
            ax.imshow(_strip(split, label), interpolation="nearest")
            plots.bare(ax)
            if label == 0:
                ax.set_title(title)
            if column == 0:
                ax.set_ylabel(CLASSES[label].replace(": ", "\n"), fontsize=8)
    plots.save(fig, path)
    return Figure(
        path,
        "Images of both classes. In training and in the similar test set, class 1 is in the upper half and class 2 in "
        "the lower one; in the dissimilar test set it is the other way round.",
        "Rows of small black images with a red and a green square each: red left of green in the upper half and green "
        "left of red in the lower half, except in the dissimilar test images, where the halves are swapped.",
    )


def _strip(split: Split, label: int) -> np.ndarray:
    """Images side by side, with a white line between them: (32, wide, 3)."""
    images = split.images[split.labels == label][:EXAMPLES].permute(0, 2, 3, 1).numpy()
    line = np.ones((SIZE_PX, 1, 3))
    parts = [part for image in images for part in (image, line)]
    return np.concatenate(parts[:-1], axis=1)


def accuracies(path: Path, metrics: dict[str, list[dict[str, Any]]]) -> Figure:
    """Each training a dot, on the left where place agrees with training and on the right where it contradicts it."""
    fig, axes = plots.new_figure(1, 2, panel_size=(2.9, 4.1), sharey=True)
    for ax, name, title in zip(
        axes[0], ("similar", "dissimilar"), ("place agrees with training", "place contradicts training"), strict=True
    ):
        ax.axhline(50, color="#b9b7ae", linewidth=0.8, linestyle=(0, (4, 3)))
        for at, (border, group) in enumerate(metrics.items()):
            values = [100 * m[name] for m in group]
            beside = np.linspace(-0.16, 0.16, len(values)) if len(values) > 1 else [0.0]
            ax.plot(
                [at + b for b in beside],
                values,
                linestyle="none",
                marker=plots.BORDER_MARKERS[border],
                color=plots.BORDER_COLOURS[border],
                markersize=4.5,
                alpha=0.75,
                markeredgewidth=0,
            )
            if (border, name) in published.RED_GREEN.numbers:
                paper = published.RED_GREEN[border, name].value
                ax.plot([at - 0.36, at + 0.36], [paper, paper], color="#1d1d1b", linewidth=1.2, solid_capstyle="butt")
        ax.set(title=title, ylim=(-4, 104), xlim=(-0.6, len(metrics) - 0.4))
        ax.set_xticks(range(len(metrics)), list(metrics), rotation=35, ha="right")
        ax.grid(axis="y")
    axes[0, 0].set_ylabel("test accuracy, %")
    axes[0, 0].plot([], [], color="#1d1d1b", linewidth=1.2, label="the paper's mean")
    axes[0, 0].legend(loc="lower left")
    plots.save(fig, path)
    best = {border: np.mean([m["dissimilar"] for m in group]) for border, group in metrics.items()}
    return Figure(
        path,
        "Test accuracy of each training (dots) under each border; lines: the paper's means; dashed: guessing.",
        "Accuracy on swapped halves: "
        + ", ".join(f"{border} {100 * value:.0f} percent" for border, value in best.items())
        + ".",
    )
