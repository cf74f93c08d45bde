"""The page of `equivariance`: both orders and their difference as feature maps, and how far apart they are."""

from pathlib import Path

import numpy as np

from borderless.data.letter import image
from borderless.experiments.equivariance import BIASES, EquivarianceConfig
from borderless.experiments.equivariance.experiment import network, object_response
from borderless.experiments.experiment import Result, by
from borderless.experiments.kit import texts
from borderless.experiments.results_on_disk import load_arrays
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
    rows = [
        [border, bias, shift, error, around]
        for (border, bias), r in found.items()
        for shift, (error, around) in enumerate(
            zip(r.metrics["errors"], r.metrics["errors_around"] or [""] * config.largest_shift, strict=True), start=1
        )
    ]
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
    table = [[row, *texts, AT_THE_EDGE[row]] for row, texts in largest.items()]
    return text.section(
        [
            text.figure("maps", _maps(folder / "equivariance.png", config, found)),
            text.figure("numbers", _numbers(folder / "errors.png", errors)),
        ],
        [text.table("errors", ["border", "without bias", "with bias", "at the edge"], table)],
    )


def _maps(path: Path, config: EquivarianceConfig, found: dict[tuple[str, bool], Result]) -> Path:
    """Draw for each border two feature maps and their difference, beside the images that they start from."""
    inputs = [image(shift)[0, 0].numpy() for shift in (config.largest_shift, 0)]
    peak = object_response(network(True, config.seed))
    frame = inputs[0].shape
    show = (-AROUND_FRAME, -AROUND_FRAME, frame[0] + AROUND_FRAME, frame[1] + AROUND_FRAME)
    fig, axes = plots.new_figure(3, 1 + len(config.borders), (1.3, 1.18))
    for ax, pixels, order in zip(axes[:2, 0], inputs, ORDERS, strict=True):
        plots.feature_map(ax, pixels, vmin=0, vmax=1, frame=frame, show=show)
        ax.set_ylabel(order)
    axes[0, 0].set_title("input")
    plots.bare(axes[2, 0])
    axes[2, 0].set_ylabel("difference")
    for column, border in enumerate(config.borders, start=1):
        maps = load_arrays(found[border, True].folder / "maps.npz")
        first, second = maps["shifted_then_convolved"], maps["convolved_then_shifted"]
        start = ((frame[0] - first.shape[0]) // 2, (frame[1] - first.shape[1]) // 2)
        for ax, plane in zip(axes[:, column], (first, second, first - second), strict=True):
            plots.feature_map(
                ax, plane, vmin=-peak, vmax=peak, start=start, frame=frame, show=show, cmap=plots.DIVERGING
            )
        axes[0, column].set_title(border)
    return plots.save(fig, path)


def _numbers(path: Path, errors: Errors) -> Path:
    """Return the errors at shifts 1, 2, … px, by row: those without and those with a bias."""
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
            color_bar=False,
        )
        ax.set(xlabel="shift up and left, px", aspect="auto", xticks=range(1, largest_shift + 1))
    axes[0, 0].set_yticks(np.arange(len(rows)) + 0.5, rows)
    return plots.save(fig, path)


def percent(error: float) -> str:
    """Return a share as percent; what is smaller than its last digit is float rounding."""
    if error == 0:
        return "0 %"
    return f"{100 * error:.1f} %" if error >= 5e-4 else "< 0.05 %"
