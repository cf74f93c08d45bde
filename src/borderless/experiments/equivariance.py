"""Shift, then convolve = convolve, then shift? Which border keeps this promise, and how far the others are off.

An object moves from the middle of the frame towards a corner and stays wholly in sight. Both orders are compared on the
whole plane, where cells that a border does not keep have the value that the network gives to an empty plane.

Shapes: image 1 × 1 × H × W; maps H' × W' with the frame index of their first cell.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import borderless as bl
from borderless.engine.border import BORDERS
from borderless.experiments import equivariance_figures
from borderless.experiments.equivariance_figures import percent
from borderless.experiments.runner import Cell, ConfigError, Experiment, Result
from borderless.report import Section, Table
from borderless.runtime.evaluation import seeded
from borderless.runtime.files import write_csv

SIZE = 24
MARGIN = 8  # from the object, in the middle, to each edge of the frame
OBJECT = np.array(
    [
        [1, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0],
    ],
    dtype=np.float32,
)
BIASES = (False, True)
AT_THE_EDGE = {
    "valid": "the response near the edge is dropped",
    "zero": "the response is cropped; with a bias, the frame shows",
    "reflect": "the object meets its mirror image",
    "replicate": "the object's edge is drawn out for ever",
    "circular": "the response reappears on the far side",
    "circular shift": "exact, because the object does so too",
    "full": "exact; with a bias, the frame shows",
    "infinite": "exact",
}
# Relative differences below this are float32 rounding.
EXACT = 1e-5


@dataclass(frozen=True)
class Config:
    """Settings of `equivariance`."""

    borders: tuple[str, ...] = BORDERS
    """Borders to compare."""
    largest_shift: int = MARGIN
    """How far the object moves up and to the left, in pixels, at most 8."""
    seed: int = 0
    """Seed of the network's random weights."""

    def __post_init__(self) -> None:
        if not 1 <= self.largest_shift <= MARGIN:
            raise ConfigError(
                f"got largest_shift={self.largest_shift}; the object stays in sight for 1 to {MARGIN} px; choose "
                "one of these"
            )

    @classmethod
    def small(cls) -> "Config":
        return cls()


def image(shift: int = 0) -> Tensor:
    """The object on black, 1 × 1 × 24 × 24, moved up and to the left by `shift` pixels from the middle."""
    return scene((MARGIN - shift, MARGIN - shift))


def scene(place: tuple[int, int]) -> Tensor:
    """The object on black, 1 × 1 × 24 × 24, its upper left pixel at row and column `place`."""
    canvas = torch.zeros(1, 1, SIZE, SIZE)
    row, column = place
    canvas[0, 0, row : row + OBJECT.shape[0], column : column + OBJECT.shape[1]] = torch.from_numpy(OBJECT)
    return canvas


def network(bias: bool, seed: int) -> nn.Sequential:
    """Two 5 × 5 convolutions with a ReLU between them, random weights."""
    with seeded(seed):
        layers = nn.Sequential(
            nn.Conv2d(1, 8, 5, padding=2, bias=bias), nn.ReLU(), nn.Conv2d(8, 1, 5, padding=2, bias=bias)
        )
    return layers.eval().requires_grad_(False)


def empty_response(model: nn.Module) -> float:
    """The unmodified model's answer to an empty plane, read where no edge is near."""
    return model(torch.zeros(1, 1, 33, 33))[0, 0, 16, 16].item()


def object_response(model: nn.Module) -> float:
    """The unmodified model's largest answer to the object, less that to an empty plane, where no edge is near."""
    far = 16
    canvas = nn.functional.pad(image(), [far] * 4)
    inside = model(canvas)[0, 0, far:-far, far:-far]
    return (inside - empty_response(model)).abs().max().item()


def relative_difference(first: np.ndarray, second: np.ndarray, peak: float) -> float:
    """Largest difference of two maps, as a share of the largest response to the object."""
    return float(np.abs(first - second).max() / peak)


def on_plane(response: Any, empty: float, shift: int = 0) -> np.ndarray:
    """The map moved up and left by `shift`, on a plane that holds all of it, less the answer to an empty plane."""
    reach = 2 * MARGIN
    plane = np.zeros((SIZE + 2 * reach, SIZE + 2 * reach))
    window = response.window[0, 0].double().numpy() - empty
    top, left = (reach + start - shift for start in response.start)
    plane[top : top + window.shape[0], left : left + window.shape[1]] = window
    return plane


def cells(config: Config) -> list[Cell]:
    return [
        Cell(f"{border}-{'bias' if bias else 'no-bias'}", {"border": border, "bias": bias})
        for bias in BIASES
        for border in config.borders
    ]


