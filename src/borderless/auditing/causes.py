"""Draw how predictions depend on the position of an object, and what causes it, network by network."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import PercentFormatter

from borderless.auditing.figures import as_grid
from borderless.auditing.result import Measurements
from borderless.measures.position_sensitivity import Sensitivity
from borderless.measures.prediction_changes import Effect, OnPhotographs
from borderless.report.content import Figure
from borderless.report.plots import BORDER_COLORS, heat_map, new_figure, save

_CONTROL, _STRIDE, _ALL = "#a5a299", "#8457a8", "#77736b"


def kept_share(audit: Measurements) -> float | None:
    """Return the share of predictions that the network keeps when it is converted to `infinite`; None if unknown."""
    points = audit.results.get("reach", ())
    return points[-1].kept if points and audit.accuracy is None else None


def draw_everywhere(path: Path, audit: Measurements, found: Sensitivity) -> Figure:
    """Draw the object's probability, or how much its output changes, by position, on photographs and on a canvas."""
    moved: OnPhotographs | None = audit.results.get("photographs")
    seen: dict[str, Sensitivity | OnPhotographs] = {} if moved is None else {"on photographs": moved}
    seen["on an empty canvas"] = found
    has_classes = found.probability is not None
    panels = [
        (title, one.positions, one.probability if one.probability is not None else one.differs)
        for title, one in seen.items()
    ]
    fig, axes = new_figure(1, len(panels), (2.9, 3.6))
    means = [values.mean(1) for _, _, values in panels]
    most = max(10, 10 * np.ceil(10 * max(mean.max() for mean in means)))
    for ax, (title, positions, _), mean in zip(axes[0], panels, means, strict=True):
        grid, extent = as_grid(positions, mean)
        options: Any = {} if has_classes else {"cmap": "Reds"}
        heat_map(ax, 100 * grid, title=title, vmin=0, vmax=most, extent=extent, label="%", annotate="{:.0f}", **options)
        ax.set(xlabel="column of the object, px", ylabel="row, px")
    worst = [mean.min() if has_classes else mean.max() for mean in means]
    lines = [
        f"{100 * mean[0]:.0f} % in the middle and {100 * extreme:.0f} % at the worst position {title}"
        for (title, _, _), mean, extreme in zip(panels, means, worst, strict=True)
    ]
    objects = panels[0][2].shape[1]
    if not has_classes:
        return Figure(
            save(fig, path),
            f"Another output than in the middle ({audit.words.column}), the mean of {objects} objects, by the "
            "position of the object's upper left pixel.",
            f"Heat maps over positions of {audit.words.column}: {'; '.join(lines)}.",
        )
    return Figure(
        save(fig, path),
        f"Mean probability (of a detector: score) of what is predicted for each of the {objects} objects in the "
        "middle, by the position of its upper left pixel.",
        f"Heat maps over positions. The mean is {'; '.join(lines)}.",
    )


def draw_causes(path: Path, audit: Measurements, found: Sensitivity) -> Figure:
    """Draw the share of changed predictions: of the network as it is, and of the converted networks, apart."""
    original: list[tuple[str, Effect, str]] = [
        ("empty canvas", found.all_positions, _ALL),
        ("… whole strides apart: border", found.border, BORDER_COLORS["zero"]),
    ]
    if audit.results.get("on_photograph") is not None:
        original.insert(0, ("photographs", audit.results["on_photograph"], _ALL))
    converted: list[tuple[str, Effect, str]] = [
        ("infinite, whole strides apart", found.border_control, _CONTROL),
        ("full, whole strides apart: bias", found.bias, BORDER_COLORS["full"]),
        ("infinite, between strides: stride", found.stride, _STRIDE),
        ("… with an adaptive phase", found.stride_control, _CONTROL),
    ]
    groups = {"the network as it is": original, "converted, not fine-tuned": converted}
    fig, axes = new_figure(2, 1, (1.45, 5.6), sharex=True, height_ratios=[len(group) for group in groups.values()])
    for ax, (title, bars) in zip(axes[:, 0], groups.items(), strict=True):
        ys = np.arange(len(bars))[::-1]
        for y, (_, one, color) in zip(ys, bars, strict=True):
            ax.barh(y, one.flips, color=color, height=0.62)
            if one.high > one.low:
                ax.plot([one.low, one.high], [y, y], color="#33322f", linewidth=1)
        ax.set_yticks(ys, [name for name, _, _ in bars])
        ax.set_title(title, loc="left")
        ax.set_xlim(0, max(1.0, max(one.high for _, one, _ in bars)))
        ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes[-1, 0].set_xlabel(audit.words.column.removesuffix(", %").replace(", % of", ", of"))
    return Figure(
        save(fig, path),
        f"How much changes with the position ({audit.words.column}), with 95 % intervals over objects. Above, the "
        "network as it is. "
        "Below, the network converted to other borders without fine-tuning, in which one cause after the other is "
        "removed: another network with other predictions, so its bars are no parts of those above.",
        f"Bars of {audit.words.column}: on the empty canvas {100 * found.all_positions.flips:.0f}, because of the "
        f"border {100 * found.border.flips:.0f}; converted to infinite, {100 * found.border_control.flips:.0f} at "
        f"whole strides and {100 * found.stride.flips:.0f} between strides.",
    )
