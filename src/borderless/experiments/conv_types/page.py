"""The page of `conv-types`: both images, the filter, and the feature maps of three types of convolution."""

from pathlib import Path
from typing import Any

from borderless.experiments.conv_types import ConvTypesConfig
from borderless.experiments.conv_types.experiment import CORNERS, images, network
from borderless.experiments.experiment import Result
from borderless.experiments.kit import arrays, texts
from borderless.report import Section, plots
from borderless.runtime.files import write_csv

PAPER_TYPES = {"valid": "valid (V-Conv)", "zero": "same (S-Conv)", "full": "full (F-Conv)"}


def draw(config: ConvTypesConfig, results: list[Result], folder: Path) -> Section:
    """Draw the page."""
    columns = ["border", *(f"pixel {corner}" for corner in CORNERS), "map, px"]
    rows = []
    for r in results:
        largest = [f"{value:.3g}" for value in r.metrics["largest_response"]]
        rows.append([r.cell.name, *largest, "{} × {}".format(*r.metrics["size"])])
    write_csv(folder / "table.csv", columns, rows)
    text = texts(__file__, missed=[r.cell.name for r in results if 0 in r.metrics["largest_response"]])
    shown = [r for r in results if r.cell.name in PAPER_TYPES]
    figures = [text.figure("maps", _figure(config.size, shown, folder / "conv-types.png"))] if shown else []
    return text.section(figures, [text.table("responses", columns, rows)])


def _figure(size: int, results: list[Result], path: Path) -> Path:
    fig, axes = plots.new_figure(2, 2 + len(results), (1.9, 1.75))
    style: dict[str, Any] = {"vmin": 0, "vmax": 1, "cells": True, "show": (-1, -1, size + 1, size + 1)}
    middle = (size - 3) // 2  # the filter is drawn at the scale of the feature maps, in the middle of its panel
    for row, image in enumerate(images(size)):
        plots.feature_map(axes[row, 0], image[0], **style)
        axes[row, 0].set_ylabel(f"pixel\n{CORNERS[row]}")
        plots.feature_map(axes[row, 1], network().weight[0, 0], start=(middle, middle), **style)
        for ax, result in zip(axes[row, 2:], results, strict=True):
            maps = arrays(result, "maps.npz")
            plots.feature_map(ax, maps["window"][row, 0], start=tuple(maps["start"]), frame=(size, size), **style)
    for ax, title in zip(axes[0], ["image", "filter", *(PAPER_TYPES[r.cell.name] for r in results)], strict=True):
        ax.set_title(title)
    return plots.save(fig, path)
