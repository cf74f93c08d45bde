"""Cells that are picked by their positions, or whose positions are asked for: keypoints, and what is read at them.

A list of the cells on which a map is not 0 is a list of the frame: the map leaves the engine there. What is read at
given coordinates depends on absolute position, and is named.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from borderless.engine.naming import describe, named
from borderless.engine.registry import rule
from borderless.engine.signal import Signal, first_signal
from borderless.engine.torch_internals import tree_map

_LOST = (
    "how many cells a mask picks depends on its values, and they lose their positions. Write torch.where(mask, x, "
    "other) or x.masked_fill(mask, value)"
)


def why_picked(signal: Signal, index: tuple[Any, ...]) -> str | None:
    """Return why an index of a map picks single cells by their positions; None: it takes all of space, or slices."""
    dimensions = [entry.ndim if _is_mask(entry) else 1 for entry in index if entry is not None and entry is not ...]
    dim = 0
    for entry in index:
        if entry is ...:
            dim += signal.ndim - sum(dimensions)
        elif isinstance(entry, bool):
            return None
        elif entry is not None:
            touched = range(dim, dim + (entry.ndim if _is_mask(entry) else 1))
            dim = touched.stop
            if not isinstance(entry, slice) and set(touched) & set(signal.axes):
                return _LOST if _is_mask(entry) else "its index along space picks an absolute position"
    return None


def pick(function: Any, signal: Signal, index: tuple[Any, ...], reason: str) -> Tensor:
    """Return the cells of the frame that `index` picks, and name that."""
    signal.scope.reads_position(describe(function), reason, signal.frame)
    return signal.crop()[tuple(entry.crop() if isinstance(entry, Signal) else entry for entry in index)]


def _is_mask(entry: Any) -> bool:
    return isinstance(entry, Tensor) and entry.dtype is torch.bool


@rule(*named("nonzero", "argwhere"))
def list_cells(function: Any, signal: Signal, **kwargs: Any) -> Any:
    """Return where on the frame a map is not 0; the map leaves the engine there."""
    found = function(signal.crop(), **kwargs)
    shape = tuple(found.shape) if isinstance(found, Tensor) else (len(found), *found[0].shape)
    signal.scope.leaves(signal.scope.call_of(function), signal.frame, shape)
    return found


@rule(F.grid_sample)
def sample(function: Any, *args: Any, **kwargs: Any) -> Tensor:
    """Sample a map at coordinates of its frame."""
    signal = first_signal(args, kwargs)
    assert signal is not None
    signal.scope.reads_position(describe(function), "it samples a feature map at coordinates", signal.frame)
    args, kwargs = tree_map(lambda leaf: leaf.crop() if isinstance(leaf, Signal) else leaf, (args, kwargs))
    return function(*args, **kwargs)
