"""Equivariance: the difference between "shift, then convolve" and "convolve, then shift" under each border.

An object moves from the middle of the frame towards a corner and stays wholly inside. Both orders are compared on the
whole plane, where cells that a border does not keep have the value of the network's response to an empty plane.

Shapes: image 1 × 1 × H × W; feature maps H' × W' with the frame index of their first cell.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from borderless.conversion import convert
from borderless.data.drawings import LETTER_IMAGE_PX, LETTER_MARGIN_PX
from borderless.data.letter import image
from borderless.experiments.equivariance import EquivarianceConfig
from borderless.experiments.experiment import Cell
from borderless.experiments.results_on_disk import save_arrays
from borderless.runtime.evaluation import seeded

# Relative differences below this are float32 rounding.
EXACT = 1e-5


def network(bias: bool, seed: int) -> nn.Sequential:
    """Return two 5 × 5 convolutions with a ReLU between them, random weights."""
    with seeded(seed):
        layers = nn.Sequential(
            nn.Conv2d(1, 8, 5, padding=2, bias=bias), nn.ReLU(), nn.Conv2d(8, 1, 5, padding=2, bias=bias)
        )
    return layers.eval().requires_grad_(False)


def empty_response(model: nn.Module) -> float:
    """Return the unmodified model's output for an empty plane, read far from any edge."""
    return model(torch.zeros(1, 1, 33, 33))[0, 0, 16, 16].item()


def object_response(model: nn.Module) -> float:
    """Return the unmodified model's largest output for the object, less that for an empty plane, far from any edge."""
    far = 16
    canvas = nn.functional.pad(image(), [far] * 4)
    inside = model(canvas)[0, 0, far:-far, far:-far]
    return (inside - empty_response(model)).abs().max().item()


def relative_difference(first: np.ndarray, second: np.ndarray, peak: float) -> float:
    """Return the largest difference of two feature maps, as a share of the largest response to the object."""
    return float(np.abs(first - second).max() / peak)


def on_plane(response: Any, empty: float, shift: int = 0) -> np.ndarray:
    """Return the map, moved up and left by `shift`, on a plane that holds it, less the response to an empty plane."""
    reach = 2 * LETTER_MARGIN_PX
    plane = np.zeros((LETTER_IMAGE_PX + 2 * reach, LETTER_IMAGE_PX + 2 * reach))
    window = response.window[0, 0].double().numpy() - empty
    top, left = (reach + start - shift for start in response.start)
    plane[top : top + window.shape[0], left : left + window.shape[1]] = window
    return plane


def run_cell(config: EquivarianceConfig, cell: Cell, folder: Path) -> dict[str, Any]:
    """Return the errors at shifts 1, 2, … px; both orders at the largest shift go to maps.npz."""
    border, bias = cell.parameters["border"], cell.parameters["bias"]
    plain = network(bias, config.seed)
    empty, peak = empty_response(plain), object_response(plain)
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
