"""The page of `equivariance`: both orders and their difference as feature maps, and how far apart they are."""

from pathlib import Path
from typing import Any

import numpy as np

from borderless.data.letter import image
from borderless.experiments.equivariance import BIASES, EquivarianceConfig
from borderless.experiments.equivariance.experiment import network
from borderless.experiments.experiment import Result
from borderless.experiments.kit import arrays, by, texts
from borderless.measures.equivariance import object_response
from borderless.report import Section, plots
from borderless.runtime.files import write_csv

ORDERS = ("shift, then\nconvolve", "convolve,\nthen shift")
AROUND_FRAME = 6  # cells of the plane shown on every side
AT_THE_EDGE = {
    "valid": "the response near the edge is dropped",
    "zero": "the response is cropped; with a bias, the frame shows",
    "reflect": "the object meets its mirror image",
    "replicate": "the object's edge is repeated without end",
    "circular": "the response reappears on the far side",
    "circular shift": "exact, because the object moves likewise",
    "full": "exact; with a bias, the frame shows",
    "infinite": "exact",
}
# By row of the page: the errors without and with a bias.
Errors = dict[str, tuple[list[float], list[float]]]


def draw(config: EquivarianceConfig, results: list[Result], folder: Path) -> Section:
    """Draw the page."""
    found = {key: group[0] for key, group in by(results, "border", "bias").items()}
    shifts = range(1, config.largest_shift + 1)
    rows = []
    for (border, bias), r in found.items():
        around = r.metrics["errors_around"] or [""] * len(shifts)
        rows += [[border, bias, *numbers] for numbers in zip(shifts, r.metrics["errors"], around, strict=True)]
    columns = ["border", "bias", "shift_px", "relative_error", "relative_error_circular_shift"]
    write_csv(folder / "table.csv", columns, rows)
    errors: Errors = {}
    for border in config.borders:
        without, with_ = (found[border, bias].metrics for bias in BIASES)
        errors[border] = (without["errors"], with_["errors"])
        if border == "circular":
            errors["circular shift"] = (without["errors_around"], with_["errors_around"])
    largest = {row: tuple(percent(max(values)) for values in both) for row, both in errors.items()}
    text = texts(__file__, shift=config.largest_shift, largest=largest)
    maps = text.figure("maps", _maps(folder / "equivariance.png", config, found))
    numbers = text.figure("numbers", _numbers(folder / "errors.png", errors))
    table = [[row, *both, AT_THE_EDGE[row]] for row, both in largest.items()]
    return text.section(
        [maps, numbers], [text.table("errors", ["border", "without bias", "with bias", "at the edge"], table)]
    )


def _maps(path: Path, config: EquivarianceConfig, found: dict[tuple[str, bool], Result]) -> Path:
    """Draw for each border two feature maps and their difference, beside the images that they start from."""
    inputs = [image(shift)[0, 0].numpy() for shift in (config.largest_shift, 0)]
    peak = object_response(network(True, config.seed), image())
    frame = inputs[0].shape
    show = (-AROUND_FRAME, -AROUND_FRAME, frame[0] + AROUND_FRAME, frame[1] + AROUND_FRAME)
    where: dict[str, Any] = {"frame": frame, "show": show}
    fig, axes = plots.new_figure(3, 1 + len(config.borders), (1.3, 1.18))
    for ax, pixels, order in zip(axes[:2, 0], inputs, ORDERS, strict=True):
        plots.feature_map(ax, pixels, vmin=0, vmax=1, **where)
        ax.set_ylabel(order)
    axes[0, 0].set_title("input")
    plots.bare(axes[2, 0])
    axes[2, 0].set_ylabel("difference")
    for column, border in enumerate(config.borders, start=1):
        maps = arrays(found[border, True], "maps.npz")
        first, second = maps["shifted_then_convolved"], maps["convolved_then_shifted"]
        start = ((frame[0] - first.shape[0]) // 2, (frame[1] - first.shape[1]) // 2)
        for ax, plane in zip(axes[:, column], (first, second, first - second), strict=True):
            plots.feature_map(ax, plane, vmin=-peak, vmax=peak, cmap=plots.DIVERGING, start=start, **where)
        axes[0, column].set_title(border)
    return plots.save(fig, path)


def _numbers(path: Path, errors: Errors) -> Path:
    """Return the errors at shifts 1, 2, … px, by row: those without and those with a bias."""
    rows = list(errors)
    largest_shift = len(errors[rows[0]][0])
    fig, axes = plots.new_figure(1, 2, (0.75 + 0.3 * len(rows), 4.5), sharey=True)
    for i, (ax, title) in enumerate(zip(axes[0], ("without bias", "with bias"), strict=True)):
        percents = [[100 * error for error in errors[row][i]] for row in rows]
        extent = (0.5, largest_shift + 0.5, len(rows), 0)
        style: dict[str, Any] = {"vmin": 0, "vmax": 100, "cmap": "Blues", "color_bar": False}
        plots.heat_map(ax, percents, title=title, extent=extent, annotate="{:.0f}", **style)
        ax.set(xlabel="shift up and left, px", aspect="auto", xticks=range(1, largest_shift + 1))
    axes[0, 0].set_yticks(np.arange(len(rows)) + 0.5, rows)
    return plots.save(fig, path)


def percent(error: float) -> str:
    """Return a share as percent; what is smaller than its last digit is float rounding."""
    if error == 0:
        return "0 %"
    return f"{100 * error:.1f} %" if error >= 5e-4 else "< 0.05 %"
