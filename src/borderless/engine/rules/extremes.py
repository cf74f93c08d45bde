"""Maxima, minima and questions (`any`, `all`) over space, over channels, or over both. The background counts as a cell.

Which cell it is that has the maximum is an absolute position: see `indices`.
"""

from typing import Any

import torch
from torch import Tensor

from borderless.engine.naming import named
from borderless.engine.registry import Declared, rule
from borderless.engine.relabeled import Relabeled, on_maps
from borderless.engine.rules.indices import Indices
from borderless.engine.rules.pointwise import along_channels, elementwise
from borderless.engine.rules.reduced import (
    Asked,
    asked_of,
    extreme_of,
    natively,
    need_of_reduction,
    over_channels,
    reduction_seen,
)
from borderless.engine.signal import Signal


@rule(
    *named("amax", "amin", "any", "all"),
    needs=need_of_reduction,
    gathers=lambda function: "max" if function.__name__ == "amax" else None,
    dims=reduction_seen,
)
def extreme(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Any:
    """Reduce over the dimensions that PyTorch would."""
    asked = asked_of(function, signal, args, kwargs)
    if not set(asked.dims) & set(signal.axes):
        return over_channels(function, signal, asked.dims, asked.keepdim, asked.options)
    if 0 in asked.dims:
        signal.scope.mixes_rows(function)
    if signal.border.is_own:
        return natively(function, signal, asked, args, kwargs)
    signal.check_gradients()
    reduced = extreme_of(function, signal, asked.dims)
    return reduced if asked.keepdim else reduced.squeeze(asked.dims)


def largest_over_space(signal: Signal, axes: tuple[int, ...] | None = None) -> Any:
    """Return the maximum over all of space, (N, C, 1…), or the line that the maximum over some `axes` leaves."""
    signal.check_gradients()
    return extreme_of(torch.amax, signal, signal.axes if axes is None else axes)


def _need_of_extremum(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Declared:
    if isinstance(args[0] if args else kwargs.get("other"), Tensor):
        return "cell"
    need = need_of_reduction(torch.Tensor.amax, signal, *args, **kwargs)
    has_indices = bool(args) or kwargs.get("dim") is not None  # absolute positions
    return "everything" if need == "gathered" and has_indices else need


def _extremum_seen(function: Any, source: Relabeled, *args: Any, **kwargs: Any) -> Any:
    """Return the extremes of tokens or of a stack: over all tokens they are those of all of space."""
    if isinstance(args[1] if len(args) > 1 else kwargs.get("other"), Tensor):
        return on_maps(function, source, args, kwargs)
    over = torch.amax if function.__name__ == "max" else torch.amin
    asked = asked_of(over, source, args[1:], kwargs)
    if source.tokens not in asked.dims:
        return on_maps(function, source, args, kwargs, ("dim",))
    if source.border.is_own and not source.border.is_adaptive and source.map.untaped() is source.map:
        return reduction_seen(function, source, *args, **kwargs)
    values = reduction_seen(over, source, source, asked.dims, asked.keepdim)
    return values if len(asked.dims) == source.ndim else _with_indices(function, source, values, asked)


@rule(*named("max", "min"), needs=_need_of_extremum, dims=_extremum_seen)
def extremum(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Any:
    """Take maxima or minima: of two maps, over everything, or along one dimension, with indices."""
    other = args[0] if args else kwargs.get("other")
    if isinstance(other, Tensor):
        return elementwise(torch.maximum if function.__name__ == "max" else torch.minimum, signal, other)
    over = torch.amax if function.__name__ == "max" else torch.amin
    asked = asked_of(over, signal, args, kwargs)
    if not set(asked.dims) & set(signal.axes):
        return along_channels(function, signal, *args, **kwargs)
    if signal.border.is_own and not signal.border.is_adaptive:
        return natively(function, signal, asked, args, kwargs)
    values = extreme(over, signal, asked.dims, asked.keepdim)
    return values if len(asked.dims) == signal.ndim else _with_indices(function, signal, values, asked)


def _with_indices(function: Any, signal: Signal, values: Tensor, asked: Asked) -> Any:
    if set(signal.axes) <= set(asked.dims):
        indices = Indices.over_space(
            function, signal, values.shape, lambda cells: function(cells, *asked.dims, asked.keepdim).indices
        )
    else:
        indices = Indices.unknown(function, signal, values.shape)
    return getattr(torch.return_types, function.__name__)((values, indices))


def _aminmax_seen(function: Any, source: Relabeled, *args: Any, **kwargs: Any) -> Any:
    return torch.return_types.aminmax(
        (reduction_seen(torch.amin, source, *args, **kwargs), reduction_seen(torch.amax, source, *args, **kwargs))
    )


@rule(*named("aminmax"), needs=need_of_reduction, dims=_aminmax_seen)
def smallest_and_largest(function: Any, signal: Signal, *, dim: int | None = None, keepdim: bool = False) -> Any:
    """Take minima and maxima at once: over everything, or along one dimension."""
    dims = () if dim is None else (dim,)
    return torch.return_types.aminmax(
        (extreme(torch.amin, signal, dims, keepdim), extreme(torch.amax, signal, dims, keepdim))
    )
