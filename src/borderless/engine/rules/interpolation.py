"""Interpolation: by whole factors, by one over them, and by any other.

By a whole factor, or one over it, all cells are treated alike. Other factors, and aligned corners, weigh cells by where
they are in the frame: that reads absolute position.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from borderless.engine.edge import AxisEdge
from borderless.engine.geometry import Box, Interval, Slide
from borderless.engine.naming import describe
from borderless.engine.operations import Interpolation
from borderless.engine.padding import pad
from borderless.engine.receptive_field import interpolated, renumbered
from borderless.engine.registry import Declared, Need, rule
from borderless.engine.resizing import MODES, NEAREST, resize
from borderless.engine.rules.plan import check_axes, nothing_left, per_axis, plan
from borderless.engine.rules.resampling import cut_to, on_finer_lattice
from borderless.engine.rules.sliding import slides_of, strided_slice
from borderless.engine.signal import Signal
from borderless.engine.tiles import is_constant, periods, ranges_of, tile

# How many cells beyond its own an interpolated value may read, on each side.
_HALO = {"nearest": 0, "nearest-exact": 0, "area": 0, "linear": 1, "bilinear": 1, "trilinear": 1, "bicubic": 2}


def _need_of_interpolation(
    function: Any,
    signal: Signal,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Declared:
    frame, scales = _frame_after(signal, size, scale_factor), _scales(signal, scale_factor)
    factors = None if align_corners else _whole_factors(signal, frame, scales)
    if factors is not None:
        return Need("resampled", tuple(Interpolation(f, _HALO[mode]) for f in factors))
    if signal.keeps("known") and not signal.has_original_padding:
        steps = None if align_corners else _steps(signal, frame, scales, recompute_scale_factor, mode)
        if steps is None:
            return "everything"
        if mode in NEAREST:
            return slides_of(_slices_of_nearest(steps, mode, frame), signal.frame)
        return _read_by_steps(signal, steps, mode, antialias, frame)
    if antialias or mode not in MODES:
        return "everything"
    given = [None] * len(frame) if scales is None or recompute_scale_factor else scales
    sizes = zip(signal.frame, frame, given, strict=True)
    corners = bool(align_corners)
    return Need("resampled", tuple(resize(n, out, scale, mode, corners, signal.dtype) for n, out, scale in sizes))


@rule(F.interpolate, needs=_need_of_interpolation)
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
    frame, scales = _frame_after(signal, size, scale_factor), _scales(signal, scale_factor)
    factors = _whole_factors(signal, frame, scales)
    steps = _steps(signal, frame, scales, recompute_scale_factor, mode)
    given = {"size": size, "scale_factor": scale_factor, "recompute_scale_factor": recompute_scale_factor}
    options = {"mode": mode, "align_corners": align_corners, "antialias": antialias}
    if signal.keeps("known") and signal.has_original_padding and (align_corners or factors is None):
        return _resized(function, signal, frame, given | options)
    if factors is not None and set(factors) == {1}:
        return signal.derive(signal.window.clone(), signal.background)
    if factors is not None and not align_corners:
        return _upsample(function, signal, factors, mode, frame)
    if steps is not None and max(steps) > 1 and not align_corners:
        if mode in NEAREST:
            return strided_slice(signal, _slices_of_nearest(steps, mode, frame))
        return _downsample(function, signal, steps, frame, options, given)
    reason = f"from {signal.frame} to {frame} cells is no whole factor, so a cell's weight depends on its position"
    if align_corners:
        reason = "with aligned corners a cell's weight depends on its position"
    signal.scope.reads_position(describe(function), reason, signal.frame)
    return function(signal.window if signal.border.is_own else signal.crop(), **given, **options)


def _resized(function: Any, signal: Signal, frame: tuple[int, ...], options: dict[str, Any]) -> Signal:
    """Return the outputs that a part of the map decides, under the model's original padding."""
    need = _need_of_interpolation(function, signal, **options)
    taps = need.slides if isinstance(need, Need) else ()
    outputs, cells = signal.kept(taps), signal.window
    for axis, tap, (start, _), wanted in zip(signal.axes, taps, signal.box, outputs, strict=True):
        cells = tap.run(cells, axis, start, wanted)
    return signal.derive(cells, None, box=outputs, frame=frame)


