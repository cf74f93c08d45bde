"""The page of `finetune`: accuracy in the middle and at the edge, before fine-tuning and after."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from borderless.experiments.experiment import Result
from borderless.experiments.finetune import FinetuningConfig
from borderless.experiments.kit import means, percents, texts, write_table
from borderless.models.arms import ARMS
from borderless.report import Section, plots

OWN = "own"
# Where the tile is; what marks it, and whether that is filled.
POSITIONS = {
    "middle": ("o", True, "in the middle"),
    "edges": ("s", False, "at the edge"),
    "worst": ("|", False, "worst edge"),
}
MOMENTS = {"before ": "before", "": "after"}
COLUMNS = ["arm", "middle", "edge", "worst edge", "changed", "cost"]

# In percent, over seeds, by the name of the metric.
Values = dict[str, list[float]]


def draw(config: FinetuningConfig, results: list[Result], folder: Path) -> Section:
    """Draw the page."""
    write_table(results, folder)
    found: Values = {key: percents(results, key) for key in results[0].metrics if not key.endswith(" cost")}
    differences = {
        (arm, key): list(np.subtract(found[f"{arm} {key}"], found[f"{OWN} {key}"]))
        for arm in config.arms
        for key in ("middle", "edges")
        if OWN in config.arms and ARMS[arm].border is not None
    }
    titles = {arm: ARMS[arm].title for arm in config.arms}
    text = texts(__file__, config=config, values=found, differences=differences, titles=titles, moments=MOMENTS)
    rows = []
    for arm, (moment, label) in itertools.product(config.arms, MOMENTS.items()):
        numbers = [found[f"{arm} {moment}{key}"] for key in (*POSITIONS, "changed")]
        rows.append([f"{titles[arm]}, {label}", *numbers, f"{results[0].metrics[f'{arm} cost']:.1f}×"])
    figure = text.figure("dots", _dots(folder / "finetune.png", config, found))
    return text.section([figure], [text.table("accuracies", COLUMNS, means(rows))])


def _dots(path: Path, config: FinetuningConfig, found: Values) -> Path:
    """Draw a line per arm and moment, from the worst edge to the middle; smaller, below, the seeds."""
    rows = [*itertools.product(config.arms, MOMENTS)]
    fig, axes = plots.new_figure(panel_size=(0.42 * len(rows) + 1.0, 7.0))
    ax = axes[0, 0]
    for y, (arm, moment) in enumerate(rows):
        color = plots.marker_style(arm)["color"]
        seeds = {key: found[f"{arm} {moment}{key}"] for key in POSITIONS}
        means = {key: float(np.mean(accuracies)) for key, accuracies in seeds.items()}
        ax.plot([min(means.values()), max(means.values())], [y, y], color=color, linewidth=2, alpha=0.4, zorder=1)
        for key in POSITIONS:
            ax.plot(means[key], y, markersize=8, **_mark(key, color))
            if config.seeds > 1:
                ax.plot(seeds[key], [y + 0.24] * config.seeds, markersize=3.5, **_mark(key, color))
    ax.set_yticks(range(len(rows)), [f"{ARMS[arm].title}, {MOMENTS[moment]}" for arm, moment in rows])
    plots.panel(ax, grid="x", xlabel="test accuracy, %", xlim=(0, 102), ylim=(len(rows) - 0.5, -0.5))
    for key, (_, _, text) in POSITIONS.items():
        ax.plot([], [], markersize=8, label=text, **_mark(key, plots.GRAY))
    plots.legend_below(fig, ax, len(POSITIONS))
    return plots.save(fig, path)


def _mark(place: str, color: str) -> dict[str, Any]:
    marker, is_filled, _ = POSITIONS[place]
    return {"marker": marker, "color": color, "markerfacecolor": color if is_filled else "none", "linestyle": "none"}
