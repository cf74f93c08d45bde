"""Means and variances over a window that change neither with the position of its content nor with its phase.

Around a window lies a background, constant or a periodic tile. How many cells of each kind of a tile the window holds
depends on the phase. So sums are taken over the deviation from the background, which the window holds whole, and the
background itself counts with the mean of its tile.

Shapes: window (N, C, *space), background (1 or N, C, *period); results keep the dimensions that they run over.
"""

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor

from borderless.engine.geometry import Box
from borderless.engine.signal import Signal
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


def cells_of_whole(signal: Signal, dims: Sequence[int]) -> int:
    """Return how many cells the whole map has along `dims`, of which a part may be stored."""
    sizes = dict(zip(signal.axes, (b - a for a, b in signal.whole), strict=True))
    return prod(sizes.get(d, signal.window.shape[d]) for d in dims)


def sum_of_whole(signal: Signal, cells: Tensor, dims: Dims, dtype: torch.dtype | None = None) -> Tensor:
    """Return the sum over `dims`, the spatial axes among them, of the whole map; `cells` are this part's of it."""
    part = cells.sum(dims, keepdim=True, dtype=dtype)

    def merge(parts: list[Tensor]) -> Tensor:
        wide = torch.float64 if part.dtype.is_floating_point else part.dtype
        return torch.stack([one.to(wide) for one in parts]).sum(0).to(part.dtype)

    return signal.gather(part, merge).clone()


def moments_of_whole(signal: Signal, cells: Tensor, dims: Dims) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance over `dims` of the whole map; `cells` are this part's of it.

    Merged from those of the parts, in float64, as Chan, Golub and LeVeque do (1983).
    """
    count = prod(cells.shape[d] for d in dims)
    wide = cells.double()
    mean = wide.sum(dims, keepdim=True) / max(count, 1)
    spread = (wide - mean).square_().sum(dims, keepdim=True)

    def merge(parts: list[tuple[int, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        total = sum(n for n, _, _ in parts)
        mean = torch.stack([n * one for n, one, _ in parts]).sum(0) / total
        spread = torch.stack([own + n * (one - mean).square() for n, one, own in parts]).sum(0)
        return mean, spread / total

    mean, var = signal.gather((count, mean, spread), merge)
    dtype = torch.float64 if cells.dtype == torch.float64 else torch.float32
    return mean.to(dtype), var.to(dtype)


def extreme_of_whole(signal: Signal, function: Callable[..., Tensor], dims: Dims) -> Tensor:
    """Return the extreme that `function` takes over `dims` of the whole map, of which `signal` is a part."""
    part = function(signal.window, dim=dims, keepdim=True) if signal.window.numel() else None

    def merge(parts: list[Tensor | None]) -> Tensor:
        return function(torch.stack([one for one in parts if one is not None]), dim=0)

    return signal.gather(part, merge).clone()
