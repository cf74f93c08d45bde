"""Operations that leave a map on a finer grid: transposed convolution and pixel shuffle.

A constant background comes out of a transposed convolution and of a pixel shuffle as a pattern that repeats with the
stride: a tile. A map that returns to a lattice from which strided operations took it is renumbered, each sample by the
phases in between, so that it lies where the image lies.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from borderless.engine.geometry import Box, Slide, Spread, clip
from borderless.engine.naming import describe, named
from borderless.engine.padding import pad
from borderless.engine.receptive_field import Field, interpolated, spread_out
from borderless.engine.registry import Need, rule
from borderless.engine.rules.lattice_choice import undo_strides
from borderless.engine.rules.plan import check_axes, nothing_left, per_axis, plan
from borderless.engine.signal import Signal
from borderless.engine.tiles import periods, ranges_of, tile


def _read_by_transposed_convolution(
    function: Any,
    signal: Any,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Need:
    per = (per_axis(value, weight.ndim - 2) for value in (stride, padding, output_padding, dilation))
    return Need("resampled", tuple(Spread(*numbers) for numbers in zip(weight.shape[2:], *per, strict=True)))


@rule(torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d, needs=_read_by_transposed_convolution)
def transposed_convolution(
    function: Any,
    signal: Signal,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Signal:
    """Run on a window and keep every output that it reaches."""
    count = weight.ndim - 2
    check_axes(signal, count, function, weight, bias)
    stride, padding, output_padding, dilation = (
        per_axis(v, count) for v in (stride, padding, output_padding, dilation)
    )
    given = (stride, padding, output_padding, groups, dilation)
    spreads = signal.directed(_read_by_transposed_convolution(function, signal, weight, bias, *given).slides)
    frame = tuple(s.frame(n) for s, n in zip(spreads, signal.frame, strict=True))
    outputs = signal.kept(spreads)
    if min(frame) < 1 or any(first >= stop for first, stop in outputs):
        raise nothing_left(signal, describe(function))

    def run(cells: Tensor, first_cell: Sequence[int], wanted: Box, bias: Tensor | None) -> Tensor:
        """Return the outputs of `wanted` that `cells` alone give, from the frame index `first_cell` on."""
        spread = function(cells, weight, bias, stride, 0, 0, groups, dilation)
        starts = [s.stride * first - s.padding for s, first in zip(spreads, first_cell, strict=True)]
        return cut_to(spread, signal.axes, starts, wanted, bias)

    background = None
    if signal.border.is_own:
        window = function(signal.window, weight, bias, stride, padding, output_padding, groups, dilation)
        read = signal.window
    else:
        around = signal.background
        if around is not None:
            counts = [s * p for s, p in zip(stride, periods(around, signal.axes), strict=True)]
            pattern = tuple((0, c) for c in counts)
            sources = tuple(s.needed(c) for s, c in zip(spreads, pattern, strict=True))
            patch = tile(around, signal.axes, ranges_of(sources), dense=True)
            background = run(patch, [a for a, _ in sources], pattern, bias)
        axes = zip(signal.edges, signal.box, spreads, outputs, strict=True)
        sources = tuple(stored if edge.ends_in_zeros else s.needed(o) for edge, stored, s, o in axes)
        read = signal.read_deviation(sources)
        window = run(read, [a for a, _ in sources], outputs, bias if background is None else None)
        if background is not None:
            window = window + tile(background, signal.axes, ranges_of(outputs))
    field = tuple(spread_out(*pair) for pair in zip(signal.field, spreads, strict=True))
    result = on_finer_lattice(signal, stride, window, background, outputs, frame, field)
    signal.scope.observe(function, result, read.numel() * weight[0].numel())
    return result


def cut_to(cells: Tensor, axes: tuple[int, ...], starts: Sequence[int], wanted: Box, bias: Tensor | None) -> Tensor:
    """Return the part `wanted` of cells that begin at `starts`; beyond the reach of inputs only the bias is left."""
    missing = [
        (max(0, a - first), max(0, stop - a - cells.shape[axis]))
        for axis, a, (first, stop) in zip(axes, starts, wanted, strict=True)
    ]
    if any(before or after for before, after in missing):
        around = None if bias is None else bias.reshape(1, -1, *[1] * len(axes))
        cells = pad(cells, axes, missing, around)
    for axis, a, (before, _), (first, stop) in zip(axes, starts, missing, wanted, strict=True):
        if (before, stop - first) != (first - a, cells.shape[axis]) or before:
            cells = cells.narrow(axis, first - (a - before), stop - first)
    return cells


def _of_shuffle(function: Any, signal: Any, upscale_factor: int) -> Need:
    return Need("resampled", (Spread(upscale_factor, upscale_factor),) * 2)


@rule(*named("pixel_shuffle"), needs=_of_shuffle)
def pixel_shuffle(function: Any, signal: Signal, upscale_factor: int) -> Signal:
    """Move channels to a finer lattice."""
    check_axes(signal, 2, function)
    background = None if signal.background is None else function(signal.background, upscale_factor)
    return on_finer_cells(signal, (upscale_factor,) * 2, function(signal.window, upscale_factor), background)


def on_finer_cells(
    signal: Signal,
    factor: tuple[int, ...],
    window: Tensor,
    background: Tensor | None,
    axes: tuple[int, ...] | None = None,
) -> Signal:
    """Return the Signal of a map of which each cell has become `factor` cells along each of the `axes`."""
    box = tuple((r * a, r * b) for r, (a, b) in zip(factor, signal.box, strict=True))
    frame = tuple(r * n for r, n in zip(factor, signal.frame, strict=True))
    field = tuple(interpolated(f, r, 0) for r, f in zip(factor, signal.field, strict=True))
    return on_finer_lattice(signal, factor, window, background, box, frame, field, axes)


def _of_unshuffle(function: Any, signal: Any, downscale_factor: int) -> tuple[Slide, ...]:
    return (Slide(downscale_factor, downscale_factor),) * 2


@rule(*named("pixel_unshuffle"), needs=_of_unshuffle)
def pixel_unshuffle(function: Any, signal: Signal, downscale_factor: int) -> Signal:
    """Return a stride of blocks: each block of cells becomes one cell with as many more channels."""
    check_axes(signal, 2, function)
    r = downscale_factor
    planned = plan(signal, (Slide(r, r), Slide(r, r)), function)

    def run(cells: Tensor) -> Tensor:
        return function(cells, r)

    result = planned.result(run(planned.cells()), None if planned.background is None else planned.response(run))
    signal.scope.observe(function, result, 0)
    return result


def on_finer_lattice(
    signal: Signal,
    factor: tuple[int, ...],
    window: Tensor,
    background: Tensor | None,
    box: Box,
    frame: tuple[int, ...],
    field: tuple[Field, ...],
    axes: tuple[int, ...] | None = None,
) -> Signal:
    """Return the Signal of an upsampled map, in the numbers of the lattice that it is on now."""
    lattice, shift = undo_strides(signal.lattice, factor)
    result = signal.derive(window, background, box=box, frame=frame, axes=axes, lattice=lattice, field=field)
    if shift is not None:
        box, background = result.renumbered(shift)
        return result.derive(result.read_ranges(ranges_of(box), shift), background, box=box)
    if signal.keeps("known"):
        return result
    within = tuple(clip(interval, n, signal.border.reach) for interval, n in zip(box, frame, strict=True))
    return result if within == box else result.derive(result.read(within), background, box=within)
