"""Flattening of space: a vector with a weight for each cell reads position, a list of cells leaves the engine."""

from math import prod
from typing import Any

from torch import Tensor

from borderless.engine.leaving import LeftCells
from borderless.engine.naming import describe
from borderless.engine.rules.after_leaving import dims_of_view
from borderless.engine.signal import Signal


def flatten_space(function: Any, signal: Signal, target: tuple[int, ...]) -> Tensor:
    """Return the map on its frame in the shape `target`, which has no spatial axis any more.

    Channels and cells that become the only dimension of a sample are a vector: from there on every cell has weights of
    its own. Anything else is a list of cells.
    """
    dims = dims_of_view(lambda map_: map_.reshape(target), signal.shape, signal.axes)[0]
    samples, cells = signal.shape[0], prod(signal.frame)
    has_channels = signal.shape.numel() > samples * cells
    is_whole = cells == 1 or (has_channels and any(signal.shape.numel() <= target[dim] * samples for dim in dims))
    if is_whole and len(target) <= 2:
        signal.scope.reads_position(
            describe(function),
            f"it flattens the map of {signal.frame} cells to the shape {target}, a weight for each position",
            signal.frame,
        )
        return signal.crop().reshape(target)
    return leave(function, signal, signal.crop().reshape(target), dims)


def leave(function: Any, signal: Signal, cells: Tensor, dims: frozenset[int]) -> Tensor:
    """Let a map leave the engine as `cells`, an ordinary tensor whose `dims` hold the cells of its frame."""
    call = signal.scope.call_of(function)
    signal.scope.leaves(call, signal.frame, tuple(cells.shape))
    return LeftCells.of(cells, dims, signal.scope, str(call))
