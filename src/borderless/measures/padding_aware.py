"""Padding-aware filters: convolutional filters that respond to a side of the image border as such.

Garcia-Gasulla et al., Padding Aware Neurons, ICCV workshops 2023, with another criterion: a filter is padding-aware if
its outputs along one side and its outputs inside the feature map are distributed differently, and the same outputs
without a border are not.

Shapes: feature maps (N, filters, rows, columns); outputs (filters, cells).
"""

from typing import Any

import torch
from torch import Tensor

# Kolmogorov-Smirnov distance between the outputs along a side and inside, from which on a filter is padding-aware.
AWARE = 0.5
# Cells that are compared per side and batch, the fewest that suffice in all, and the smallest side of a feature map.
_MOST_CELLS, _FEWEST_CELLS, _SMALLEST_SIDE = 128, 30, 5
_INSIDE = slice(1, -1)
_SIDES = ("top", "bottom", "left", "right")
_REGIONS: dict[str, tuple[Any, Any]] = {
    "top": (0, _INSIDE),
    "bottom": (-1, _INSIDE),
    "left": (_INSIDE, 0),
    "right": (_INSIDE, -1),
    "inside": (_INSIDE, _INSIDE),
}


class FilterOutputs:
    """A sample of one convolution's outputs along the four sides and inside, with the border and without."""

    def __init__(self) -> None:
        # By (with or without, region), then by the number of the batch's first image.
        self._outputs: dict[tuple[str, str], dict[int, Tensor]] = {}
        self._is_too_small = False

    def add(self, start: int, with_border: Tensor, without: Tensor, draw: torch.Generator) -> None:
        """Add a sample of the outputs of one batch.

        Args:
            start: The number of the batch's first image.
            with_border: The feature map under the model's border, (N, filters, rows, columns).
            without: The same cells without a border.
            draw: Draws the cells, the same of both feature maps, so that equal feature maps give equal samples.
        """
        if min(with_border.shape[2:]) < _SMALLEST_SIDE:
            self._is_too_small = True
            return
        for region, (rows, columns) in _REGIONS.items():
            cells = [maps[:, :, rows, columns].transpose(0, 1).flatten(1) for maps in (with_border, without)]
            chosen = torch.randperm(cells[0].shape[1], generator=draw)[:_MOST_CELLS].to(cells[0].device)
            for name, flat in zip(("with", "without"), cells, strict=True):
                self._outputs.setdefault((name, region), {})[start] = flat[:, chosen].float().cpu()

    def merge(self, other: "FilterOutputs") -> None:
        """Add the samples that another process has taken of other batches."""
        self._is_too_small |= other._is_too_small
        for key, samples in other._outputs.items():
            self._outputs.setdefault(key, {}).update(samples)

    def count_aware(self) -> int | None:
        """Count the padding-aware filters; None if the feature map or the sample is too small to tell."""
        if self._is_too_small or not self._outputs:
            return None
        # In the order of the images, whichever process has seen them.
        outputs = {key: torch.cat([sample[i] for i in sorted(sample)], 1) for key, sample in self._outputs.items()}
        if min(sample.shape[1] for sample in outputs.values()) < _FEWEST_CELLS:
            return None
        is_aware = torch.zeros(len(outputs["with", "inside"]), dtype=torch.bool)
        for side in _SIDES:
            differs, control = (
                ks_distance(outputs[name, side], outputs[name, "inside"]) >= AWARE for name in ("with", "without")
            )
            is_aware |= differs & ~control
        return int(is_aware.sum())


def ks_distance(one: Tensor, other: Tensor) -> Tensor:
    """Compute the Kolmogorov-Smirnov distance between two samples in each row: (rows, n), (rows, m) to (rows,).

    Example:
        >>> ks_distance(torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0, 3.0, 4.0]]))
        tensor([1.])
    """
    points, _ = torch.cat([one, other], 1).sort(1)
    below = [
        torch.searchsorted(sample.sort(1).values.contiguous(), points.contiguous(), right=True) / sample.shape[1]
        for sample in (one, other)
    ]
    return (below[0] - below[1]).abs().amax(1)
