"""Renumbering cells, each sample by its own amount: how an adaptive phase moves a grid.

Shapes: cells (N, C, *space); `axes` are the dimensions of space; ranges hold one `range` of frame indices an axis.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from borderless.engine.geometry import Box, Keep, clip
from borderless.engine.padding import memory_format_of
from borderless.engine.reading import read, thin
from borderless.engine.tiles import Ranges, tile


class Shift(NamedTuple):
    """Renumbers cells, each sample by its own amount: the new cell j is the old cell j + by[n], low <= by <= high.

    by: integers (N, D); low and high: their bounds for each axis, known without looking at them.
    """

    by: Tensor
    low: tuple[int, ...]
    high: tuple[int, ...]

    def touching(self, box: Box, frame: Sequence[int], reach: int | None) -> Box:
        """Return the new cells that stand for a cell of `box` in some sample."""
        return tuple(
            clip((a - high, b - low), n, reach)
            for (a, b), low, high, n in zip(box, self.low, self.high, frame, strict=True)
        )

    def kept(self, box: Box, frame: Sequence[int], keeps: Sequence[Keep], reach: int | None) -> Box:
        """Return the window that a border, which keeps `keeps` along each axis, keeps of one on `box`."""
        touching, inside = self.touching(box, frame, reach), self.inside(box)
        axes = zip(keeps, frame, touching, inside, strict=True)
        return tuple([(0, n) if k == "frame" else near if k == "touching" else own for k, n, near, own in axes])

    def inside(self, box: Box) -> Box:
        """Return the new cells that stand for cells of `box` in every sample; an axis without one has stop <= start."""
        return tuple((a - low, b - high) for (a, b), low, high in zip(box, self.low, self.high, strict=True))

    def sources(self, box: Box) -> Box:
        """Return the old cells that the new cells of `box` may stand for."""
        return tuple((a + low, b + high) for (a, b), low, high in zip(box, self.low, self.high, strict=True))


def shifted_tile(background: Tensor, axes: Sequence[int], shift: Shift) -> Tensor:
    """Return the background in the new numbers: (N, C, *period) where it is not constant."""
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


def take_shifted(
    cells: Tensor, axes: tuple[int, ...], stored: Box, wanted: Ranges, shift: Shift, background: Tensor | None
) -> Tensor:
    """Return the new cells of `wanted`, of every sample, from `cells` stored on the old cells `stored`.

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
    """Return the shifted cells: read all that any sample may need, then choose between two cuts for each bit."""
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
