"""Reading cells: parts of a stored window, what surrounds it, and grids that differ from sample to sample.

A *background* is the tile that is repeated endlessly around a window: a tensor (1 or N, C, *period) whose cell i of an
axis stands for all frame indices that leave the remainder i when divided by the period. A constant has the period 1,
and stays of size 1 along space wherever broadcasting does the rest. None is the constant 0.

Shapes: cells (N, C, *space); `axes` are the dimensions of space; ranges hold one `range` of frame indices an axis.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from borderless.geometry import Box, Interval, Mirroring, clip, cover, outside_indices
from borderless.torch_internals import is_transformed

Ranges = tuple[range, ...]


class Shift(NamedTuple):
    """Renumbers cells, each sample by its own amount: the new cell j is the old cell j + by[n], low <= by <= high.

    by: integers (N, D); low and high: their bounds for each axis, known without looking at them.
    """

    by: Tensor
    low: tuple[int, ...]
    high: tuple[int, ...]

    def touching(self, box: Box, frame: Sequence[int], reach: int | None) -> Box:
        """The new cells that stand for a cell of `box` in some sample."""
        return tuple(
            clip((a - high, b - low), n, reach)
            for (a, b), low, high, n in zip(box, self.low, self.high, frame, strict=True)
        )

    def inside(self, box: Box) -> Box:
        """The new cells that stand for cells of `box` in every sample; an axis without one has stop <= start."""
        return tuple((a - low, b - high) for (a, b), low, high in zip(box, self.low, self.high, strict=True))

    def sources(self, box: Box) -> Box:
        """The old cells that the new cells of `box` may stand for."""
        return tuple((a + low, b + high) for (a, b), low, high in zip(box, self.low, self.high, strict=True))


def ranges_of(box: Box) -> Ranges:
    return tuple(range(a, b) for a, b in box)


def periods(background: Tensor, axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(background.shape[axis] for axis in axes)


def is_constant(background: Tensor, axes: Sequence[int]) -> bool:
    return set(periods(background, axes)) == {1}


def tile(background: Tensor, axes: Sequence[int], ranges: Ranges, *, dense: bool = False) -> Tensor:
    """The background on the cells of `ranges`: size 1 along axes (of either sign) where it is constant, or `dense`."""
    for axis, cells in zip(axes, ranges, strict=True):
        period = background.shape[axis]
        if period == 1 and not dense:
            continue
        if len(cells) != period or cells.start % period or cells.step != 1:
            indices = torch.tensor([i % period for i in cells], device=background.device)
            background = background.index_select(axis, indices)
    return background


def same_period(backgrounds: Sequence[Tensor], axes: Sequence[Sequence[int]], *, dense: bool = False) -> list[Tensor]:
    """The same backgrounds with tiles repeated to a common period; those constant along an axis keep size 1 there.

    dense: these too are repeated.
    """
    counts = (
        [math.lcm(*(b.shape[own[i]] for b, own in zip(backgrounds, axes, strict=True))) for i in range(len(axes[0]))]
        if backgrounds
        else []
    )
    if all(count == 1 for count in counts):
        return list(backgrounds)
    ranges = tuple(range(count) for count in counts)
    return [tile(background, own, ranges, dense=dense) for background, own in zip(backgrounds, axes, strict=True)]


def shifted_tile(background: Tensor, axes: Sequence[int], shift: Shift) -> Tensor:
    """The background in the new numbers: (N, C, *period) where it is not constant."""
    for i, axis in enumerate(axes):
        period = background.shape[axis]
        if period == 1:
            continue
        background = background.expand(len(shift.by), *background.shape[1:])
        cells = torch.arange(period, device=background.device)
        index = (cells + shift.by[:, i : i + 1]) % period
        index = index.reshape(len(index), *[period if d == axis else 1 for d in range(1, background.ndim)])
        background = background.gather(axis, index.expand(background.shape))
    return background


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
    for axis, (before, after) in zip(axes, missing, strict=True):
        cells = cells.narrow(axis, before, cells.shape[axis] - before - after)
    return cells


def strips(cells: Tensor, axes: tuple[int, ...], missing: Sequence[Interval]) -> Iterator[Tensor]:
    """Views that together hold every cell outside, once. Each is made when it is asked for, after what came before."""
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


def read(cells: Tensor, axes: tuple[int, ...], stored: Box, wanted: Box, background: Tensor | None) -> Tensor:
    """The cells of `wanted`, from `cells` stored on `stored`; what is not stored there is background (None: 0)."""
    missing = []
    for axis, have, want in zip(axes, stored, wanted, strict=True):
        (a, b), before, after = cover(have, want)
        if (a, b) != have:
            cells = cells.narrow(axis, a - have[0], b - a)
        missing.append((before, after))
    if not any(before or after for before, after in missing):
        return cells
    return pad(
        cells, axes, missing, background, [a + before for (a, _), (before, _) in zip(wanted, missing, strict=True)]
    )


def read_mirrored(
    cells: Tensor, axes: tuple[int, ...], stored: Box, wanted: Box, frame: Sequence[int], outside: Mirroring
) -> Tensor:
    """The cells of `wanted`, of a map that goes on outside its `frame` by mirroring, repeating or going round.

    Along an axis where cells outside are wanted, the frame is what is stored.
    """
    missing = [(have[0] - want[0], want[1] - have[1]) for have, want in zip(stored, wanted, strict=True)]
    is_native = axes == tuple(range(2, cells.ndim)) and len(axes) <= 3 and cells.is_floating_point()
    for (before, after), have, n in zip(missing, stored, frame, strict=True):
        most = {"reflect": n - 1, "replicate": before + after, "circular": n}[outside]
        is_native = is_native and have == (0, n) and 0 <= min(before, after) <= max(before, after) <= most
    if outside == "reflect" and cells.is_cuda and torch.are_deterministic_algorithms_enabled():
        is_native = False  # PyTorch has no deterministic gradient for it
    # Several times faster than to gather; PyTorch's own circular padding alone would lose channels last.
    if is_native and outside != "circular":
        return F.pad(cells, [amount for pair in reversed(missing) for amount in pair], outside)
    if is_native:
        for axis, (before, after), n in zip(axes, missing, frame, strict=True):
            around = [cells.narrow(axis, n - before, before)] if before else []
            around += [cells, *([cells.narrow(axis, 0, after)] if after else [])]
            cells = torch.cat(around, axis) if before or after else cells
        return cells
    for axis, n, have, want in zip(axes, frame, stored, wanted, strict=True):
        if want == have:
            continue
        if have[0] <= want[0] and want[1] <= have[1]:
            cells = cells.narrow(axis, want[0] - have[0], want[1] - want[0])
        else:
            indices = outside_indices(want, n, outside)
            cells = cells.index_select(axis, torch.tensor(indices, device=cells.device))
    return cells


def less(cells: Tensor, background: Tensor) -> Tensor:
    """cells - background. Written as a sum, whose gradient for the background is added up without a negated copy."""
    return cells + (-background)


def thin(cells: Tensor, axes: Sequence[int], steps: Sequence[int]) -> Tensor:
    """Every `steps[i]`-th cell along axis `axes[i]`, from the first: a view."""
    for axis, step in zip(axes, steps, strict=True):
        if step != 1:
            cells = cells[(slice(None),) * axis + (slice(None, None, step),)]
    return cells


def take_shifted(
    cells: Tensor, axes: tuple[int, ...], stored: Box, wanted: Ranges, shift: Shift, background: Tensor | None
) -> Tensor:
    """The new cells of `wanted`, of every sample, from `cells` stored on the old cells `stored`.

    background: of the old cells. Each cell is copied once where cells are rows in memory (channels last).
    """
    if axes == tuple(range(2, cells.ndim)) and memory_format_of(cells) != torch.contiguous_format:
        return _take_rows(cells, axes, stored, wanted, shift, background)
    return _take_halving(cells, axes, stored, wanted, shift, background)


def _take_rows(
    cells: Tensor, axes: tuple[int, ...], stored: Box, wanted: Ranges, shift: Shift, background: Tensor | None
) -> Tensor:
    samples, space = len(shift.by), [len(r) for r in wanted]
    row, unknown = torch.arange(samples, device=cells.device).reshape(samples, *[1] * len(axes)), []
    for i, (axis, (a, _), new) in enumerate(zip(axes, stored, wanted, strict=True)):
        size = cells.shape[axis]
        along = (samples, *[length if d == i else 1 for d, length in enumerate(space)])
        old = (
            torch.arange(new.start - a, new.stop - a, new.step, device=cells.device) + shift.by[:, i : i + 1]
        ).reshape(along)
        there = old.clamp(0, size - 1)
        row = torch.add(there, row, alpha=size)
        unknown.append((old != there).unsqueeze(1))
    rows = cells.movedim(1, -1).reshape(-1, cells.shape[1])
    taken = rows.index_select(0, row.flatten()).reshape(samples, *space, cells.shape[1]).movedim(-1, 1)
    outside = None
    if background is not None:
        outside = tile(shifted_tile(background, axes, shift), axes, wanted).to(taken.dtype)
    for i, axis in enumerate(axes):
        (a, b), new, length = stored[i], wanted[i], space[i]
        before = sum(j + shift.low[i] < a for j in new)
        after = min(sum(j + shift.high[i] >= b for j in new), length - before)
        for first, count in ((0, before), (length - after, after)):  # only the edges can hold what is not stored
            if not count:
                continue
            strip, missing = taken.narrow(axis, first, count), unknown[i].narrow(axis, first, count)
            if outside is None:
                strip.masked_fill_(missing, 0)
            else:
                around = outside if outside.shape[axis] == 1 else outside.narrow(axis, first, count)
                strip.copy_(torch.where(missing, around, strip))
    return taken


def _take_halving(
    cells: Tensor, axes: tuple[int, ...], stored: Box, wanted: Ranges, shift: Shift, background: Tensor | None
) -> Tensor:
    """Reads all that any sample may need; then each bit of the shift decides between two cuts."""
    bits = [(high - low).bit_length() for low, high in zip(shift.low, shift.high, strict=True)]
    wide = tuple(
        (new.start + low, new[-1] + low + 2**count) for new, low, count in zip(wanted, shift.low, bits, strict=True)
    )
    cells = read(cells, axes, stored, wide, background)
    for i, axis in enumerate(axes):
        amount = shift.by[:, i] - shift.low[i]
        for bit in reversed(range(bits[i])):
            length = cells.shape[axis] - 2**bit
            is_set = ((amount >> bit) & 1).bool().reshape(-1, *[1] * (cells.ndim - 1))
            cells = torch.where(is_set, cells.narrow(axis, 2**bit, length), cells.narrow(axis, 0, length))
    return thin(cells, axes, [new.step for new in wanted])


def cut(cells: Tensor, axes: Sequence[int], stored: Box, box: Box) -> Tensor:
    """The cells of `box`, a part of `stored`."""
    for axis, (first, _), (a, b) in zip(axes, stored, box, strict=True):
        cells = cells.narrow(axis, a - first, b - a)
    return cells


def pasted(around: Tensor, cells: Tensor, axes: tuple[int, ...], missing: Sequence[tuple[int, int]]) -> Tensor:
    """`cells` with `around` (1 or N, C, *wider) on all the cells that are missing: each cell is written once."""
    shape = (len(cells), *around.shape[1:])
    result = torch.empty(shape, dtype=cells.dtype, device=cells.device, memory_format=memory_format_of(cells))
    for outside, strip in zip(strips(around.expand(shape), axes, missing), strips(result, axes, missing), strict=True):
        strip.copy_(outside)
    inside(result, axes, missing).copy_(cells)
    return result


def memory_format_of(cells: Tensor) -> torch.memory_format:
    """channels_last when the cells are stored so, contiguous otherwise, and under torch.func, which does not tell."""
    if is_transformed():
        return torch.contiguous_format
    if cells.ndim == 4 and cells.is_contiguous(memory_format=torch.channels_last) and not cells.is_contiguous():
        return torch.channels_last
    if cells.ndim == 5 and cells.is_contiguous(memory_format=torch.channels_last_3d) and not cells.is_contiguous():
        return torch.channels_last_3d
    return torch.contiguous_format
