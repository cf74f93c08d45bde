"""The pictures of an audit: the border's depth, its maps, the object everywhere, three leaks, and the price of none."""

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.ticker import PercentFormatter

from borderless.auditing.judge import small
from borderless.measures.border_effect import TOUCHED, BorderEffect, LayerEffect
from borderless.measures.position_sensitivity import Effect, Sensitivity
from borderless.report import Figure
from borderless.report.plots import BORDER_COLOURS, heat_map, new_figure, save

if TYPE_CHECKING:
    from borderless.auditing.measure import ReachPoint

# Below this a relative difference is rounding, and is drawn at the foot of a logarithmic axis.
_FLOOR = 1e-8
_LINES, _MAPS = 8, 5


def depth(path: Path, errors: BorderEffect) -> Figure:
    """How strongly each map differs from the map without a border, by the distance to the edge."""
    shown = spread(errors, _LINES)
    fig, axes = new_figure(panel_size=(3.4, 6.6))
    ax = axes[0, 0]
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.92, len(shown)))
    for layer, colour in zip(shown, colours, strict=True):
        distance = (np.arange(len(layer.by_distance)) + 0.5) * layer.stride_px
        values = np.clip(np.where(np.isfinite(layer.by_distance), layer.by_distance, np.nan), _FLOOR, None)
        ax.plot(distance, values, color=colour, marker="o", markersize=2.5, linewidth=1.4, label=_name(layer))
    ax.axhline(TOUCHED, color="#8a8880", linewidth=0.8, linestyle=(0, (4, 3)))
    ax.annotate(
        "1 %", (1, TOUCHED), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8, color="#4c4b47"
    )
    ax.set(yscale="log", xlabel="distance from the edge, px", ylabel="difference, relative to\nthe map's own variation")
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), title="map of", title_fontsize=8.5)
    return Figure(
        save(fig, path),
        "How much each map differs from the same map without a border (<em>infinite</em>), by the distance of its "
        "cells from the edge. Below the dashed line, cells count as untouched. Layers in the order in which they run, "
        "from dark to light.",
        f"Lines of {len(shown)} layers over the distance from the edge. The deepest difference above one percent is "
        f"{errors.leak_px:.0f} pixels from the edge.",
    )


def maps(path: Path, errors: BorderEffect) -> Figure:
    """Where on some maps the border is felt."""
    shown = spread(errors, _MAPS)
    fig, axes = new_figure(1, len(shown), (2.1, 1.9 if len(shown) > 1 else 2.4))
    for ax, layer in zip(axes[0], shown, strict=True):
        values = np.log10(np.clip(np.nan_to_num(layer.map, posinf=1.0), 1e-4, 1.0))
        is_last = layer is shown[-1]
        image = heat_map(ax, values, title=_name(layer, 22), vmin=-4, vmax=0, cmap="magma", colour_bar=False)
        ax.set(xticks=[], yticks=[])
        ax.set_xlabel(f"{layer.map.shape[0]} × {layer.map.shape[1]} cells", fontsize=8)
        if is_last:
            bar = fig.colorbar(image, ax=axes[0].tolist(), shrink=0.8, pad=0.02, ticks=[-4, -3, -2, -1, 0])
            bar.ax.set_yticklabels(["≤ 0.01 %", "0.1 %", "1 %", "10 %", "≥ 100 %"])
            bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    return Figure(
        save(fig, path),
        "The same differences cell by cell: bright is where a map is the border's doing.",
        f"Heat maps of {len(shown)} layers; differences are largest along the edges"
        + (" and reach the middle in the last ones." if shown[-1].is_touched_throughout else "."),
    )


def everywhere(path: Path, placed: Sensitivity) -> Figure:
    """The probability of the object's class with the object at each place."""
    middle, rest = placed.positions[0], placed.positions
    rows, columns = (np.unique(rest[:, axis]) for axis in range(2))
    grid = np.full((len(rows), len(columns)), np.nan)
    flips = np.zeros_like(grid)
    flipped = (placed.answers != placed.answers[:1]).mean(1)
    for (row, column), value, flip in zip(rest, placed.probability.mean(1), flipped, strict=True):
        place = np.searchsorted(rows, row), np.searchsorted(columns, column)
        grid[place], flips[place] = value, flip
    whole_rows = ~np.isnan(grid).all(1) & (np.isnan(grid).sum(1) < len(columns) / 2)
    whole_columns = ~np.isnan(grid).all(0) & (np.isnan(grid).sum(0) < len(rows) / 2)
    grid, flips = (values[np.ix_(whole_rows, whole_columns)] for values in (grid, flips))
    extent = (float(columns[0]), float(columns[-1]), float(rows[-1]), float(rows[0]))
    fig, axes = new_figure(1, 2, (2.9, 3.6))
    heat_map(
        axes[0, 0],
        100 * grid,
        title="probability of its class",
        vmin=0,
        vmax=max(10, 10 * np.ceil(10 * np.nanmax(grid))),
        extent=extent,
        label="%",
        annotate="{:.0f}",
    )
    heat_map(
        axes[0, 1],
        100 * flips,
        title="objects with another answer\nthan in the middle",
        vmin=0,
        vmax=100,
        extent=extent,
        cmap="Reds",
        label="%",
        annotate="{:.0f}",
    )
    for ax in axes[0]:
        ax.set(xlabel="column of its upper left pixel", ylabel="row")
    worst = placed.worst
    return Figure(
        save(fig, path),
        f"The same {placed.probability.shape[1]} objects at {len(rest)} places of an empty canvas of "
        f"{placed.canvas[0]} × {placed.canvas[1]} px. Left: the mean probability of the class that each has in the "
        f"middle, at ({middle[0]}, {middle[1]}). Right: how many have another class here. Worst place: {worst}.",
        f"Two heat maps over places. The mean probability is {100 * placed.probability[0].mean():.0f} percent in the "
        f"middle and {100 * placed.probability.mean(1).min():.0f} percent at the worst place.",
    )


