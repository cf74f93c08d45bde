"""Equivariance: the difference between "shift, then convolve" and "convolve, then shift" under each border.

An object moves from the middle of the frame towards a corner and stays wholly inside. Both orders are compared on the
whole plane, where cells that a border does not keep have the value of the network's response to an empty plane.

Shapes: image 1 × 1 × H × W; feature maps H' × W' with the frame index of their first cell.
"""

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from borderless.conversion import convert
from borderless.data.letter import image, on_plane
from borderless.experiments.equivariance import EquivarianceConfig
from borderless.experiments.experiment import Cell
from borderless.measures.equivariance import empty_response, object_response, relative_difference
from borderless.runtime.arrays import save_arrays
from borderless.runtime.evaluation import seeded


def network(bias: bool, seed: int) -> nn.Sequential:
    """Return two 5 × 5 convolutions with a ReLU between them, random weights."""
    with seeded(seed):
        layers = nn.Sequential(
            nn.Conv2d(1, 8, 5, padding=2, bias=bias), nn.ReLU(), nn.Conv2d(8, 1, 5, padding=2, bias=bias)
        )
    return layers.eval().requires_grad_(False)


def run_cell(config: EquivarianceConfig, cell: Cell, folder: Path) -> dict[str, Any]:
    """Return the errors at shifts 1, 2, … px; both orders at the largest shift go to maps.npz."""
    border, bias = cell.parameters["border"], cell.parameters["bias"]
    plain = network(bias, config.seed)
    empty, peak = empty_response(plain), object_response(plain, image())
    model = convert(plain, border, output="signal")
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
    save_arrays(
        folder / "maps.npz",
        shifted_then_convolved=shifted_then_convolved.astype(np.float32),
        convolved_then_shifted=convolved_then_shifted.astype(np.float32),
    )
    return {"errors": errors, "errors_around": errors_around, "peak": peak}
