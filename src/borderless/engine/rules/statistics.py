"""Means and variances over a window that change neither with the position of its content nor with its phase.

Around a window lies a background, constant or a periodic tile. How many cells of each kind of a tile the window holds
depends on the phase. So sums are taken over the deviation from the background, which the window holds whole, and the
background itself counts with the mean of its tile.

Shapes: window (N, C, *space), background (1 or N, C, *period); results keep the dimensions that they run over.
"""

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from borderless.engine.geometry import Box
from borderless.engine.tiles import is_constant, ranges_of, tile

Dims = tuple[int, ...]


def mean_of(
    function: Callable[[Tensor], Tensor],
    window: Tensor,
    background: Tensor | None,
    axes: tuple[int, ...],
    box: Box,
    dims: Dims,
) -> Tensor:
    """Return the mean over `dims`, the spatial `axes` among them, of an elementwise `function` of the cells."""
    if background is None or is_constant(background, axes):
        return function(window).mean(dims, keepdim=True)
    around = tile(background, axes, ranges_of(box))
    change = (function(window) - function(around)).sum(dims, keepdim=True)
    return change / prod(window.shape[d] for d in dims) + function(background).mean(dims, keepdim=True)


def moments(
    window: Tensor, background: Tensor | None, axes: tuple[int, ...], box: Box, dims: Dims
) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance over `dims`, the spatial `axes` among them, in float32 at least."""
    if window.dtype in (torch.float16, torch.bfloat16):
        window, background = window.float(), None if background is None else background.float()
    if background is None or is_constant(background, axes):
        var, mean = torch.var_mean(window, dims, correction=0, keepdim=True)
        return mean, var
    mean = mean_of(lambda cells: cells, window, background, axes, box, dims)
    var = mean_of(lambda cells: (cells - mean).square(), window, background, axes, box, dims)
    return mean, var.clamp_min(
        0
    )  # a window smaller than the tile may lack the cells that its deviation is counted with
