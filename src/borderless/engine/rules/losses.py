"""Losses: of maps and what they are compared with, on the frame, as if the model had returned the maps.

A target has a value for each cell of the frame, and none for what lies around it. So a map is cropped to its frame; the
sum or mean over it is a number of the batch, which has no position, and is not named. Without a reduction two maps
leave a map of losses, and a map with an ordinary target leaves the engine, as cells that are watched.
"""

import functools
from typing import Any

import torch
from torch import Tensor

from borderless.engine.leaving import LeftCells
from borderless.engine.naming import named
from borderless.engine.registry import Kind, rule
from borderless.engine.relabeled import Relabeled
from borderless.engine.rules.joining import widest, without_extent
from borderless.engine.rules.pointwise import elementwise
from borderless.engine.signal import Signal
from borderless.engine.signatures import arguments
from borderless.engine.torch_internals import tree_leaves, tree_map

_OF_CELLS = frozenset(
    named("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "soft_margin_loss", "hinge_embedding_loss")
    + named("binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div", "poisson_nll_loss")
)
LOSSES = _OF_CELLS | frozenset(named("cross_entropy", "nll_loss", "gaussian_nll_loss", "multilabel_soft_margin_loss"))


def _has_no_reduction(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    reduction = arguments(function, args, kwargs).get("reduction")
    return kwargs.get("reduce") is False or reduction in ("none", 0)  # builtin functions number their reductions


def _stays_a_map(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether each cell has its own loss, of the same cell of maps and of values that are the same for all."""
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    maps = [leaf for leaf in given if isinstance(leaf, Signal)]
    if function not in _OF_CELLS or not _has_no_reduction(function, args, kwargs):
        return False
    if any(isinstance(leaf, Relabeled) for leaf in maps):
        return False
    whole = widest(maps)
    return all(isinstance(leaf, Signal) or without_extent(leaf, whole) is not None for leaf in given)


def _need_of_loss(function: Any, *args: Any, **kwargs: Any) -> Kind:
    return "cell" if _stays_a_map(function, args, kwargs) else "everything"


def _loss_seen(function: Any, _source: Relabeled, *args: Any, **kwargs: Any) -> Any:
    return loss(function, *args, **kwargs)


@rule(*LOSSES, needs=_need_of_loss, dims=_loss_seen)
def loss(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Compare maps on their frames; without a reduction, cell by cell."""
    if _stays_a_map(function, args, kwargs):
        return elementwise(_of_one_shape(function), *args, **kwargs)
    maps = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Signal)]
    args, kwargs = tree_map(lambda leaf: leaf.crop() if isinstance(leaf, Signal) else leaf, (args, kwargs))
    found: Tensor = function(*args, **kwargs)
    signal = widest(maps)
    if not _has_no_reduction(function, args, kwargs) or found.ndim == 0:
        return found
    dropped = signal.ndim - found.ndim  # of the channels, where one loss is taken over them
    dims = [axis - dropped for axis in signal.axes if 0 <= axis - dropped < found.ndim]
    call = signal.scope.call_of(function)
    signal.scope.leaves(call, signal.frame, tuple(found.shape))
    return LeftCells.of(found, dims, signal.scope, str(call))


def _of_one_shape(function: Any) -> Any:
    """Return `function` of tensors that are broadcast before: backgrounds need not have the shapes of windows."""

    @functools.wraps(function)
    def of_tensors(*args: Any, **kwargs: Any) -> Tensor:
        return function(*torch.broadcast_tensors(*args[:2]), *args[2:], **kwargs)

    return of_tensors
