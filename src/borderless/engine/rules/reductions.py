"""Reductions: over space, over channels, or over both.

Over space an unlimited plane has no sum, but it has a sum of deviations from the background. Under `infinite` the mean
is Σ(window - background) / count + background, where `Border.count` says what is counted: the cells of the frame, so
that a small object in a large frame gives the unmodified model's value, or those of the window that the content of a
full frame fills. A sum is the mean times the cells of the frame. A maximum includes the background; norms and variances
are the window's, a patterned background counted by its period (`statistics`). Under every other border a reduction runs
over the window, as in the paper.
"""

import warnings
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from borderless.engine.geometry import filled_box
from borderless.engine.naming import describe, named
from borderless.engine.registry import Gather, Need, rule
from borderless.engine.rules.pointwise import along_channels, elementwise
from borderless.engine.rules.spread_maps import has_values
from borderless.engine.rules.statistics import mean_of, moments
from borderless.engine.signal import Signal
from borderless.engine.tiles import is_constant
from borderless.errors import RoundingWarning

# A mean that is this many times larger than all that it averages is none, and the layers after it lose digits.
_TOO_LARGE = 16
_NORMS = ("norm", "vector_norm")
_SPREADS = ("std", "var", "std_mean", "var_mean")


def _need_of_reduction(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Need:
    dims = _arguments(function, signal, args, kwargs).dims
    over = tuple(axis for axis in signal.axes if axis in dims)
    return Need("everything", over=over) if over else Need("channels")


def _gather(function: Any) -> Gather | None:
    name = function.__name__
    return "max" if name == "amax" else name if name in ("mean", "sum") else None


@rule(*named("mean", "sum", "amax", "amin", *_NORMS, *_SPREADS), needs=_need_of_reduction, gathers=_gather)
def reduction(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Any:
    """Reduce over the dimensions that PyTorch would, under its own names for the arguments."""
    asked = _arguments(function, signal, args, kwargs)
    spatial = tuple(d for d in asked.dims if d in signal.axes)
    others = tuple(d for d in asked.dims if d not in signal.axes)
    name = _name(function)
    if not spatial:
        return _over_channels(function, signal, others, asked.keepdim, asked.options)
    signal.check_gradients()
    if name not in ("mean", "sum") and len(spatial) < len(signal.axes):
        raise signal.scope.unsupported(describe(function), "it runs over some spatial axes and not over others")
    if name in _NORMS or name in _SPREADS:
        signal.scope.averages("window", function, signal)
        reduced = _spread(function, signal, asked)
    elif name in ("mean", "sum"):
        reduced = _linear(function, signal, spatial, asked.options.get("dtype"))
        reduced = function(reduced, dim=others, keepdim=True) if others else reduced
    else:
        reduced = _extreme(function, signal, spatial)
        reduced = function(reduced, dim=others, keepdim=True) if others else reduced
    if asked.keepdim:
        return reduced
    if isinstance(reduced, tuple):
        return tuple(part.squeeze(asked.dims) for part in reduced)
    return reduced.squeeze(asked.dims)


def mean_over_space(function: Any, signal: Signal) -> Tensor:
    """Return the mean over all of space, (N, C, 1…)."""
    signal.check_gradients()
    return _linear(function, signal, signal.axes, None, divide=True)


def _linear(
    function: Any, signal: Signal, axes: tuple[int, ...], dtype: torch.dtype | None, *, divide: bool | None = None
) -> Any:
    """Mean or sum over the dimensions `axes`, kept at size 1: a tensor, or a Signal where a spatial axis is left."""
    background, window = signal.background, signal.window
    divide = function.__name__ == "mean" if divide is None else divide
    if background is None:
        total = (window.mean if divide else window.sum)(axes, keepdim=True, dtype=dtype)
    else:
        if dtype is None and not window.dtype.is_floating_point:  # booleans and integers: PyTorch sums them as integers
            dtype = torch.int64
        deviation = signal.deviation() if dtype is None else signal.window.to(dtype) - signal.around_window().to(dtype)
        frame = prod(signal.frame[signal.axes.index(axis)] for axis in axes)
        count: float = frame
        signal.scope.averages("mean", function, signal)
        if signal.border.count == "window":
            signal.scope.averages("window", function, signal)
            over = [signal.axes.index(axis) for axis in axes]
            count = filled_box(tuple(signal.box[i] for i in over), [signal.frame[i] for i in over])
        total = deviation.sum(axes, keepdim=True)
        if count == frame:
            _check_rounding(function, signal, deviation, total, count)
        background = background.to(total.dtype)
        if divide:
            background = background.mean(axes, keepdim=True)
            total = total / count + background
        else:
            background = background.sum(axes, keepdim=True) * frame / prod(background.shape[axis] for axis in axes)
            total = (total if count == frame else total * (frame / count)) + background
            total, background = (t if dtype is None else t.to(dtype) for t in (total, background))
    return total if len(axes) == len(signal.axes) else _line(signal, total, background, axes)


def _check_rounding(function: Any, signal: Signal, deviation: Tensor, total: Tensor, count: float) -> None:
    """Warn where a window far larger than its frame makes a mean many times larger than what it averages."""
    if deviation[0, 0].numel() < _TOO_LARGE * count or not has_values(deviation):
        return
    with torch.no_grad():
        ratio = float(total.abs().amax() / count / deviation.abs().amax().clamp_min(torch.finfo(total.dtype).tiny))
    where = signal.scope.describe_module()
    if ratio > _TOO_LARGE and f"rounding {where}" not in signal.scope.warned:
        signal.scope.warned.add(f"rounding {where}")
        warnings.warn(
            f"Expected a mean over space within the range of its feature map but got one {ratio:.0f} times as large in "
            f"{describe(function)} in {where}: the content fills a window of {tuple(b - a for a, b in signal.box)} "
            f"cells, and the sum over it is divided by the frame's {signal.frame}. Later layers lose digits to "
            "rounding. Use bl.Border('infinite', count='window'), a reach, or a larger canvas around small objects",
            RoundingWarning,
            stacklevel=2,
        )


def _extreme(function: Any, signal: Signal, axes: tuple[int, ...]) -> Tensor:
    reduced = function(signal.window, dim=axes, keepdim=True)
    if signal.background is not None:
        around = function(signal.background, dim=axes, keepdim=True)
        reduced = (torch.maximum if function.__name__ == "amax" else torch.minimum)(reduced, around)
    return reduced


def _spread(function: Any, signal: Signal, asked: "_Asked") -> Any:
    """A norm or a variance of the window, with the dimensions `asked.dims` kept at size 1."""
    background, axes, dims = signal.background, signal.axes, asked.dims
    if background is None or is_constant(background, axes):
        return function(signal.window, dim=dims, keepdim=True, **asked.options)
    where = (signal.window, background, axes, signal.box, dims)
    count = prod(signal.window.shape[d] for d in dims)
    name = _name(function)
    if name in _SPREADS:
        mean, var = moments(*where)
        var = var * (count / max(0, count - asked.options.get("correction", 1)))
        spread = var if name.startswith("var") else var.sqrt()
        spread, mean = spread.to(signal.window.dtype), mean.to(signal.window.dtype)
        return (spread, mean) if name.endswith("_mean") else spread
    order = asked.options.get("p", asked.options.get("ord", 2))
    if order in (float("inf"), float("-inf")):
        return _extreme(
            torch.amax if order > 0 else torch.amin, signal.derive(signal.window.abs(), background.abs()), dims
        )
    if not isinstance(order, int | float) and order != "fro":
        raise signal.scope.unsupported(describe(function), f"it is a norm of order {order!r}")
    power = 2 if order == "fro" else order
    total = mean_of(lambda cells: cells.abs().pow(power), *where) * count
    return total.clamp_min(0).pow(1 / power)


def _line(signal: Signal, window: Tensor, background: Tensor | None, axes: Sequence[int]) -> Signal:
    """What is left of a map after the dimensions `axes` were summed to size 1: a Signal along the other axes."""
    left = [i for i, axis in enumerate(signal.axes) if axis not in axes]
    lattice = signal.lattice
    for i in reversed(range(len(signal.axes))):
        if i not in left:
            if lattice.offset is not None:
                raise signal.scope.unsupported("a mean over one spatial axis", "the phase is adaptive")
            lattice = lattice.without(i)
    return signal.derive(
        window,
        background,
        box=tuple(signal.box[i] for i in left),
        frame=tuple(signal.frame[i] for i in left),
        axes=tuple(signal.axes[i] for i in left),
        lattice=lattice,
        field=tuple(signal.field[i] for i in left),
    )


def _over_channels(function: Any, signal: Signal, dims: tuple[int, ...], keepdim: bool, options: dict[str, Any]) -> Any:
    if 0 in dims:
        raise signal.scope.unsupported(describe(function), "it runs over the batch and not over space")

    def apply(cells: Tensor) -> Any:
        return function(cells, dim=dims, keepdim=keepdim, **options)

    axes = signal.axes if keepdim else tuple(axis - sum(d < axis for d in dims) for axis in signal.axes)
    windows = apply(signal.window)
    backgrounds = None if signal.background is None else apply(signal.background)
    if not isinstance(windows, tuple):
        return signal.derive(windows, backgrounds, axes=axes)
    parts = backgrounds or (None,) * len(windows)
    return tuple(signal.derive(w, b, axes=axes) for w, b in zip(windows, parts, strict=True))


def _name(function: Any) -> str:
    return function.__name__.removeprefix("linalg_")


class _Asked(NamedTuple):
    """What a reduction was asked for: sorted dimensions, keepdim, and the other arguments by their names."""

    dims: tuple[int, ...]
    keepdim: bool
    options: dict[str, Any]


def _arguments(function: Any, signal: Signal, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Asked:
    name, options = _name(function), dict(kwargs)
    if name in _SPREADS:
        if args and isinstance(args[0], bool):  # std(unbiased)
            args = (None, *args)
        order = ("dim", "unbiased", "keepdim")
    elif name in _NORMS:
        is_linalg = function.__name__.startswith("linalg_")
        order = ("ord" if is_linalg else "p", "dim", "keepdim", "out", "dtype")
    else:
        order = ("dim", "keepdim")
    if len(args) > len(order):
        raise signal.scope.unsupported(describe(function), f"it was called with {len(args)} positional arguments")
    options |= dict(zip(order, args, strict=False))
    options.pop("out", None)
    dim, keepdim = options.pop("dim", None), bool(options.pop("keepdim", False))
    if name in _SPREADS:
        unbiased, correction = options.pop("unbiased", True), options.pop("correction", None)
        options["correction"] = float(unbiased) if correction is None else correction
    if dim is None or (isinstance(dim, list | tuple) and not dim):
        dims = range(signal.ndim)
    else:
        dims = sorted(d % signal.ndim for d in ((dim,) if isinstance(dim, int) else dim))
    if function.__name__ == "linalg_norm" and len(dims) == 2 and options.get("ord") not in (None, "fro"):
        raise signal.scope.unsupported(describe(function), f"it is a matrix norm of order {options['ord']!r}")
    return _Asked(tuple(dims), keepdim, {key: value for key, value in options.items() if value is not None})


def _need_of_extremum(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Need:
    if isinstance(args[0] if args else kwargs.get("other"), Tensor):
        return Need("cell")
    return _need_of_reduction(torch.Tensor.amax, signal, *args, **kwargs)


@rule(*named("max", "min"), needs=_need_of_extremum)
def extremum(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Any:
    """Take maxima or minima: of two maps, over everything, or along the channels (with indices)."""
    other = args[0] if args else kwargs.get("other")
    if isinstance(other, Tensor):
        return elementwise(torch.maximum if function.__name__ == "max" else torch.minimum, signal, other)
    over = torch.Tensor.amax if function.__name__ == "max" else torch.Tensor.amin
    asked = _arguments(over, signal, args, kwargs)
    if len(asked.dims) == signal.ndim:
        return reduction(over, signal)
    if asked.dims[0] in signal.axes:
        raise signal.scope.unsupported(describe(function), "indices of maxima over space are absolute positions")
    return along_channels(function, signal, *args, **kwargs)


def _need_of_adaptive_pool(function: Any, signal: Signal, output_size: Any, return_indices: bool = False) -> Need:
    sizes = output_size if isinstance(output_size, list | tuple) else (output_size,) * len(signal.axes)
    return Need("everything", over=tuple(axis for axis, n in zip(signal.axes, sizes, strict=True) if n is not None))


@rule(
    *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
    needs=_need_of_adaptive_pool,
    gathers="mean",
)
def adaptive_average_pool(function: Any, signal: Signal, output_size: Any) -> Any:
    """Average over all of space; other grids read absolute position."""
    return _adaptive(function, signal, output_size, lambda: mean_over_space(function, signal))


@rule(
    *(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
    needs=_need_of_adaptive_pool,
    gathers="max",
)
def adaptive_max_pool(function: Any, signal: Signal, output_size: Any, return_indices: bool = False) -> Any:
    """Take the maximum over all of space; other grids read absolute position."""
    if return_indices:
        raise signal.scope.unsupported(describe(function), "indices of maxima are absolute positions")
    return _adaptive(
        function, signal, output_size, lambda: reduction(torch.Tensor.amax, signal, dim=signal.axes, keepdim=True)
    )


def _adaptive(function: Any, signal: Signal, output_size: Any, global_pool: Any) -> Any:
    count = len(signal.axes)
    sizes = (output_size,) * count if isinstance(output_size, int) else tuple(output_size)
    sizes = tuple(n if size is None else size for size, n in zip(sizes, signal.frame, strict=True))
    if set(sizes) == {1} and not signal.border.is_own:
        return global_pool()
    if set(sizes) == {1}:
        signal.check_gradients()
        return function(signal.window, sizes)
    if sizes == signal.frame:
        return signal
    grid = " × ".join(map(str, sizes))
    signal.scope.reads_position(describe(function), f"it pools a map of {signal.frame} cells to a grid of {grid}")
    return function(signal.window if signal.border.keeps == "inside" else signal.crop(), sizes)