def leaks(path: Path, placed: Sensitivity) -> Figure:
    """Border, bias and stride, each beside what is left when it is taken away."""
    bars: list[tuple[str, Effect, str]] = [
        ("border", placed.border, BORDER_COLOURS["zero"]),
        ("its control", placed.border_control, "#c9c6bc"),
        ("bias, under full", placed.bias, BORDER_COLOURS["full"]),
        ("stride", placed.stride, "#8457a8"),
        ("its control", placed.stride_control, "#c9c6bc"),
    ]
    fig, axes = new_figure(1, 2, (2.4, 3.7), sharey=True)
    ys = np.arange(len(bars))[::-1]
    for y, (_, found, colour) in zip(ys, bars, strict=True):
        axes[0, 0].barh(y, found.flips, color=colour, height=0.65)
        if found.high > found.low:
            axes[0, 0].plot([found.low, found.high], [y, y], color="#33322f", linewidth=1)
        axes[0, 1].barh(y, max(found.change, _FLOOR), left=0, color=colour, height=0.65)
    axes[0, 0].set_yticks(ys, [name for name, _, _ in bars])
    axes[0, 0].set(title="answers that change", xlim=(0, max(0.05, 1.1 * max(found.high for _, found, _ in bars))))
    axes[0, 0].xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes[0, 1].set(title="largest change of a logit\n(relative to the largest)", xscale="log", xlim=(_FLOOR, 10))
    return Figure(
        save(fig, path),
        "What makes answers change with the place, one cause at a time. Border: places whole strides apart. Bias: the "
        "same places under <em>full</em>. Stride: places between whole strides, without a border. Controls: the same "
        "places with the border (<em>infinite</em>) or the fixed phase (<em>adaptive</em>) taken away. Lines: 95 % "
        "intervals over objects.",
        f"Bars: because of the border {100 * placed.border.flips:.0f} percent of the answers change, because of the "
        f"stride {100 * placed.stride.flips:.0f} percent; with the cause taken away, "
        f"{100 * placed.border_control.flips:.0f} and {100 * placed.stride_control.flips:.0f}.",
    )


def reach(path: Path, points: "tuple[ReachPoint, ...]", has_labels: bool) -> Figure:
    """What a bound on the reach gives and costs."""
    fig, axes = new_figure(1, 2, (2.6, 3.7))
    cost = [point.cost for point in points]
    panels = (
        (axes[0, 0], [max(point.error or 0, _FLOOR) for point in points], "change of the logits from the edge", "log"),
        (axes[0, 1], [100 * point.kept for point in points], "accuracy, %" if has_labels else "answers kept, %", None),
    )
    for ax, values, title, scale in panels:
        ax.plot(cost, values, color=BORDER_COLOURS["infinite"], marker="^")
        for point, value in zip(points, values, strict=True):
            ax.annotate(
                "∞" if point.reach is None else str(point.reach),
                (point.cost, value),
                textcoords="offset points",
                xytext=(4, 5),
                fontsize=8,
                color="#33322f",
            )
        ax.set(xlabel="multiply-adds, × own padding's", title=title)
        ax.grid(axis="y")
        if scale:
            ax.set_yscale(scale)
    axes[0, 1].set_ylim(-4, 106)
    return Figure(
        save(fig, path),
        "The network converted to <em>infinite</em>, untouched and without fine-tuning, with maps that may grow by 0, "
        "1, 2, … cells, or without a bound (∞). Left: how far the answer depends on the place; right: what is left of "
        "the answers on these images; both against the cost.",
        f"Two lines over the cost, from {cost[0]:.1f} to {cost[-1]:.1f} times the multiply-adds: the dependence on the "
        f"place falls to {small(points[-1].error or 0)}.",
    )


def spread(errors: BorderEffect, most: int) -> list[LayerEffect]:
    """Some layers, evenly from the first to the last; maps without an inside, as of global pools, are left out."""
    layers = [layer for layer in errors.layers if min(layer.map.shape) > 2] or list(errors.layers)
    if len(layers) <= most:
        return layers
    return [layers[round(i)] for i in np.linspace(0, len(layers) - 1, most)]


def _name(layer: LayerEffect, most: int = 34) -> str:
    name = layer.module or layer.operation
    return name if len(name) <= most else f"…{name[1 - most :]}"