def _whole_factors(signal: Signal, frame: tuple[int, ...], scales: tuple[float, ...] | None) -> tuple[int, ...] | None:
    """Return the whole factor by which each axis grows; None: there are no such."""
    factors = tuple(out // n if out % n == 0 else 0 for out, n in zip(frame, signal.frame, strict=True))
    is_exact = scales is None or all(s == f for s, f in zip(scales, factors, strict=True))
    return factors if all(factors) and is_exact else None


def _steps(
    signal: Signal, frame: tuple[int, ...], scales: tuple[float, ...] | None, recompute: bool | None, mode: str
) -> tuple[int, ...] | None:
    """Return how many cells one cell of the result stands for along each axis, where that is an integer everywhere."""
    if scales is None or recompute or mode == "area":
        divides = all(n % out == 0 for out, n in zip(frame, signal.frame, strict=True))
        steps = tuple(n // out for out, n in zip(frame, signal.frame, strict=True)) if divides else None
    else:
        steps = tuple(round(1 / s) for s in scales)
    if steps is None or 0 in steps or (scales and any(s != 1 / d for s, d in zip(scales, steps, strict=True))):
        return None
    return steps


def _slices_of_nearest(steps: tuple[int, ...], mode: str, frame: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Return the cells that the outputs are, one of `step` each: (start, stop, step) along each axis."""
    return [(d // 2 if mode == "nearest-exact" else 0, d * n, d) for d, n in zip(steps, frame, strict=True)]


def _downsample(
    function: Any,
    signal: Signal,
    steps: tuple[int, ...],
    frame: tuple[int, ...],
    options: dict[str, Any],
    given: dict[str, Any],
) -> Signal:
    """Resize by one over a whole number: an average of the same cells everywhere, a strided operation."""
    mode, antialias = options["mode"], options["antialias"]
    slides = _read_by_steps(signal, steps, mode, antialias, frame)
    planned = plan(signal, slides, function)
    # Cells that no output reads, so that none is at the edge: there PyTorch repeats cells, or counts fewer.
    margins = [-(-max(s.padding, s.kernel - d - s.padding, 0) // d) for s, d in zip(slides, steps, strict=True)]

    def run(cells: Tensor) -> Tensor:
        """Return the outputs of cells from the first that one reads to the last."""
        before = [m * d - s.padding for m, d, s in zip(margins, steps, slides, strict=True)]
        counts = [(n - s.kernel) // d + 1 for n, s, d in zip(cells.shape[2:], slides, steps, strict=True)]
        sizes = [n + 2 * m for n, m in zip(counts, margins, strict=True)]
        after = [d * size - n - b for d, size, n, b in zip(steps, sizes, cells.shape[2:], before, strict=True)]
        cells = pad(cells, signal.axes, [(max(b, 0), max(a, 0)) for b, a in zip(before, after, strict=True)])
        for axis, b, d, size in zip(signal.axes, before, steps, sizes, strict=True):
            cells = cells.narrow(axis, max(-b, 0), d * size)
        smaller = function(cells, size=sizes, **options)
        for axis, m, n in zip(signal.axes, margins, counts, strict=True):
            smaller = smaller.narrow(axis, m, n)
        return smaller

    window = function(planned.window(), **given, **options) if signal.border.is_own else run(planned.cells())
    if antialias and not signal.border.is_own and any(edge.outside == "original" for edge in signal.edges):
        ones = signal.derive(torch.ones_like(signal.window[:, :1]), None)  # at the edge PyTorch weighs fewer cells
        window = window / run(planned._replace(source=ones).cells())
    background = planned.background if planned.is_constant_around else planned.response(run)
    result = planned.result(window, background)
    signal.scope.observe(function, result, 0, planned.slides, signal.frame)
    return result


def _read_by_steps(
    signal: Signal, steps: tuple[int, ...], mode: str, antialias: bool, frame: tuple[int, ...]
) -> tuple[Slide, ...]:
    axes = zip(steps, signal.frame, frame, strict=True)
    return tuple(_read_by_step(d, mode, antialias, n, out) for d, n, out in axes)


def _read_by_step(step: int, mode: str, antialias: bool, n: int, out: int) -> Slide:
    """Return the cells that an output reads, which lie around the middle of `step` cells."""
    if mode == "area" or step == 1:
        kernel = step
    elif antialias:
        kernel = 2 * _HALO[mode] * step - step % 2
    else:  # in the middle of an odd number of cells lies one
        kernel = 1 if step % 2 else 2 * _HALO[mode]
    before = (kernel - step) // 2
    return Slide(kernel, step, before, step * (out - 1) + kernel - before - n)


def _upsample(function: Any, signal: Signal, factor: tuple[int, ...], mode: str, frame: tuple[int, ...]) -> Signal:
    halo, axes = _HALO[mode], signal.axes
    options = {} if halo == 0 else {"align_corners": False}
    operations = signal.directed([Interpolation(f, halo) for f in factor])
    delays = [operation.delay for operation in operations]

    def run(cells: Tensor, first_cell: Sequence[int], wanted: Box) -> Tensor:
        """Return the outputs of `wanted`; `cells`, from the frame index `first_cell` on, holds all that they read."""
        larger = function(cells, scale_factor=[float(f) for f in factor], mode=mode, **options)
        starts = [f * a + d for f, a, d in zip(factor, first_cell, delays, strict=True)]
        return cut_to(larger, axes, starts, wanted, None)

    outputs = signal.kept(operations)
    if any(a >= b for a, b in outputs):
        raise nothing_left(signal, describe(function))
    background = signal.background
    if background is not None and not is_constant(background, axes):
        counts = periods(background, axes)
        patch = tile(background, axes, tuple(range(-halo, p + halo) for p in counts), dense=True)
        pattern = tuple((0, f * p) for f, p in zip(factor, counts, strict=True))
        background = run(patch, [-halo] * len(axes), pattern)
    if signal.has_original_padding or halo == 0 or signal.keeps("inside"):
        window = run(signal.window, signal.start, outputs)
    else:
        around = tuple([_around(*one, halo) for one in zip(signal.edges, signal.box, operations, outputs, strict=True)])
        window = run(signal.read_deviation(around, "replicate"), [a for a, _ in around], outputs)
        window = window if background is None else window + tile(background, axes, ranges_of(outputs))
    reads = zip(signal.field, factor, delays, strict=True)
    field = tuple(renumbered(interpolated(f, by, halo), delay) for f, by, delay in reads)
    result = on_finer_lattice(signal, factor, window, background, outputs, frame, field)
    signal.scope.observe(function, result, 0)
    return result


def _around(edge: AxisEdge, stored: Interval, operation: Interpolation, outputs: Interval, halo: int) -> Interval:
    """Return the cells of an axis to read, so that PyTorch repeats none at their ends for `outputs`."""
    if edge.keeps == "inside" or (edge.is_original and edge.keeps == "frame"):  # or repeats what lies there anyway
        return stored
    a, b = stored[0] - halo, stored[1] + halo
    if edge.keeps == "known" or edge.is_causal:
        first, stop = operation.needed(outputs)
        a, b = max(a, first), min(b, stop)
    return a, b


def _frame_after(signal: Signal, size: Any, scale_factor: Any) -> tuple[int, ...]:
    count = len(signal.axes)
    if size is not None:
        return per_axis(size, count)
    return tuple(int(n * s) for n, s in zip(signal.frame, _scales(signal, scale_factor) or (), strict=True))


def _scales(signal: Signal, scale_factor: Any) -> tuple[float, ...] | None:
    if scale_factor is None:
        return None
    values = scale_factor if isinstance(scale_factor, Sequence) else (scale_factor,)
    values = tuple(float(v) for v in values)
    return values * len(signal.axes) if len(values) == 1 else values
