"""Average a network's outputs over shifted copies of its images: the strides see the object in several phases.

Shapes: images (N, C, H, W); outputs (N, D) that belong to the whole image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ShiftAveraged(nn.Module):
    """A network whose outputs are the mean over images moved by up to half its total stride.

    Args:
        model: Returns one output for the whole image.
        stride_px: Its total stride along each axis.

    Example:
        >>> mean = ShiftAveraged(nn.Sequential(nn.Conv2d(1, 1, 1, stride=2), nn.Flatten()), (2, 2))
        >>> mean.shifts
        ((0, 0), (0, 1), (1, 0), (1, 1))
    """

    def __init__(self, model: nn.Module, stride_px: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        rows, columns = (sorted({0, int(n) // 2}) for n in stride_px)
        self.shifts = tuple((row, column) for row in rows for column in columns)

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean; what a shift uncovers repeats the edge."""
        height, width = images.shape[2:]
        rows, columns = (max(shift[axis] for shift in self.shifts) for axis in range(2))
        wide = F.pad(images, (columns, 0, rows, 0), mode="replicate")
        views = [
            self.model(wide[:, :, rows - row : rows - row + height, columns - column : columns - column + width])
            for row, column in self.shifts
        ]
        return torch.stack(views).mean(0)
