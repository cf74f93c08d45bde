"""The two pictures of `equivariance`: both orders and their difference as maps, and how far apart they are."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from borderless.report import Figure, plots

ORDERS = ("shift, then\nconvolve", "convolve,\nthen shift")
AROUND_FRAME = 6  # cells of the plane shown on every side


def maps(
    path: Path,
    inputs: Sequence[np.ndarray],
    planes: Mapping[str, tuple[np.ndarray, np.ndarray]],
    peak: float,
    shift: int,
) -> Figure:
    """For each border its two maps and their difference, beside the images that they start from.

    inputs: the shifted and the unshifted image. planes: maps on one plane, with the frame in its middle.
    """
    frame = inputs[0].shape
    show = (-AROUND_FRAME, -AROUND_FRAME, frame[0] + AROUND_FRAME, frame[1] + AROUND_FRAME)
    fig, axes = plots.new_figure(3, 1 + len(planes), (1.3, 1.18))
    for ax, values, order in zip(axes[:2, 0], inputs, ORDERS, strict=True):
        plots.feature_map(ax, values, vmin=0, vmax=1, frame=frame, show=show)
        ax.set_ylabel(order)
    axes[0, 0].set_title("input")
    plots.bare(axes[2, 0])
    axes[2, 0].set_ylabel("difference")
    for column, (border, (first, second)) in enumerate(planes.items(), start=1):
        start = ((frame[0] - first.shape[0]) // 2, (frame[1] - first.shape[1]) // 2)
        for ax, values in zip(axes[:, column], (first, second, first - second), strict=True):
            plots.feature_map(
                ax, values, vmin=-peak, vmax=peak, start=start, frame=frame, show=show, cmap=plots.DIVERGING
            )
        axes[0, column].set_title(border)
    return Figure(
        plots.save(fig, path),
        f"Both orders for a shift of {shift} px up and left, and their difference, for a network with biases. Pale "
        "grey is the answer to an empty plane, red is more, blue is less; the dashed outline is the frame.",
        "For each border three maps: shifted then convolved, convolved then shifted, and their difference. Near the "
        "edge valid, zero, reflect and replicate lose or change part of the response; circular has part of it on the "
        "far side; zero and full show the outlines of the frame and of its shifted copy; infinite has no difference.",
    )


def numbers(path: Path, errors: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Figure:
    """The errors at shifts 1, 2, ... px, by row of the picture: those without and those with a bias."""
    rows = list(errors)
    largest_shift = len(errors[rows[0]][0])
    fig, axes = plots.new_figure(1, 2, (0.75 + 0.3 * len(rows), 4.5), sharey=True)
    for i, (ax, title) in enumerate(zip(axes[0], ("without bias", "with bias"), strict=True)):
        plots.heat_map(
            ax,
            [[100 * error for error in errors[row][i]] for row in rows],
            title=title,
            vmin=0,
            vmax=100,
            extent=(0.5, largest_shift + 0.5, len(rows), 0),
            cmap="Blues",
            annotate="{:.0f}",
            colour_bar=False,
        )
        ax.set(xlabel="shift up and left, px", aspect="auto", xticks=range(1, largest_shift + 1))
    axes[0, 0].set_yticks(np.arange(len(rows)) + 0.5, rows)
    in_words = "; ".join(
        f"{row} {percent(max(without))} and {percent(max(with_))}" for row, (without, with_) in errors.items()
    )
    return Figure(
        plots.save(fig, path),
        "How far the two orders are apart, against how far the object moves: the largest difference, in percent of "
        "the largest response to the object. <em>Circular shift</em>: the circular border when what leaves on one "
        "side comes back on the other.",
        f"Two grids of numbers, border by shift. The largest without and with a bias: {in_words}.",
    )


def percent(error: float) -> str:
    """A share as percent, rounding errors in powers of ten."""
    if error == 0:
        return "0 %"
    return f"{100 * error:.1f} %" if error >= 5e-4 else f"{100 * error:.0e} %".replace("e-0", "e-")
