"""Shared parts of reductions: their arguments, and the map that is left after them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from borderless.engine.naming import describe
from borderless.engine.registry import Declared, Need
from borderless.engine.relabeled import Relabeled, on_maps
from borderless.engine.rules.statistics import extreme_of_whole
from borderless.engine.signal import Signal
from borderless.engine.tiles import is_constant, ranges_of, tile

NORMS = ("norm", "vector_norm")
SPREADS = ("std", "var", "std_mean", "var_mean")


class Asked(NamedTuple):
    """The arguments of a reduction: sorted dimensions, keepdim, and the others by their names."""

    dims: tuple[int, ...]
    keepdim: bool
    options: dict[str, Any]


def asked_of(function: Any, signal: Signal, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Asked:
    """Return the arguments of a reduction, as PyTorch reads them."""
    name, options = name_of(function), dict(kwargs)
    if name in SPREADS:
        if args and isinstance(args[0], bool):  # std(unbiased)
            args = (None, *args)
        order = ("dim", "unbiased", "keepdim")
    elif name in NORMS:
        is_linalg = function.__name__.startswith("linalg_")
        order = ("ord" if is_linalg else "p", "dim", "keepdim", "out", "dtype")
    else:
        order = ("dim", "keepdim")
    if len(args) > len(order):
        raise signal.scope.unsupported(describe(function), f"it was called with {len(args)} positional arguments")
    options |= dict(zip(order, args, strict=False))
    options.pop("out", None)
    dim, keepdim = options.pop("dim", None), bool(options.pop("keepdim", False))
    if name in SPREADS:
        unbiased, correction = options.pop("unbiased", True), options.pop("correction", None)
        options["correction"] = float(unbiased) if correction is None else correction
    if dim is None or (isinstance(dim, list | tuple) and not dim):
        dims = range(signal.ndim)
    else:
        dims = sorted(d % signal.ndim for d in ((dim,) if isinstance(dim, int) else dim))
    if function.__name__ == "linalg_norm" and len(dims) == 2 and options.get("ord") not in (None, "fro"):
        raise signal.scope.unsupported(describe(function), f"it is a matrix norm of order {options['ord']!r}")
    return Asked(tuple(dims), keepdim, {key: value for key, value in options.items() if value is not None})


def need_of_reduction(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Declared:
    """Return what a reduction needs: all cells, if it runs over space."""
    asked = asked_of(function, signal, args, kwargs)
    over = set(asked.dims) & set(signal.axes)
    if not over:
        return "channels"
    if over == set(signal.axes) and _is_gathered(function, signal, asked):
        return "gathered"
    return Need("everything", over=tuple(sorted(over)))


def _is_gathered(function: Any, signal: Signal, asked: Asked) -> bool:
    """Return whether the reduction over all of space follows from sums, moments or extremes over its parts."""
    name = name_of(function)
    if name not in NORMS and name not in SPREADS:
        return True
    order = asked.options.get("p", asked.options.get("ord", 2))
    is_power = name in SPREADS or order == "fro" or (isinstance(order, int | float) and 0 < order < float("inf"))
    return is_power and (signal.background is None or is_constant(signal.background, signal.axes))


def name_of(function: Any) -> str:
    """Return the name of a reduction, without that of its module."""
    return function.__name__.removeprefix("linalg_")


def line_of(
    signal: Signal, window: Tensor, background: Tensor | None, dims: Sequence[int], *, keepdim: bool = True
) -> Signal:
    """Return what is left of a map after the dimensions `dims` were reduced: a Signal along the other spatial axes.

    keepdim: whether window and background have the reduced dimensions, at size 1.
    """
    left = [i for i, axis in enumerate(signal.axes) if axis not in dims]
    axes = [signal.axes[i] for i in left]
    return signal.derive(
        window,
        background,
        box=tuple(signal.box[i] for i in left),
        frame=tuple(signal.frame[i] for i in left),
        axes=tuple(axis if keepdim else axis - sum(d < axis for d in dims) for axis in axes),
        lattice=signal.lattice.along(left),
        field=tuple(signal.field[i] for i in left),
    )


def natively(function: Any, signal: Signal, asked: Asked, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the call on the window, as the unmodified model has it: for a border that is the model's own."""
    signal.check_gradients()
    reduced = function(signal.window, *args, **kwargs)
    if set(signal.axes) <= set(asked.dims):
        return reduced
    if isinstance(reduced, Tensor):
        return line_of(signal, reduced, None, asked.dims, keepdim=asked.keepdim)
    lines = [line_of(signal, part, None, asked.dims, keepdim=asked.keepdim) for part in reduced]
    return tuple(lines) if type(reduced) is tuple else type(reduced)(lines)


def reduction_seen(function: Any, source: Relabeled, *args: Any, **kwargs: Any) -> Any:
    """Return a reduction of tokens or of a stack: over all tokens it runs over all of space."""
    asked = asked_of(function, source, args[1:], kwargs)
    if source.tokens in asked.dims and source.border.is_own and source.map.untaped() is source.map:
        source.check_gradients()
        return function(source.window, *args[1:], **kwargs)
    return on_maps(function, source, args, kwargs, ("dim",), runs_over_space=True)


def over_channels(function: Any, signal: Signal, dims: tuple[int, ...], keepdim: bool, options: dict[str, Any]) -> Any:
    """Reduce over dimensions that are not space: each cell by itself."""
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


def extreme_of(function: Any, signal: Signal, dims: tuple[int, ...]) -> Any:
    """Return the extreme of window and background over `dims`, kept at size 1: a tensor, or what is left of the map."""
    if signal.is_gathered:
        reduced = extreme_of_whole(signal, function, dims)
    else:
        reduced = function(signal.window, dim=dims, keepdim=True)
    background = signal.background
    left = [i for i, axis in enumerate(signal.axes) if axis not in dims]
    if background is not None:
        background = function(background, dim=dims, keepdim=True)
        ranges = ranges_of(tuple(signal.box[i] for i in left))
        around = tile(background, [signal.axes[i] for i in left], ranges)
        reduced = _LARGER[function.__name__](reduced, around)
    return line_of(signal, reduced, background, dims) if left else reduced


_LARGER: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "amax": torch.maximum,
    "amin": torch.minimum,
    "any": torch.logical_or,
    "all": torch.logical_and,
}
