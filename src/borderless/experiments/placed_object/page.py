"""The page of `placed-object`: for each photograph and border, the right classes' probability at every position."""

from pathlib import Path
from typing import Any

import numpy as np

from borderless.data.photos import load_photo
from borderless.experiments.experiment import Result
from borderless.experiments.kit import arrays, by, cost, percents, texts, values, write_table
from borderless.experiments.placed_object import ARMS, PlacedObjectConfig
from borderless.experiments.placed_object.experiment import BRIGHTNESS
from borderless.measures.object_outputs import canvases
from borderless.models.choices import SIZE_PX
from borderless.models.packaged import TOTAL_STRIDE_PX
from borderless.report import Section, plots

WRONG = "#ff6b4a"
COLUMNS = [
    *("probability, %", "spread, points", "right, %", "classes", "change, whole strides", "change, between"),
    *("10⁹ MACs", "cost", "ms per image"),
]
TITLES = {arm: what.title.replace("\n", " ") for arm, what in ARMS.items()}


def draw(config: PlacedObjectConfig, results: list[Result], folder: Path) -> Section:
    """Draw the page."""
    write_table(results, folder, _columns)
    found = by(results, "background", "arm")
    ranges = {key: [_range(r) for r in group] for key, group in found.items()}
    text = texts(
        __file__,
        config=config,
        titles=TITLES,
        ranges=ranges,
        right={key: percents(group, "right_share") for key, group in found.items()},
        receptive_field_px=results[0].metrics["receptive_field_px"],
        stride=TOTAL_STRIDE_PX,
        side=SIZE_PX[0],
    )
    figures, tables = [], []
    for background in config.backgrounds:
        path = folder / f"placed_object_{background}.png"
        figures.append(text.figure(background, _figure(path, config, background, found, ranges)))
        rows = [_row(arm, found[background, arm]) for arm in ARMS]
        tables.append(text.table(background, [f"on {background}", *COLUMNS], rows))
    return text.section(figures, tables)


def _columns(metrics: dict[str, Any]) -> dict[str, Any]:
    others = {key: value for key, value in metrics.items() if key != "predictions"}
    return others | {"predictions": "; ".join(f"{name} {count}" for name, count in metrics["predictions"].items())}


def _figure(path: Path, config: PlacedObjectConfig, background: str, found: Any, ranges: Any) -> Path:
    """Draw one row per photograph, one column per arm."""
    fig, axes = plots.new_figure(len(config.photos), 1 + len(ARMS), (1.4, 1.18))
    middle = np.full((1, 2), config.offsets_px[len(config.offsets_px) // 2])
    for ax, photo in zip(axes[:, 0], config.photos, strict=True):
        shown = canvases(load_photo(photo, config.size_px)[None], middle, SIZE_PX, BRIGHTNESS[background])
        plots.picture(ax, shown[0].permute(1, 2, 0).numpy(), photo)
    image = None
    for column, (arm, what) in enumerate(ARMS.items(), start=1):
        for ax, result, label in zip(axes[:, column], found[background, arm], ranges[background, arm], strict=True):
            saved = arrays(result, "maps.npz")
            wrong = np.argwhere(~saved["is_right"])
            image = plots.heat_map(ax, 100 * saved["probability"], title="", vmin=0, vmax=100, color_bar=False)
            size = min(40, 260 / len(config.offsets_px))
            ax.scatter(wrong[:, 1], wrong[:, 0], marker="x", s=size, color=WRONG, linewidth=1)
            plots.bare(ax)
            ax.set_xlabel(label, fontsize=8)
        axes[0, column].set_title(what.title, fontsize=8.5)
    plots.color_bar_beside(image, axes, label="probability, %", shrink=0.8, aspect=40, pad=0.01)
    return plots.save(fig, path)


def _range(result: Result) -> str:
    probability = 100 * arrays(result, "maps.npz")["probability"]
    low, high = probability.min(), probability.max()
    if high < 1:
        return "< 1 %"
    return f"{low:.0f}–{high:.0f} %" if round(high) > round(low) else f"{high:.0f} %"


def _row(arm: str, group: list[Result]) -> list[str]:
    spread = np.subtract(percents(group, "probability_max"), percents(group, "probability_min"))
    keys = ("change_whole_strides", "change_between")
    changes = [[r.metrics[key] for r in group if r.metrics[key] is not None] for key in keys]
    return [
        TITLES[arm],
        f"{np.mean(percents(group, 'probability_mean')):.0f}",
        f"{spread.max():.2g}",
        f"{np.mean(percents(group, 'right_share')):.0f}",
        " ".join(str(r.metrics["distinct_predictions"]) for r in group),
        *(f"{max(known):.1g}" if known else "–" for known in changes),
        f"{group[0].metrics['macs'] / 1e9:.2f}",
        cost(group),
        f"{np.median(values(group, 'ms_per_image')):.0f}",
    ]
