"""Means and variances over a window that change neither with the position of its content nor with its phase.

Around a window lies a background, constant or a periodic tile. How many cells of each kind of a tile the window holds
depends on the phase. So sums are taken over the deviation from the background, which the window holds whole, and the
background itself counts with the mean of its tile.

Shapes: window (N, C, *space), background (1 or N, C, *period); results keep the dimensions that they run over.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

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


def for_each_sample(signal: Signal, value: Callable[[tuple[int, ...], Box], float], ndim: int) -> float | Tensor:
    """Return value(frame, box) of the whole map: a number, or where samples differ numbers (N, 1, …) of `ndim`."""
    found = [value(frame, box) for frame, box in zip(signal.frames, signal.boxes, strict=True)]
    if len(found) == 1:
        return found[0]
    dtype = torch.float64 if signal.window.dtype == torch.float64 else torch.float32
    return torch.tensor(found, dtype=dtype, device=signal.window.device).reshape(-1, *[1] * (ndim - 1))


def cells_of_whole(
    signal: Signal, dims: Sequence[int], cells: Tensor | None = None, axes: tuple[int, ...] | None = None
) -> Any:
    """Return how many cells the whole map has along `dims`: of each sample, unless these run over the batch.

    cells: the window, or as many cells in other dimensions, the spatial ones of which are `axes`.
    """
    cells, axes = signal.window if cells is None else cells, signal.axes if axes is None else axes
    others = prod(cells.shape[d] for d in dims if d not in axes and (d or len(signal.boxes) == 1))
    over = [i for i, axis in enumerate(axes) if axis in dims]

    def count(_: tuple[int, ...], box: Box) -> float:
        return others * prod(box[i][1] - box[i][0] for i in over)

    if 0 in dims and len(signal.boxes) > 1:
        return sum(count(*one) for one in zip(signal.frames, signal.boxes, strict=True))
    return for_each_sample(signal, count, cells.ndim)


def sum_of_whole(signal: Signal, cells: Tensor, dims: Dims, dtype: torch.dtype | None = None) -> Tensor:
    """Return the sum over `dims`, the spatial axes among them, of the whole map; `cells` are this part's of it."""
    part = signal.own(cells).sum(dims, keepdim=True, dtype=dtype)

    def merge(parts: list[Tensor]) -> Tensor:
        wide = torch.float64 if part.dtype.is_floating_point else part.dtype
        return torch.stack([one.to(wide) for one in parts]).sum(0).to(part.dtype)

    return signal.gather_parts(part, merge).clone()


def moments_of_whole(
    signal: Signal, cells: Tensor, dims: Dims, axes: tuple[int, ...] | None = None
) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance over `dims` of the whole map; `cells` are this part's of it.

    axes: the spatial dimensions of `cells`; None: those of the map. Merged from the moments of the parts, in float64,
    as Chan, Golub and LeVeque do (1983).
    """
    is_part = len(signal.boxes) == 1
    count = prod(cells.shape[d] for d in dims) if is_part else cells_of_whole(signal, dims, cells, axes)
    wide = cells.double() if is_part else cells.float() if cells.dtype.itemsize < 4 else cells
    mean = signal.own(wide, axes=axes).sum(dims, keepdim=True) / (count or 1 if is_part else count)
    spread = signal.own(wide - mean, axes=axes).square_().sum(dims, keepdim=True)

    def merge(parts: list[tuple[Any, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        if len(parts) == 1:
            return mean, spread / count
        total = sum(n for n, _, _ in parts)
        merged = torch.stack([n * one for n, one, _ in parts]).sum(0) / total
        return merged, torch.stack([own + n * (one - merged).square() for n, one, own in parts]).sum(0) / total

    mean, var = signal.gather_parts((count, mean, spread), merge)
    dtype = torch.float64 if cells.dtype == torch.float64 else torch.float32
    return mean.to(dtype), var.to(dtype)


def extreme_of_whole(signal: Signal, function: Callable[..., Tensor], dims: Dims) -> Tensor:
    """Return the extreme that `function` takes over `dims` of the whole map, of which `signal` is a part."""
    window = signal.window
    if window.dtype == torch.bool:
        least = function.__name__ in ("amin", "all")
    else:
        limits = torch.finfo(window.dtype) if window.is_floating_point() else torch.iinfo(window.dtype)
        least = limits.min if function.__name__ == "amax" else limits.max
    part = function(signal.own(window, least), dim=dims, keepdim=True) if window.numel() else None

    def merge(parts: list[Tensor | None]) -> Tensor:
        return function(torch.stack([one for one in parts if one is not None]), dim=0)

    return signal.gather_parts(part, merge).clone()
