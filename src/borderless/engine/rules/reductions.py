"""Reductions: over space, over channels, or over both.

Over space an unlimited plane has no sum, but it has a sum of deviations from the background. Under `infinite` the mean
is Σ(window - background) / count + background, where `Border.count` says what is counted: the cells of the frame, so
that a small object in a large frame gives the unmodified model's value, or those of the window that the content of a
full frame fills. A sum is the mean times the cells of the frame. Norms and variances are the window's, a patterned
background counted by its period (`statistics`). Under every other border a reduction runs over the window, as in the
paper. Over one of several spatial axes a line is left, which joins the map again (`joining`).
"""

import warnings
from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from borderless.engine.geometry import Box, filled_box
from borderless.engine.naming import describe, named
from borderless.engine.registry import rule
from borderless.engine.rules.reduced import (
    NORMS,
    SPREADS,
    Asked,
    asked_of,
    extreme_of,
    line_of,
    name_of,
    natively,
    need_of_reduction,
    over_channels,
    reduction_seen,
)
from borderless.engine.rules.spread_maps import has_values
from borderless.engine.rules.statistics import (
    cells_of_whole,
    for_each_sample,
    mean_of,
    moments,
    moments_of_whole,
    sum_of_whole,
)
from borderless.engine.signal import Signal
from borderless.engine.tiles import is_constant, ranges_of, tile
from borderless.errors import RoundingWarning

# A mean that is this many times larger than all that it averages is none, and the layers after it lose digits.
_TOO_LARGE = 16