def run_cell(config: Config, cell: Cell, folder: Path) -> dict[str, Any]:
    """Errors at shifts 1, 2, ... px; both orders at the largest shift go to maps.npz."""
    border, bias = cell.parameters["border"], cell.parameters["bias"]
    plain = network(bias, config.seed)
    empty, peak = empty_response(plain), object_response(plain)
    model = bl.convert(plain, border, output="signal")
    before = model(image())
    errors, errors_around = [], []
    convolved_then_shifted = shifted_then_convolved = np.zeros(0)
    for shift in range(1, config.largest_shift + 1):
        after = model(image(shift))
        convolved_then_shifted = on_plane(before, empty, shift)
        shifted_then_convolved = on_plane(after, empty)
        errors.append(relative_difference(shifted_then_convolved, convolved_then_shifted, peak))
        if border == "circular":
            around = np.roll(before.window[0, 0].double().numpy(), (-shift, -shift), (0, 1))
            errors_around.append(relative_difference(after.window[0, 0].double().numpy(), around, peak))
    np.savez_compressed(
        folder / "maps.npz",
        shifted_then_convolved=shifted_then_convolved.astype(np.float32),
        convolved_then_shifted=convolved_then_shifted.astype(np.float32),
    )
    return {"errors": errors, "errors_around": errors_around, "peak": peak}


def draw(config: Config, results: list[Result], folder: Path) -> Section:
    found = {(result.cell.parameters["border"], result.cell.parameters["bias"]): result for result in results}
    write_csv(
        folder / "table.csv",
        ["border", "bias", "shift_px", "relative_error", "relative_error_circular_shift"],
        [
            [
                border,
                bias,
                shift,
                error,
                (result.metrics["errors_around"] or [""] * len(result.metrics["errors"]))[shift - 1],
            ]
            for (border, bias), result in found.items()
            for shift, error in enumerate(result.metrics["errors"], start=1)
        ],
    )
    errors = _by_row(config, found)
    planes = {}
    for border in config.borders:
        with np.load(found[border, True].folder / "maps.npz") as maps:
            planes[border] = (maps["shifted_then_convolved"], maps["convolved_then_shifted"])
    inputs = [image(shift)[0, 0].numpy() for shift in (config.largest_shift, 0)]
    peak = object_response(network(True, config.seed))
    return Section(
        title="Shift, then convolve; convolve, then shift",
        text=[
            "Convolution is said to be equivariant: it should not matter whether an object is first moved and then "
            "convolved, or the other way round. "
            "On an endless plane this is a theorem. On an image it depends on what happens at the edge. Here an "
            "object moves from the middle of the frame "
            f"towards a corner, {config.largest_shift} pixels up and to the left, and never leaves the picture; the "
            "network is two 5 × 5 convolutions with a ReLU between them.",
            "<em>Valid</em> and the same-size borders lose or invent part of the response as soon as it reaches the "
            "edge. <em>Full</em> convolution is exact as long as there is "
            "no bias, as the paper says. A bias (or a BatchNorm) makes the empty part of a map differ from the "
            "zeros around it, and the edge is visible again. "
            "<em>Infinite</em> pads with the layer's own answer to emptiness and is exact in both cases.",
            "<em>Circular</em> padding is exact for a circular shift, in which what leaves on one side comes back "
            "on the other. "
            "Objects in the world do not do that: under a real shift the response reappears on the far side of the "
            "map.",
        ],
        figures=[
            equivariance_figures.maps(folder / "equivariance.png", inputs, planes, peak, config.largest_shift),
            equivariance_figures.numbers(folder / "errors.png", errors),
        ],
        tables=[
            Table(
                ["border", "without bias", "with bias", "at the edge"],
                [
                    [row, percent(max(without)), percent(max(with_)), AT_THE_EDGE[row]]
                    for row, (without, with_) in errors.items()
                ],
                f"Largest difference of the two orders over shifts of 1 to {config.largest_shift} px, in percent of "
                "the largest response to the object. "
                "Values of the order of 0.00001 % are float rounding.",
            )
        ],
    )


def _by_row(config: Config, found: dict[tuple[str, bool], Result]) -> dict[str, tuple[list[float], list[float]]]:
    """Errors without and with bias for each border, and for circular shifts after those of the circular border."""
    errors = {}
    for border in config.borders:
        without, with_ = (found[border, bias].metrics for bias in BIASES)
        errors[border] = (without["errors"], with_["errors"])
        if border == "circular":
            errors["circular shift"] = (without["errors_around"], with_["errors_around"])
    return errors


EXPERIMENT = Experiment(
    name="equivariance",
    title="Shift, then convolve; convolve, then shift",
    summary="Does the order matter? For each border, with numbers.",
    Config=Config,
    cells=cells,
    run_cell=run_cell,
    draw=draw,
)
