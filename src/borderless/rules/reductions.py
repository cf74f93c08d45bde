"""Reductions: over space, over channels, or over both.

Over space an endless plane has no sum, but it has a sum of deviations from the background. Under `infinite` the mean is
Σ(window - background) / frame count + background, so a small object in a large frame gives the unmodified model's
value; a maximum includes the background; spreads (norm, variance) are the window's. Under every other border a
reduction runs over the window, as in the paper.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from borderless.rules.pointwise import elementwise
from borderless.rules.registry import describe, named, rule
from borderless.signal import Signal


@rule(*named("mean", "sum", "amax", "amin", "norm", "vector_norm", "std", "var", "var_mean", "std_mean"))
def reduction(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Any:
    dims, keepdim, args, kwargs = _arguments(function, signal, args, kwargs)
    spatial = tuple(d for d in dims if d in signal.axes)
    others = tuple(d for d in dims if d not in signal.axes)
    if not spatial:
        return _over_channels(function, signal, others, keepdim, args, kwargs)
    name = function.__name__
    if name in ("mean", "sum"):
        reduced = _linear(signal, spatial, divide=name == "mean")
    elif len(spatial) < len(signal.axes):
        raise signal.scope.unsupported(describe(function), "it runs over some spatial axes and not over others")
    elif name in ("amax", "amin"):
        reduced = function(signal.window, dim=spatial, keepdim=True)
        if signal.background is not None:
            around = function(signal.background, dim=spatial, keepdim=True)
            reduced = (torch.maximum if name == "amax" else torch.minimum)(reduced, around)
    else:
        return function(signal.window, *args, dim=dims, keepdim=keepdim, **kwargs)
    if others:
        reduced = function(reduced, dim=others, keepdim=True)
    return reduced if keepdim else reduced.squeeze(dims)


def mean_over_space(signal: Signal) -> Tensor:
    """Mean over all of space, (N, C, 1…)."""
    return _linear(signal, signal.axes, divide=True)


def _linear(signal: Signal, axes: tuple[int, ...], *, divide: bool) -> Any:
    """Mean or sum over the dimensions `axes`, kept at size 1: a tensor, or a Signal where a spatial axis is left."""
    background = signal.background
    if background is None:
        total = signal.window.mean(axes, keepdim=True) if divide else signal.window.sum(axes, keepdim=True)
    else:
        count = prod(signal.frame[signal.axes.index(axis)] for axis in axes)
        total = signal.deviation().sum(axes, keepdim=True)
        background = background.mean(axes, keepdim=True)
        total, background = (total / count, background) if divide else (total, background * count)
        total = total + background
    return total if len(axes) == len(signal.axes) else _line(signal, total, background, axes)


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


def _over_channels(
    function: Any, signal: Signal, dims: tuple[int, ...], keepdim: bool, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    if 0 in dims:
        raise signal.scope.unsupported(describe(function), "it runs over the batch and not over space")

    def apply(cells: Tensor) -> Any:
        return function(cells, *args, dim=dims, keepdim=keepdim, **kwargs)

    axes = signal.axes if keepdim else tuple(axis - sum(d < axis for d in dims) for axis in signal.axes)
    windows = apply(signal.window)
    backgrounds = None if signal.background is None else apply(signal.background)
    if not isinstance(windows, tuple):
        return signal.derive(windows, backgrounds, axes=axes)
    parts = backgrounds or (None,) * len(windows)
    return tuple(signal.derive(w, b, axes=axes) for w, b in zip(windows, parts, strict=True))


def _arguments(
    function: Any, signal: Signal, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[int, ...], bool, tuple[Any, ...], dict[str, Any]]:
    """The dimensions, keepdim, and what is left of the arguments."""
    name, rest, options = function.__name__, list(args), dict(kwargs)
    leading: list[Any] = []
    if name in ("norm", "vector_norm"):
        order = options.pop("p", options.pop("ord", None))
        leading = [rest.pop(0) if rest else (2 if order is None else order)]
    dim = options.pop("dim", options.pop("axis", None))
    if dim is None and rest:
        dim = rest.pop(0)
    keepdim = bool(options.pop("keepdim", rest.pop(0) if rest and name not in ("std", "var") else False))
    if rest:
        raise signal.scope.unsupported(describe(function), f"it was called with {len(args)} positional arguments")
    if dim is None or (isinstance(dim, list | tuple) and not dim):
        dims = tuple(range(signal.ndim))
    else:
        dims = tuple(sorted(d % signal.ndim for d in ((dim,) if isinstance(dim, int) else dim)))
    return dims, keepdim, tuple(leading), options


@rule(*named("max", "min"))
def extremum(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Any:
    """max and min: of two maps, over everything, or along the channels (with indices)."""
    other = args[0] if args else kwargs.get("other")
    if isinstance(other, Tensor):
        return elementwise(torch.maximum if function.__name__ == "max" else torch.minimum, signal, other)
    over = torch.Tensor.amax if function.__name__ == "max" else torch.Tensor.amin
    dim = args[0] if args else kwargs.get("dim")
    if dim is None:
        return reduction(over, signal)
    if dim % signal.ndim in signal.axes:
        raise signal.scope.unsupported(describe(function), "indices of maxima over space are absolute positions")
    keepdim = bool(args[1] if len(args) > 1 else kwargs.get("keepdim", False))
    return _over_channels(
        lambda cells, dim, keepdim: tuple(function(cells, dim[0], keepdim)),
        signal,
        (dim % signal.ndim,),
        keepdim,
        (),
        {},
    )


@rule(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
def adaptive_average_pool(function: Any, signal: Signal, output_size: Any) -> Any:
    return _adaptive(function, signal, output_size, lambda: mean_over_space(signal))


@rule(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)
def adaptive_max_pool(function: Any, signal: Signal, output_size: Any, return_indices: bool = False) -> Any:
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
        return function(signal.window, sizes)
    if sizes == signal.frame:
        return signal
    grid = " × ".join(map(str, sizes))
    signal.scope.reads_position(describe(function), f"it pools a map of {signal.frame} cells to a grid of {grid}")
    return function(signal.window if signal.border.keeps == "inside" else signal.crop(), sizes)
