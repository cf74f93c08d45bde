"""Cells with more cells around them: written once, with a gradient for the cells and for what surrounds them.

Shapes: cells (N, C, *space); `axes` are the dimensions of space; `missing` holds (before, after) an axis.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from borderless.engine.geometry import Interval
from borderless.engine.tiles import tile
from borderless.engine.torch_internals import is_transformed


def pad(
    cells: Tensor,
    axes: tuple[int, ...],
    missing: Sequence[Interval],
    background: Tensor | None = None,
    start: Sequence[int] | None = None,
) -> Tensor:
    """`cells` with `missing[i]` = (before, after) more cells of background (None: 0) along axis `axes[i]`.

    start: the frame index of the first cell of `cells` on each axis; without it the background must be constant.
    """
    amounts = [0] * (2 * (cells.ndim - min(axes)))
    for axis, (before, after) in zip(axes, missing, strict=True):
        at = 2 * (cells.ndim - 1 - axis)
        amounts[at : at + 2] = [before, after]
    if background is None:
        return F.pad(cells, amounts)
    if start is not None:
        whole = [
            range(a - before, a + cells.shape[axis] + after)
            for a, axis, (before, after) in zip(start, axes, missing, strict=True)
        ]
        background = tile(background, axes, tuple(whole))
    # Few operations where a program is recorded, and none that writes in place or runs Python where it is transformed.
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or is_transformed():
        stored = cells.new_ones([n if axis in axes else 1 for axis, n in enumerate(cells.shape)])
        return torch.where(F.pad(stored, amounts) == 1, F.pad(cells, amounts), background)
    if torch.is_grad_enabled():
        return _Surrounded.apply(cells, background, axes, tuple(missing))  # pyright: ignore[reportReturnType]
    return _surrounded(cells, background, axes, missing)


def _surrounded(cells: Tensor, around: Tensor, axes: tuple[int, ...], missing: Sequence[Interval]) -> Tensor:
    shape = list(cells.shape)
    for axis, (before, after) in zip(axes, missing, strict=True):
        shape[axis] += before + after
    shape[0] = max(shape[0], around.shape[0])
    result = torch.empty(shape, dtype=cells.dtype, device=cells.device, memory_format=memory_format_of(cells))
    around = around.expand(shape)
    for outside, strip in zip(strips(around, axes, missing), strips(result, axes, missing), strict=True):
        strip.copy_(outside)
    inside(result, axes, missing).copy_(cells)
    return result


def inside(cells: Tensor, axes: tuple[int, ...], missing: Sequence[Interval]) -> Tensor:
    """Return the view of `cells` without what is missing."""
    for axis, (before, after) in zip(axes, missing, strict=True):
        cells = cells.narrow(axis, before, cells.shape[axis] - before - after)
    return cells


def strips(cells: Tensor, axes: tuple[int, ...], missing: Sequence[Interval]) -> Iterator[Tensor]:
    """Yield views that together hold every cell outside, once. Each is made when it is asked for."""
    for axis, (before, after) in zip(axes, missing, strict=True):
        stop = cells.shape[axis] - after
        if before:
            yield cells.narrow(axis, 0, before)
        if after:
            yield cells.narrow(axis, stop, after)
        cells = cells.narrow(axis, before, stop - before)


class _Surrounded(torch.autograd.Function):
    """Written once forward; backward the cells get a view of the gradient, and what is around them the rest."""

    @staticmethod
    def forward(
        ctx: Any, cells: Tensor, around: Tensor, axes: tuple[int, ...], missing: tuple[Interval, ...]
    ) -> Tensor:
        ctx.where, ctx.shapes, ctx.dtype = (axes, missing), (cells.shape, around.shape), around.dtype
        return _surrounded(cells, around, axes, missing)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        axes, _ = ctx.where
        of_cells, of_around = inside(gradient, *ctx.where), None
        if ctx.needs_input_grad[1]:
            if all(ctx.shapes[1][axis] == 1 for axis in axes):
                sums = [strip.sum(axes, keepdim=True) for strip in strips(gradient, *ctx.where)]
                of_around = torch.stack(sums).sum(0).sum_to_size(ctx.shapes[1])
            else:
                outside = torch.ones_like(gradient[:1, :1])
                inside(outside, *ctx.where).zero_()
                of_around = (gradient * outside).sum_to_size(ctx.shapes[1])
            of_around = of_around.to(ctx.dtype)
        return of_cells.sum_to_size(ctx.shapes[0]), of_around, None, None


def pasted(around: Tensor, cells: Tensor, axes: tuple[int, ...], missing: Sequence[tuple[int, int]]) -> Tensor:
    """`cells` with `around` (1 or N, C, *wider) on all the cells that are missing: each cell is written once."""
    shape = (len(cells), *around.shape[1:])
    result = torch.empty(shape, dtype=cells.dtype, device=cells.device, memory_format=memory_format_of(cells))
    for outside, strip in zip(strips(around.expand(shape), axes, missing), strips(result, axes, missing), strict=True):
        strip.copy_(outside)
    inside(result, axes, missing).copy_(cells)
    return result


def memory_format_of(cells: Tensor) -> torch.memory_format:
    """Return channels_last when the cells are stored so; contiguous otherwise, and under torch.func, which hides it."""
    if is_transformed():
        return torch.contiguous_format
    if cells.ndim == 4 and cells.is_contiguous(memory_format=torch.channels_last) and not cells.is_contiguous():
        return torch.channels_last
    if cells.ndim == 5 and cells.is_contiguous(memory_format=torch.channels_last_3d) and not cells.is_contiguous():
        return torch.channels_last_3d
    return torch.contiguous_format
