"""What the border does to the response: one 3 × 3 filter, one white pixel in a corner, three types of convolution.

The filter looks one pixel down and to the right of where it stands. To find the pixel in the upper left corner it must
stand outside the image, so only full convolution sees it (Kayhan and van Gemert, CVPR 2020).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import borderless as bl
from borderless.engine.border import BORDERS
from borderless.experiments.runner import Cell, Experiment, Result
from borderless.report import Figure, Section, Table, plots
from borderless.runtime.files import write_csv

PAPER_TYPES = {"valid": "valid (V-Conv)", "zero": "same (S-Conv)", "full": "full (F-Conv)"}
CORNERS = ("upper left", "lower right")


@dataclass(frozen=True)
class Config:
    """Settings of `conv-types`."""

    size: int = 7
    """Height and width of the two images, in pixels."""
    borders: tuple[str, ...] = BORDERS
    """Borders to compare; the figure shows valid, zero and full."""

    @classmethod
    def small(cls) -> "Config":
        return cls()


def images(size: int) -> Tensor:
    """Two black images, 2 × 1 × size × size: a white pixel in the upper left corner, and one in the lower right."""
    both = torch.zeros(2, 1, size, size)
    both[0, 0, 0, 0] = both[1, 0, -1, -1] = 1.0
    return both


def network() -> nn.Conv2d:
    """One 3 × 3 convolution that answers with the pixel below and to the right."""
    convolution = nn.Conv2d(1, 1, 3, padding=1, bias=False).requires_grad_(False)
    convolution.weight.copy_(torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    return convolution


def cells(config: Config) -> list[Cell]:
    return [Cell(border, {"border": border}) for border in config.borders]


def run_cell(config: Config, cell: Cell, folder: Path) -> dict[str, Any]:
    """The largest response to each image; the maps themselves go to maps.npz."""
    response = bl.convert(network(), cell.parameters["border"], output="signal")(images(config.size))
    np.savez_compressed(folder / "maps.npz", window=response.window.numpy(), start=response.start)
    return {"largest_response": response.window.amax((1, 2, 3)).tolist(), "size": list(response.window.shape[2:])}


def draw(config: Config, results: list[Result], folder: Path) -> Section:
    columns = ["border", *(f"pixel {corner}" for corner in CORNERS), "map, px"]
    rows = [
        [
            result.cell.name,
            *(f"{value:.3g}" for value in result.metrics["largest_response"]),
            "{} × {}".format(*result.metrics["size"]),
        ]
        for result in results
    ]
    write_csv(folder / "table.csv", columns, rows)
    by_border = {result.cell.name: result for result in results}
    shown = [border for border in PAPER_TYPES if border in by_border]
    missed = [border for border, result in by_border.items() if 0 in result.metrics["largest_response"]]
    return Section(
        title="What a border crops",
        text=[
            "A filter finds its object only where it is allowed to stand. This one answers with the pixel one step "
            "down and to the right. "
            "A white pixel in the lower right corner is found by every type of convolution. A white pixel in the "
            "upper left corner is "
            "found only from a place outside the image: <em>valid</em> and <em>same</em> convolution never put the "
            "filter there, and their maps stay black. "
            "The two images hold the same pixel, and yet the network gives different answers. This is all that it "
            "takes to tell places apart.",
            "<em>Full</em> convolution puts the filter wherever it touches the image, so every weight meets every "
            "pixel once.",
        ],
        figures=[_figure(config, {border: by_border[border] for border in shown}, folder)] if shown else [],
        tables=[
            Table(
                columns,
                rows,
                "Largest response to each image, 1 where the pixel was found and 0 where it was missed"
                + (f" (here by {', '.join(missed)})." if missed else ".")
                + " <em>Circular</em> finds it because the image is wrapped around: on the other side of the map.",
            )
        ],
    )


def _figure(config: Config, results: dict[str, Result], folder: Path) -> Figure:
    fig, axes = plots.new_figure(2, 2 + len(results), (1.9, 1.75))
    size = config.size
    show = (-1, -1, size + 1, size + 1)
    # The filter is drawn at the maps' scale, in the middle of its panel.
    for row, image in enumerate(images(size)):
        plots.feature_map(
            axes[row, 0], image[0], vmin=0, vmax=1, cells=True, show=show, title="image" if row == 0 else ""
        )
        axes[row, 0].set_ylabel(f"pixel\n{CORNERS[row]}")
        middle = (size - 3) // 2
        plots.feature_map(
            axes[row, 1],
            network().weight[0, 0],
            vmin=0,
            vmax=1,
            cells=True,
            start=(middle, middle),
            show=show,
            title="filter" if row == 0 else "",
        )
        for column, (border, result) in enumerate(results.items(), start=2):
            maps = np.load(result.folder / "maps.npz")
            plots.feature_map(
                axes[row, column],
                maps["window"][row, 0],
                vmin=0,
                vmax=1,
                cells=True,
                start=tuple(maps["start"]),
                frame=(size, size),
                show=show,
                title=PAPER_TYPES[border] if row == 0 else "",
            )
    path = plots.save(fig, folder / "conv-types.png")
    return Figure(
        path,
        "Responses to a white pixel in the upper left corner (above) and in the lower right (below). The dashed "
        "outline is the image's frame.",
        "Two rows of maps. For the pixel in the upper left corner the maps of valid and same convolution are black "
        "and only that of full "
        "convolution has a white cell, outside the frame. For the pixel in the lower right corner all three have "
        "one.",
    )


EXPERIMENT = Experiment(
    name="conv-types",
    title="Convolution types at the border",
    summary="One white pixel, in one corner or in the other, and what valid, same and full convolution see of it.",
    Config=Config,
    cells=cells,
    run_cell=run_cell,
    draw=draw,
)
