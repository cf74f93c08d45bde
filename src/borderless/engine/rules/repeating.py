"""Channels and samples that are repeated; cells repeated along space are an upsampling to the nearest."""

from typing import Any

import torch
from torch import Tensor

from borderless.engine.aliases import View
from borderless.engine.naming import describe, named
from borderless.engine.registry import rule
from borderless.engine.relabeled import Relabeled, on_batches, on_maps
from borderless.engine.rules.rows import lattice_of_rows
from borderless.engine.signal import Signal
from borderless.engine.torch_internals import DisableTorchFunctionSubclass


@rule(*named("expand_as"))
def expand_as(function: Any, tensor: Any, other: Any) -> Any:
    """Expand a map over channels and batch; an ordinary tensor without spatial extent broadcasts by itself."""
    if isinstance(tensor, Signal):
        return expand(function, tensor, *other.shape)
    if all(tensor.shape[axis - other.ndim] == 1 for axis in other.axes):
        return tensor
    with DisableTorchFunctionSubclass():
        return tensor.expand(other.shape)


def _sizes(given: tuple[Any, ...], whole: Any) -> tuple[int, ...]:
    """Sizes that were given one by one, or all at once, by position or by keyword."""
    if whole is None:
        whole = given[0] if len(given) == 1 and not isinstance(given[0], int) else given
    return tuple(whole)


def _expand_seen(function: Any, source: Relabeled, signal: Any, *given: Any, size: Any = None, **_: Any) -> Any:
    sizes = _sizes(given, size)
    if len(sizes) != source.ndim or signal is not source:
        return on_batches(function, (signal, *given), {} if size is None else {"size": size})
    if source.tokens is not None and sizes[source.tokens] not in (-1, source.shape[source.tokens]):
        raise source.refusal(function)
    own = [sizes[source.batch]]
    for i, group in enumerate(source.groups):
        if i != source.batch:
            own += [-1] * len(group) if i == source.tokens else [sizes[i]]
    return Relabeled.of(source.map.expand(own), source.batch, source.tokens, source.flattened_by)


@rule(*named("expand", "broadcast_to"), dims=_expand_seen)
def expand(function: Any, signal: Signal, *given: Any, size: Any = None, implicit: bool = False) -> Signal:
    """Dimensions of size 1 that are not space may be repeated."""
    sizes = _sizes(given, size)
    if len(sizes) != signal.ndim:
        raise signal.scope.unsupported(
            describe(function), "it spreads a feature map along new dimensions. Write .unsqueeze(…) for each before"
        )
    if any(sizes[axis] not in (-1, n) for axis, n in zip(signal.axes, signal.frame, strict=True)):
        raise signal.scope.unsupported(
            describe(function), f"it spreads a feature map of {signal.frame} cells over a larger one"
        )
    keeps_batch = sizes[0] in (-1, signal.shape[0])
    lattice = None if keeps_batch else lattice_of_rows(signal, [0] * sizes[0])
    sizes = [-1 if i in signal.axes or (i == 0 and keeps_batch) else n for i, n in enumerate(sizes)]
    view = View(lambda cells: cells.expand(sizes), signal.axes, None if keeps_batch else signal.window.shape[0])
    return signal.alias(view, lattice=lattice)


def _repeat_seen(function: Any, source: Relabeled, signal: Any, *given: Any, **kwargs: Any) -> Any:
    counts = _sizes(given, kwargs.get("repeats", kwargs.get("dims")))
    if len(counts) != source.ndim:
        return on_batches(function, (signal, *given), kwargs)
    if source.tokens is not None and counts[source.tokens] != 1:
        raise source.refusal(function)
    own = [counts[source.batch]]
    for i, group in enumerate(source.groups):
        if i != source.batch:
            own += [1] * len(group) if i == source.tokens else [counts[i]]
    return Relabeled.of(source.map.repeat(own), source.batch, source.tokens, source.flattened_by)


@rule(*named("repeat", "tile"), needs="cell", dims=_repeat_seen)
def repeat(function: Any, signal: Signal, *given: Any, repeats: Any = None, dims: Any = None) -> Signal:
    """Repeat channels and samples; a feature map side by side with itself has a seam at an absolute position."""
    counts = _sizes(given, dims if repeats is None else repeats)
    new = len(counts) - signal.ndim
    if new < 0:
        counts, new = (*[1] * -new, *counts), 0
    if any(counts[new + axis] != 1 for axis in signal.axes):
        raise signal.scope.unsupported(
            describe(function),
            "it puts copies of a feature map side by side, at absolute positions. Write "
            "F.interpolate(x, scale_factor=…, mode='nearest') for cells that are repeated; a value for each channel, "
            "(N, C, 1, 1), needs no repeat: it broadcasts",
        )
    if new:
        raise signal.scope.unsupported(
            describe(function), "it repeats a feature map along new dimensions. Write .unsqueeze(…) for each before"
        )
    lattice = None
    if counts[0] != 1:
        signal.scope.mixes_rows(function)
        lattice = lattice_of_rows(signal, [*range(signal.window.shape[0])] * counts[0])
    background = _rows_of_background(signal) if counts[0] != 1 else signal.background
    return signal.derive(
        signal.window.repeat(counts), None if background is None else background.repeat(counts), lattice=lattice
    )


def _rows_of_background(signal: Signal) -> Tensor | None:
    background = signal.background
    return None if background is None else background.expand(signal.window.shape[0], *background.shape[1:])


def _repeat_interleave_seen(function: Any, source: Relabeled, *args: Any, **kwargs: Any) -> Any:
    return on_maps(function, source, args, kwargs, ("dim",))


@rule(*named("repeat_interleave"), needs="everything", dims=_repeat_interleave_seen)
def repeat_interleave(function: Any, signal: Any, repeats: Any, dim: int | None = None, **kwargs: Any) -> Any:
    """Repeat each channel or each sample; each cell along space."""
    if not isinstance(signal, Signal) or isinstance(repeats, Signal) or dim is None:
        found = signal if isinstance(signal, Signal) else repeats
        raise found.scope.unsupported(
            describe(function), "it repeats the cells of a feature map in a single row. Write its dimension: dim=1"
        )
    dim %= signal.ndim
    if dim in signal.axes:
        if not isinstance(repeats, int):
            raise signal.scope.unsupported(
                describe(function), "it repeats cells by their absolute positions. Write one number of repeats"
            )
        split = signal.unsqueeze(dim + 1)
        sizes = [repeats if i == dim + 1 else -1 for i in range(split.ndim)]
        shape = [n * repeats if i == dim else n for i, n in enumerate(signal.shape)]
        return split.expand(sizes).reshape(shape)
    background, lattice = signal.background, None
    if dim == 0:
        rows = function(torch.arange(signal.window.shape[0]), repeats, **kwargs)
        background, lattice = _rows_of_background(signal), lattice_of_rows(signal, rows.tolist())
    return signal.derive(
        function(signal.window, repeats, dim, **kwargs),
        None if background is None else function(background, repeats, dim, **kwargs),
        lattice=lattice,
    )
