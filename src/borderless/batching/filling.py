"""What lies around each sample of a batch of unequal maps: put there before a rule reads beyond a cell.

Shapes: cells (N, C, *space) on a box that holds all samples; `axes` are the dimensions of space; a mask is (N, *space).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from borderless.engine.geometry import Box, Mirroring, outside_indices


def own_mask(boxes: Sequence[Box], box: Box, device: torch.device) -> Tensor:
    """Return (N, *space): which cells of `box` are on the box of a sample."""
    mask = torch.ones((), dtype=torch.bool, device=device)
    for i, (first, stop) in enumerate(box):
        cells = torch.arange(first, stop, device=device)
        low, high = (torch.tensor([own[i][end] for own in boxes], device=device).unsqueeze(1) for end in (0, 1))
        along = (low <= cells) & (cells < high)
        mask = mask & along.reshape(len(boxes), *[-1 if d == i else 1 for d in range(len(box))])
    return mask


def beside(mask: Tensor, axes: Sequence[int], ndim: int) -> Tensor:
    """Return a mask (N, *space) as it stands beside cells of `ndim` dimensions, whose spatial ones are `axes`."""
    sizes = iter(mask.shape[1:])
    return mask.reshape(len(mask), *[next(sizes) if d in axes else 1 for d in range(1, ndim)])


def filled(cells: Tensor, mask: Tensor, around: Tensor | float) -> Tensor:
    """Return `cells`, with `around` where the mask says that they are none of a sample's own."""
    if not isinstance(around, Tensor):
        around = torch.full((), around, dtype=cells.dtype, device=cells.device)
    return torch.where(mask, cells, around.to(cells.dtype))


def read_mirrored_apart(
    cells: Tensor,
    axes: tuple[int, ...],
    stored: Box,
    wanted: Box,
    frames: Sequence[Sequence[int]],
    outside: Mirroring,
) -> Tensor:
    """Return the cells of `wanted`, of maps that go on outside their own frames by mirroring, repeating or going round.

    Far away from a sample, where none of its outputs reads, any cell stands there.
    """
    for i, axis in enumerate(axes):
        first, stop = stored[i]
        rows = [[min(max(at, first), stop - 1) - first for at in _sources(wanted[i], n[i], outside)] for n in frames]
        if all(row == list(range(cells.shape[axis])) for row in rows):
            continue
        index = torch.tensor(rows, device=cells.device)
        index = index.reshape(len(rows), *[-1 if d == axis else 1 for d in range(1, cells.ndim)])
        shape = [index.shape[axis] if d == axis else n for d, n in enumerate(cells.shape)]
        cells = cells.gather(axis, index.expand(shape))
    return cells


def _sources(wanted: tuple[int, int], n: int, outside: Mirroring) -> list[int]:
    return outside_indices(wanted, n, outside)
