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

from borderless.engine.geometry import Box, Slide, Spread, clip, intersection
from borderless.engine.naming import describe, named
from borderless.engine.operations import Interpolation
from borderless.engine.padding import pad
from borderless.engine.reading import cut
from borderless.engine.receptive_field import Field, interpolated, spread_out
from borderless.engine.registry import Declared, Need, rule
from borderless.engine.resizing import MODES, NEAREST, resize
from borderless.engine.rules.lattice_choice import undo_strides
from borderless.engine.rules.plan import check_axes, nothing_left, per_axis, plan
from borderless.engine.rules.sliding import slides_of, strided_slice
from borderless.engine.signal import Signal
from borderless.engine.tiles import is_constant, periods, ranges_of, tile

# How many cells beyond its own an interpolated value may read, on each side.
_HALO = {"nearest": 0, "nearest-exact": 0, "area": 0, "linear": 1, "bilinear": 1, "trilinear": 1, "bicubic": 2}


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
    spreads = _read_by_transposed_convolution(function, signal, weight, bias, *given).slides
    frame = tuple(s.frame(n) for s, n in zip(spreads, signal.frame, strict=True))
    border, outputs = signal.border, signal.kept(spreads)
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


def _read_by_interpolation(
    function: Any,
    signal: Signal,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Declared:
    frame, factors = _frame_after(signal, size, scale_factor), _whole_factors(signal, size, scale_factor)
    if factors is not None and min(factors) >= 1 and not (align_corners and max(factors) > 1):
        return Need("resampled", tuple(Interpolation(f, _HALO[mode]) for f in factors))
    if factors is not None and max(factors) < 0 and mode in NEAREST:
        return slides_of(_thinned(signal, factors, mode), signal.frame)
    if antialias or mode not in MODES:
        return "everything"
    scales: Any = [None] * len(frame)
    if scale_factor is not None and not recompute_scale_factor:
        scales = _as_floats(scale_factor, len(frame))
    sizes = zip(signal.frame, frame, scales, strict=True)
    taps = tuple(resize(n, out, scale, mode, bool(align_corners), signal.dtype) for n, out, scale in sizes)
    return Need("resampled", taps)


@rule(F.interpolate, needs=_read_by_interpolation)
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
    frame, factors = _frame_after(signal, size, scale_factor), _whole_factors(signal, size, scale_factor)
    reason = None
    if factors is None:
        reason = f"from {signal.frame} to {frame} cells is no whole factor, so a cell's weight depends on its place"
    elif align_corners and max(factors) > 1:
        reason = "with aligned corners a cell's weight depends on its place"
    elif min(factors) < 0 and mode in NEAREST:
        return strided_slice(signal, _thinned(signal, factors, mode))
    elif min(factors) < 0:
        reason = f"from {signal.frame} to {frame} cells is no whole factor, so a cell's weight depends on its place"
    if reason is not None:
        given = (size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)
        signal.scope.reads_position(describe(function), reason)
        if signal.border.keeps == "known" and signal.border.has_own_padding:
            return _resized(function, signal, frame, *given)
        return function(signal.window if signal.border.is_own else signal.crop(), *given)
    assert factors is not None
    if set(factors) == {1}:
        return signal.derive(signal.window.clone(), signal.background)
    return _upsample(function, signal, factors, mode, frame)


def _resized(function: Any, signal: Signal, frame: tuple[int, ...], *given: Any) -> Signal:
    """The outputs that a part of the map decides, under the model's own padding."""
    need = _read_by_interpolation(function, signal, *given)
    taps = need.slides if isinstance(need, Need) else ()
    if not taps:
        raise signal.scope.unsupported(describe(function), f"mode {given[2]!r} has no rule for a part of a map")
    outputs, cells = signal.kept(taps), signal.window
    for axis, tap, (start, _), wanted in zip(signal.axes, taps, signal.box, outputs, strict=True):
        cells = tap.run(cells, axis, start, wanted)
    return signal.derive(cells, None, box=outputs, frame=frame)


def _whole_factors(signal: Signal, size: Any, scale_factor: Any) -> tuple[int, ...] | None:
    """For each axis the whole factor f by which it grows, or -f by which it shrinks; None: there are no such."""
    frame = _frame_after(signal, size, scale_factor)
    up = [out // n if out % n == 0 else 0 for out, n in zip(frame, signal.frame, strict=True)]
    down = [n // out if n % out == 0 else 0 for out, n in zip(frame, signal.frame, strict=True)]
    scales = None if scale_factor is None else _as_floats(scale_factor, len(frame))
    if scales is not None and not all(s in (f, d and 1 / d) for s, f, d in zip(scales, up, down, strict=True)):
        return None
    if all(up):
        return tuple(up)
    return tuple(-d for d in down) if all(down) else None


def _thinned(signal: Signal, factors: tuple[int, ...], mode: str) -> list[tuple[int, int, int]]:
    """The strided slices that an interpolation to the nearest cell takes, for each axis (start, stop, step)."""
    steps = [-f for f in factors]
    first = [step // 2 if mode == "nearest-exact" else 0 for step in steps]
    return list(zip(first, signal.frame, steps, strict=True))


def _upsample(function: Any, signal: Signal, factor: tuple[int, ...], mode: str, frame: tuple[int, ...]) -> Signal:
    halo, axes, border = _HALO[mode], signal.axes, signal.border
    options = {} if halo == 0 else {"align_corners": False}

    def run(cells: Tensor, first_cell: Sequence[int], wanted: Box) -> Tensor:
        """The outputs of `wanted`; `cells`, from the frame index `first_cell` on, holds all that they read."""
        larger = function(cells, scale_factor=[float(f) for f in factor], mode=mode, **options)
        return _cut(larger, axes, [f * a for f, a in zip(factor, first_cell, strict=True)], wanted, None)

    outputs = signal.kept([Interpolation(f, halo) for f in factor])
    if any(a >= b for a, b in outputs):
        raise nothing_left(signal, describe(function))
    background = signal.background
    if background is not None and not is_constant(background, axes):
        counts = periods(background, axes)
        patch = tile(background, axes, tuple(range(-halo, p + halo) for p in counts), dense=True)
        pattern = tuple((0, f * p) for f, p in zip(factor, counts, strict=True))
        background = run(patch, [-halo] * len(axes), pattern)
    if border.has_own_padding or halo == 0 or border.keeps == "inside":
        window = run(signal.window, signal.start, outputs)
    elif border.outside in ("zero", "background"):
        padded = pad(signal.deviation(), axes, [(halo, halo)] * len(axes))
        window = run(padded, [a - halo for a in signal.start], outputs)
        window = window if background is None else window + tile(background, axes, ranges_of(outputs))
    else:
        around = tuple((a - halo, b + halo) for a, b in signal.box)
        if border.keeps == "known":
            needed = [Interpolation(f, halo).needed(wanted) for f, wanted in zip(factor, outputs, strict=True)]
            around = intersection([around, tuple(needed)])
        window = run(signal.read(around), [a for a, _ in around], outputs)
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


def _of_shuffle(function: Any, signal: Any, upscale_factor: int) -> Need:
    return Need("resampled", (Spread(upscale_factor, upscale_factor),) * 2)


@rule(*named("pixel_shuffle"), needs=_of_shuffle)
def pixel_shuffle(function: Any, signal: Signal, upscale_factor: int) -> Signal:
    """Move channels to a finer lattice."""
    check_axes(signal, 2, function)
    r = upscale_factor
    spread, outputs = tuple((r * a, r * b) for a, b in signal.box), signal.kept(_of_shuffle(function, signal, r).slides)
    frame = tuple(r * n for n in signal.frame)
    background = None if signal.background is None else function(signal.background, r)
    window = cut(function(signal.window, r), signal.axes, spread, outputs)
    field = tuple(interpolated(f, r, 0) for f in signal.field)
    return _on_finer_lattice(signal, (r, r), window, background, outputs, frame, field)


def _of_unshuffle(function: Any, signal: Any, downscale_factor: int) -> tuple[Slide, ...]:
    return (Slide(downscale_factor, downscale_factor),) * 2


@rule(*named("pixel_unshuffle"), needs=_of_unshuffle)
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
    if signal.border.keeps == "known":
        return result
    within = tuple(clip(interval, n, signal.border.reach) for interval, n in zip(box, frame, strict=True))
    return result if within == box else result.derive(result.read(within), background, box=within)
