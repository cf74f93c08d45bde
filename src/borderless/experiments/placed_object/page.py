"""The page of `placed-object`: for each photograph and border, the right classes' probability at every position."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from borderless.data.photos import load_photo
from borderless.experiments.experiment import Result, by
from borderless.experiments.kit import percents, texts, values
from borderless.experiments.placed_object import ARMS, PlacedObjectConfig
from borderless.experiments.placed_object.experiment import BRIGHTNESS
from borderless.experiments.results_on_disk import load_arrays, write_table
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
    figures = [
        text.figure(background, _figure(folder / f"placed_object_{background}.png", config, background, found, ranges))
        for background in config.backgrounds
    ]
    tables = [
        text.table(background, [f"on {background}", *COLUMNS], [_row(arm, found[background, arm]) for arm in ARMS])
        for background in config.backgrounds
    ]
    return text.section(figures, tables)


def _columns(metrics: dict[str, Any]) -> dict[str, Any]:
    predictions = "; ".join(f"{name} {count}" for name, count in metrics["predictions"].items())
    return {**{key: value for key, value in metrics.items() if key != "predictions"}, "predictions": predictions}


def _figure(path: Path, config: PlacedObjectConfig, background: str, found: Any, ranges: Any) -> Path:
    """Draw one row per photograph, one column per arm."""
    fig, axes = plots.new_figure(len(config.photos), 1 + len(ARMS), (1.4, 1.18))
    for ax, photo in zip(axes[:, 0], config.photos, strict=True):
        ax.imshow(_on_canvas(config, photo, background), interpolation="nearest")
        plots.bare(ax)
        ax.set_ylabel(photo)
    image = None
    for column, (arm, what) in enumerate(ARMS.items(), start=1):
        for ax, result, label in zip(axes[:, column], found[background, arm], ranges[background, arm], strict=True):
            saved = load_arrays(result.folder / "maps.npz")
            probability, wrong = 100 * saved["probability"], np.argwhere(~saved["is_right"])
            image = plots.heat_map(ax, probability, title="", vmin=0, vmax=100, color_bar=False)
            size = min(40, 260 / len(config.offsets_px))
            ax.scatter(wrong[:, 1], wrong[:, 0], marker="x", s=size, color=WRONG, linewidth=1)
            plots.bare(ax)
            ax.set_xlabel(label, fontsize=8)
        axes[0, column].set_title(what.title, fontsize=8.5)
    bar = fig.colorbar(image, ax=axes, label="probability, %", shrink=0.8, aspect=40, pad=0.01)
    bar.outline.set_visible(False)
    return plots.save(fig, path)


def _on_canvas(config: PlacedObjectConfig, photo: str, background: str) -> np.ndarray:
    """Return the photograph at the middle position, height × width × 3."""
    canvas = torch.full((3, *SIZE_PX), BRIGHTNESS[background])
    first = config.offsets_px[len(config.offsets_px) // 2]
    canvas[:, first : first + config.size_px, first : first + config.size_px] = load_photo(photo, config.size_px)
    return canvas.permute(1, 2, 0).numpy()


def _range(result: Result) -> str:
    saved = load_arrays(result.folder / "maps.npz")
    low, high = 100 * saved["probability"].min(), 100 * saved["probability"].max()
    if high < 1:
        return "< 1 %"
    return f"{low:.0f}–{high:.0f} %" if round(high) > round(low) else f"{high:.0f} %"


def _row(arm: str, group: list[Result]) -> list[str]:
    spread = np.subtract(percents(group, "probability_max"), percents(group, "probability_min"))
    return [
        TITLES[arm],
        f"{np.mean(percents(group, 'probability_mean')):.0f}",
        f"{spread.max():.2g}",
        f"{np.mean(percents(group, 'right_share')):.0f}",
        " ".join(str(r.metrics["distinct_predictions"]) for r in group),
        *(_largest(group, key) for key in ("change_whole_strides", "change_between")),
        f"{group[0].metrics['macs'] / 1e9:.2f}",
        f"{group[0].metrics['cost']:.1f}×",
        f"{np.median(values(group, 'ms_per_image')):.0f}",
    ]


def _largest(group: list[Result], key: str) -> str:
    known = [r.metrics[key] for r in group if r.metrics[key] is not None]
    return f"{max(known):.1g}" if known else "–"
