"""Border and response: one 3 × 3 filter, one white pixel in a corner, three types of convolution.

The filter reads one pixel down and to the right of its position. To detect the pixel in the upper left corner it must
be outside the image, so only full convolution does (Kayhan and van Gemert, CVPR 2020).
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from borderless.conversion import convert
from borderless.experiments.conv_types import ConvTypesConfig
from borderless.experiments.experiment import Cell
from borderless.runtime.arrays import save_arrays

CORNERS = ("upper left", "lower right")


def images(size: int) -> Tensor:
    """Return two black images, 2 × 1 × size × size: a white pixel in the upper left corner, and in the lower right."""
    both = torch.zeros(2, 1, size, size)
    both[0, 0, 0, 0] = both[1, 0, -1, -1] = 1.0
    return both


def network() -> nn.Conv2d:
    """Return one 3 × 3 convolution that returns the pixel below and to the right."""
    convolution = nn.Conv2d(1, 1, 3, padding=1, bias=False).requires_grad_(False)
    convolution.weight.copy_(torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    return convolution


def run_cell(config: ConvTypesConfig, cell: Cell, folder: Path) -> dict[str, Any]:
    """Return the largest response to each image; the feature maps go to maps.npz."""
    response = convert(network(), cell.parameters["border"], output="signal")(images(config.size))
    save_arrays(folder / "maps.npz", window=response.window.numpy(), start=response.start)
    return {"largest_response": response.window.amax((1, 2, 3)).tolist(), "size": list(response.window.shape[2:])}