@rule(
    *named("mean", "sum", *NORMS, *SPREADS),
    needs=need_of_reduction,
    gathers=lambda function: function.__name__ if function.__name__ in ("mean", "sum") else None,
    dims=reduction_seen,
)
def reduction(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Any:
    """Reduce over the dimensions that PyTorch would, under its own names for the arguments."""
    asked = asked_of(function, signal, args, kwargs)
    spatial = tuple(d for d in asked.dims if d in signal.axes)
    others = tuple(d for d in asked.dims if d not in signal.axes)
    if not spatial:
        return over_channels(function, signal, others, asked.keepdim, asked.options)
    if 0 in asked.dims:
        signal.scope.mixes_rows(function)
    if signal.border.is_own:
        return natively(function, signal, asked, args, kwargs)
    signal.check_gradients()
    if function.__name__ not in ("mean", "sum"):
        signal.scope.averages("window", function, signal)
        reduced = _spread(function, signal, asked, spatial)
    else:
        reduced = _linear(function, signal, spatial, asked.options.get("dtype"))
        reduced = function(reduced, dim=others, keepdim=True) if others else reduced
    if asked.keepdim:
        return reduced
    if isinstance(reduced, tuple):
        return tuple(part.squeeze(asked.dims) for part in reduced)
    return reduced.squeeze(asked.dims)


def mean_over_space(function: Any, signal: Signal, axes: tuple[int, ...] | None = None) -> Any:
    """Return the mean over all of space, (N, C, 1…), or the line that the mean over some `axes` leaves."""
    signal.check_gradients()
    return _linear(function, signal, signal.axes if axes is None else axes, None, divide=True)


def _linear(
    function: Any, signal: Signal, axes: tuple[int, ...], dtype: torch.dtype | None, *, divide: bool | None = None
) -> Any:
    """Mean or sum over the dimensions `axes`, kept at size 1: a tensor, or a Signal where a spatial axis is left."""
    background, window = signal.background, signal.window
    divide = function.__name__ == "mean" if divide is None else divide
    if background is None and signal.is_gathered:
        total = sum_of_whole(signal, window, axes, dtype)
        total = total / cells_of_whole(signal, axes) if divide else total
    elif background is None:
        total = (window.mean if divide else window.sum)(axes, keepdim=True, dtype=dtype)
    else:
        if dtype is None and not window.dtype.is_floating_point:  # booleans and integers: PyTorch sums them as integers
            dtype = torch.int64
        deviation = signal.deviation() if dtype is None else signal.window.to(dtype) - signal.around_window().to(dtype)
        frame, count = counted_cells(function, signal, axes)
        total = sum_of_whole(signal, deviation, axes) if signal.is_gathered else deviation.sum(axes, keepdim=True)
        if signal.border.count == "frame" and not signal.is_gathered:
            _check_rounding(function, signal, deviation, total, count)
        background = background.to(total.dtype)
        left = [i for i, axis in enumerate(signal.axes) if axis not in axes]
        if divide:
            background, total = background.mean(axes, keepdim=True), total / count
        else:
            background = background.sum(axes, keepdim=True) * frame / prod(background.shape[axis] for axis in axes)
            total = total if count is frame else total * (frame / count)
        cells = ranges_of(tuple(signal.box[i] for i in left))
        total = total + tile(background, [signal.axes[i] for i in left], cells)
        total, background = (t if dtype is None else t.to(dtype) for t in (total, background))
    return total if len(axes) == len(signal.axes) else line_of(signal, total, background, axes)


def counted_cells(function: Any, signal: Signal, axes: Sequence[int]) -> tuple[Any, Any]:
    """Return how many cells the frame has along `axes`, and by how many a sum of deviations is divided for a mean.

    Numbers, or tensors with one for each sample; the same object where they are the same.
    """
    over = [signal.axes.index(axis) for axis in axes]

    def sizes(frame: tuple[int, ...], box: Box) -> list[int]:
        """Return the cells of the frame along each axis; those that are left where a border pads nothing."""
        ends = ((i, *box[i]) for i in over)
        return [b - a if signal.whole_edges[i].keeps == "inside" else frame[i] for i, a, b in ends]

    frame = for_each_sample(signal, lambda frame, box: prod(sizes(frame, box)), signal.ndim)
    signal.scope.averages("mean", function, signal)
    if signal.border.count != "window":
        return frame, frame
    signal.scope.averages("window", function, signal)

    def filled(frame: tuple[int, ...], box: Box) -> float:
        return filled_box(tuple(box[i] for i in over), sizes(frame, box))

    return frame, for_each_sample(signal, filled, signal.ndim)


def _check_rounding(function: Any, signal: Signal, deviation: Tensor, total: Tensor, count: float) -> None:
    """Warn where a window far larger than its frame makes a mean many times larger than what it averages."""
    if deviation[0, 0].numel() < _TOO_LARGE * count or not has_values(deviation):
        return
    with torch.no_grad():
        ratio = float(total.abs().amax() / count / deviation.abs().amax().clamp_min(torch.finfo(total.dtype).tiny))
    if ratio > _TOO_LARGE and f"rounding {(where := signal.scope.describe_module())}" not in signal.scope.warned:
        signal.scope.warned.add(f"rounding {where}")
        warnings.warn(
            f"Expected a mean over space within the range of its feature map but got one {ratio:.0f} times as large in "
            f"{describe(function)} in {where}: the content fills a window of {tuple(b - a for a, b in signal.box)} "
            f"cells, and the sum over it is divided by the frame's {signal.frame}. Later layers lose digits to "
            "rounding. Use bl.Border('infinite', count='window'), a reach, or a larger canvas around small objects",
            RoundingWarning,
            stacklevel=2,
        )


def _spread(function: Any, signal: Signal, asked: Asked, spatial: tuple[int, ...]) -> Any:
    """Return a norm or a variance of the window, with the dimensions `asked.dims` kept at size 1."""
    background, axes, dims = signal.background, signal.axes, asked.dims

    def run(cells: Tensor) -> Any:
        return function(cells, dim=dims, keepdim=True, **asked.options)

    if len(spatial) < len(axes):
        if background is not None and not is_constant(background, axes):
            raise signal.scope.unsupported(
                describe(function),
                "it runs over one spatial axis of a map with a pattern around it. Write it over all of space, or as a "
                "mean of squares",
            )
        if background is not None:  # as many cells of it as the window has
            sizes = [signal.window.shape[d] if d in spatial else -1 for d in range(signal.ndim)]
            background = background.expand(sizes)
        window, around = run(signal.window), None if background is None else run(background)
        if not isinstance(window, tuple):
            return line_of(signal, window, around, spatial)
        parts = around or (None,) * len(window)
        return tuple(line_of(signal, *part, spatial) for part in zip(window, parts, strict=True))
    if signal.is_gathered:
        return _spread_of_parts(function, signal, asked)
    if background is None or is_constant(background, axes):
        return run(signal.window)
    where = (signal.window, background, axes, signal.box, dims)
    count = prod(signal.window.shape[d] for d in dims)
    name = name_of(function)
    if name in SPREADS:
        mean, var = moments(*where)
        var = var * (count / max(0, count - asked.options.get("correction", 1)))
        spread = var if name.startswith("var") else var.sqrt()
        spread, mean = spread.to(signal.window.dtype), mean.to(signal.window.dtype)
        return (spread, mean) if name.endswith("_mean") else spread
    order = asked.options.get("p", asked.options.get("ord", 2))
    if order in (float("inf"), float("-inf")):
        largest = signal.derive(signal.window.abs(), background.abs())
        return extreme_of(torch.amax if order > 0 else torch.amin, largest, dims)
    if not isinstance(order, int | float) and order != "fro":
        raise signal.scope.unsupported(describe(function), f"it is a norm of order {order!r}")
    power = 2 if order == "fro" else order
    total = mean_of(lambda cells: cells.abs().pow(power), *where) * count
    return total.clamp_min(0).pow(1 / power)


def _spread_of_parts(function: Any, signal: Signal, asked: Asked) -> Any:
    """Return the same for a map that comes in parts, whose background is constant."""
    name, dims, cells = name_of(function), asked.dims, signal.window
    if name in NORMS:
        order = asked.options.get("p", asked.options.get("ord", 2))
        power = 2 if order == "fro" else order
        return sum_of_whole(signal, cells.abs().pow(power), dims).pow(1 / power)
    mean, var = moments_of_whole(signal, cells, dims)
    count = cells_of_whole(signal, dims)
    rest = count - asked.options.get("correction", 1)
    var = var * (count / (rest.clamp_min(0) if isinstance(rest, Tensor) else max(0, rest)))
    spread, mean = (var if name.startswith("var") else var.sqrt()).to(cells.dtype), mean.to(cells.dtype)
    return (spread, mean) if name.endswith("_mean") else spread
