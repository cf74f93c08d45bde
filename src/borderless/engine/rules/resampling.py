"""Operations that leave a map on a finer grid: transposed convolution, interpolation by whole factors, pixel shuffle.

A constant background comes out of a transposed convolution and of a pixel shuffle as a pattern that repeats with the
stride: a tile. A map that returns to a lattice from which strided operations took it is renumbered, each sample by the
phases in between, so that it lies where the image lies. Interpolation by other factors, or with aligned corners, weighs
cells by where they are in the frame: it reads absolute position.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from borderless.engine.geometry import Box, Slide, Spread, clip
from borderless.engine.naming import describe, named
from borderless.engine.padding import pad
from borderless.engine.receptive_field import Field, interpolated, spread_out
from borderless.engine.registry import rule
from borderless.engine.rules.lattice_choice import undo_strides
from borderless.engine.rules.plan import check_axes, nothing_left, per_axis, plan
from borderless.engine.rules.sliding import strided_slice
from borderless.engine.signal import Signal
from borderless.engine.tiles import is_constant, periods, ranges_of, tile

# How many cells beyond its own an interpolated value may read, on each side.
_HALO = {"nearest": 0, "nearest-exact": 0, "area": 0, "linear": 1, "bilinear": 1, "trilinear": 1, "bicubic": 2}


@rule(torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)
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
    options = zip(weight.shape[2:], stride, padding, output_padding, dilation, strict=True)
    spreads = [Spread(*numbers) for numbers in options]
    frame = tuple(s.frame(n) for s, n in zip(spreads, signal.frame, strict=True))
    border = signal.border
    outputs = tuple(
        s.kept(window, n, border.keeps, border.reach)
        for s, window, n in zip(spreads, signal.box, signal.frame, strict=True)
    )
    if min(frame) < 1 or any(first >= stop for first, stop in outputs):
        raise nothing_left(signal, describe(function))

    def run(cells: Tensor, first_cell: Sequence[int], wanted: Box, bias: Tensor | None) -> Tensor:
        """The outputs of `wanted` that `cells` alone give, from the frame index `first_cell` on."""
        spread = function(cells, weight, bias, stride, 0, 0, groups, dilation)
        starts = [s.stride * first - s.padding for s, first in zip(spreads, first_cell, strict=True)]
        return _cut(spread, signal.axes, starts, wanted, bias)

    background = None
    if border.is_own:
        window = function(signal.window, weight, bias, stride, padding, output_padding, groups, dilation)
        read = signal.window
    elif border.outside in ("zero", "background"):
        around = signal.background
        if around is not None:
            counts = [s * p for s, p in zip(stride, periods(around, signal.axes), strict=True)]
            pattern = tuple((0, c) for c in counts)
            sources = tuple(s.needed(c) for s, c in zip(spreads, pattern, strict=True))
            patch = tile(around, signal.axes, ranges_of(sources), dense=True)
            background = run(patch, [a for a, _ in sources], pattern, bias)
        read = signal.deviation()
        window = run(read, signal.start, outputs, bias if background is None else None)
        if background is not None:
            window = window + tile(background, signal.axes, ranges_of(outputs))
    else:
        sources = tuple(s.needed(o) for s, o in zip(spreads, outputs, strict=True))
        read = signal.read(sources)
        window = run(read, [a for a, _ in sources], outputs, bias)
    field = tuple(spread_out(*pair) for pair in zip(signal.field, spreads, strict=True))
    result = _on_finer_lattice(signal, stride, window, background, outputs, frame, field)
    signal.scope.observe(function, result, read.numel() * weight[0].numel())
    return result


def _cut(cells: Tensor, axes: tuple[int, ...], starts: Sequence[int], wanted: Box, bias: Tensor | None) -> Tensor:
    """The part `wanted` of cells that begin at `starts`; beyond them no input reaches, and only the bias is left."""
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


@rule(F.interpolate)
def interpolate(
    function: Any,
    signal: Signal,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Any:
    """Resize by a factor that is a whole number, or one over it."""
    check_axes(signal, None, function)
    count = len(signal.axes)
    frame = _frame_after(signal, size, scale_factor)
    up = [out // n if out % n == 0 else 0 for out, n in zip(frame, signal.frame, strict=True)]
    down = [n // out if n % out == 0 else 0 for out, n in zip(frame, signal.frame, strict=True)]
    scales = None if scale_factor is None else _as_floats(scale_factor, count)
    exact_scale = scales is None or all(s in (f, d and 1 / d) for s, f, d in zip(scales, up, down, strict=True))
    reason = None
    if align_corners and max(up) > 1:
        reason = "with aligned corners a cell's weight depends on its place"
    elif mode.startswith("nearest") and all(down) and exact_scale and max(down) > 1:
        first = [d // 2 if mode == "nearest-exact" else 0 for d in down]
        return strided_slice(signal, list(zip(first, signal.frame, down, strict=True)))
    elif not all(up) or not exact_scale:
        reason = f"from {signal.frame} to {frame} cells is no whole factor, so a cell's weight depends on its place"
    if reason is not None:
        signal.scope.reads_position(describe(function), reason, signal.frame)
        cells = signal.window if signal.border.is_own else signal.crop()
        return function(cells, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)
    if set(up) == {1}:
        return signal.derive(signal.window.clone(), signal.background)
    return _upsample(function, signal, tuple(up), mode, frame)


def _upsample(function: Any, signal: Signal, factor: tuple[int, ...], mode: str, frame: tuple[int, ...]) -> Signal:
    halo, axes, border = _HALO[mode], signal.axes, signal.border
    options = {} if halo == 0 else {"align_corners": False}

    def run(cells: Tensor, first_cell: Sequence[int], wanted: Box) -> Tensor:
        """The outputs of `wanted`; `cells`, from the frame index `first_cell` on, holds all that they read."""
        larger = function(cells, scale_factor=[float(f) for f in factor], mode=mode, **options)
        return _cut(larger, axes, [f * a for f, a in zip(factor, first_cell, strict=True)], wanted, None)

    # An output lies between two cells and reads `halo` of them on either side.
    sticking = [(halo - 1) * f + f // 2 if halo and f > 1 else 0 for f in factor]
    grown = tuple((f * a - more, f * b + more) for f, (a, b), more in zip(factor, signal.box, sticking, strict=True))
    shrunk = tuple((f * a + more, f * b - more) for f, (a, b), more in zip(factor, signal.box, sticking, strict=True))
    outputs = {"frame": tuple((0, n) for n in frame), "touching": grown, "inside": shrunk}[border.keeps]
    if any(a >= b for a, b in outputs):
        raise nothing_left(signal, describe(function))
    background = signal.background
    if background is not None and not is_constant(background, axes):
        counts = periods(background, axes)
        patch = tile(background, axes, tuple(range(-halo, p + halo) for p in counts), dense=True)
        pattern = tuple((0, f * p) for f, p in zip(factor, counts, strict=True))
        background = run(patch, [-halo] * len(axes), pattern)
    if border.is_own or halo == 0 or border.keeps == "inside":
        window = run(signal.window, signal.start, outputs)
    elif border.keeps == "touching":
        padded = pad(signal.deviation(), axes, [(halo, halo)] * len(axes))
        window = run(padded, [a - halo for a in signal.start], outputs)
        window = window if background is None else window + tile(background, axes, ranges_of(outputs))
    else:
        window = run(signal.read(tuple((a - halo, b + halo) for a, b in signal.box)), [-halo] * len(axes), outputs)
    field = tuple(interpolated(*pair, halo) for pair in zip(signal.field, factor, strict=True))
    result = _on_finer_lattice(signal, factor, window, background, outputs, frame, field)
    signal.scope.observe(function, result, 0)
    return result


def _frame_after(signal: Signal, size: Any, scale_factor: Any) -> tuple[int, ...]:
    count = len(signal.axes)
    if size is not None:
        return per_axis(size, count)
    return tuple(int(n * s) for n, s in zip(signal.frame, _as_floats(scale_factor, count), strict=True))


def _as_floats(scale_factor: Any, count: int) -> tuple[float, ...]:
    values = scale_factor if isinstance(scale_factor, Sequence) else (scale_factor,)
    values = tuple(float(v) for v in values)
    return values * count if len(values) == 1 else values


@rule(*named("pixel_shuffle"))
def pixel_shuffle(function: Any, signal: Signal, upscale_factor: int) -> Signal:
    """Move channels to a finer lattice."""
    check_axes(signal, 2, function)
    r = upscale_factor
    box = tuple((r * a, r * b) for a, b in signal.box)
    frame = tuple(r * n for n in signal.frame)
    background = None if signal.background is None else function(signal.background, r)
    window = function(signal.window, r)
    field = tuple(interpolated(f, r, 0) for f in signal.field)
    return _on_finer_lattice(signal, (r, r), window, background, box, frame, field)


@rule(*named("pixel_unshuffle"))
def pixel_unshuffle(function: Any, signal: Signal, downscale_factor: int) -> Signal:
    """A stride of blocks: each block of cells becomes one cell with as many more channels."""
    check_axes(signal, 2, function)
    r = downscale_factor
    planned = plan(signal, (Slide(r, r), Slide(r, r)), function)

    def run(cells: Tensor) -> Tensor:
        return function(cells, r)

    result = planned.result(run(planned.cells()), None if planned.background is None else planned.response(run))
    signal.scope.observe(function, result, 0)
    return result


def _on_finer_lattice(
    signal: Signal,
    factor: tuple[int, ...],
    window: Tensor,
    background: Tensor | None,
    box: Box,
    frame: tuple[int, ...],
    field: tuple[Field, ...],
) -> Signal:
    """The Signal of an upsampled map, in the numbers of the lattice that it is on now."""
    lattice, shift = undo_strides(signal.lattice, factor)
    result = signal.derive(window, background, box=box, frame=frame, lattice=lattice, field=field)
    if shift is not None:
        box, background = result.renumbered(shift)
        return result.derive(result.take(ranges_of(box), shift), background, box=box)
    within = tuple(clip(interval, n, signal.border.reach) for interval, n in zip(box, frame, strict=True))
    return result if within == box else result.derive(result.read(within), background, box=within)
