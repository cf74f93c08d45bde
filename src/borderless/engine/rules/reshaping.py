"""Functions that move, merge, split and repeat dimensions, as far as space stays space."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from borderless.engine import geometry
from borderless.engine.aliases import View
from borderless.engine.geometry import Slide
from borderless.engine.naming import describe, named
from borderless.engine.registry import Declared, rule
from borderless.engine.rules.leaving import flatten_space
from borderless.engine.rules.plan import plan
from borderless.engine.signal import Signal, first_signal
from borderless.engine.torch_internals import DisableTorchFunctionSubclass


@rule(*named("permute", "transpose", "movedim", "swapaxes", "swapdims", "moveaxis"), needs="cell")
def move(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Signal:
    """Permute dimensions; space goes along."""
    # PyTorch itself says where each dimension goes: give every dimension its number as its size.
    numbered = function(torch.empty(tuple(range(1, signal.ndim + 1)), device="meta"), *args, **kwargs)
    places = [size - 1 for size in numbered.shape]
    axes = tuple(places.index(axis) for axis in signal.axes)
    if places[0] != 0:
        raise signal.scope.unsupported(describe(function), "it moves the batch dimension")
    if axes != tuple(sorted(axes)):
        raise signal.scope.unsupported(
            describe(function),
            "it exchanges spatial axes (those from the third on: borderless takes every input tensor for "
            "(batch, channels, *space), so give a channels-last input as (N, C, H, W))",
        )
    return signal.alias(View(lambda cells: function(cells, *args, **kwargs), signal.axes), axes=axes)


def _need_of_reshape(function: Any, signal: Any, *args: Any, **kwargs: Any) -> Declared:
    if not isinstance(signal, Signal) or any(isinstance(value, torch.dtype) for value in (*args, *kwargs.values())):
        return "everything"
    target = tuple(_shape_after(function, signal, args, kwargs))
    if geometry.preserved_axes(signal.shape, target, signal.axes) is not None:
        return "cell"
    blocks = geometry.blocked_axes(signal.shape, target, signal.axes)
    return "everything" if blocks is None else tuple(Slide(size, size) for size in blocks[1])


@rule(
    *named("reshape", "view", "flatten", "unflatten", "unsqueeze", "squeeze", "view_as", "reshape_as"),
    needs=_need_of_reshape,
)
def reshape(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Any:
    """Reshape what is not space; space may become blocks, or end here."""
    if not isinstance(signal, Signal):
        found = first_signal(args, kwargs)
        assert found is not None
        with DisableTorchFunctionSubclass():
            return signal.reshape(found.shape)
    if any(isinstance(value, torch.dtype) for value in (*args, *kwargs.values())):
        raise signal.scope.unsupported(describe(function), "it reinterprets the bits of a map")
    target = tuple(_shape_after(function, signal, args, kwargs))
    axes = geometry.preserved_axes(signal.shape, target, signal.axes)
    if axes is None:
        blocks = geometry.blocked_axes(signal.shape, target, signal.axes)
        if blocks is not None:
            return _into_blocks(function, signal, target, *blocks)
        return flatten_space(function, signal, target)
    keeps_batch = target[0] == signal.shape[0]
    if not keeps_batch and signal.border.is_adaptive:
        raise signal.scope.unsupported(
            describe(function),
            "it changes the batch dimension, and with phase='adaptive' each sample has its own phase",
        )

    def sizes(cells: Tensor) -> list[int]:
        found = list(target)
        for axis, new in zip(signal.axes, axes):  # noqa: B905  one each
            found[new] = cells.shape[axis]
        if keeps_batch:
            found[0] = cells.shape[0]
        return found

    view = View(lambda cells: cells.reshape(sizes(cells)), signal.axes, None if keeps_batch else len(signal.window))
    background = None if signal.background is None else view.of_background(signal.background)
    try:
        window, is_copy = signal.window.view(sizes(signal.window)), False
    except RuntimeError:  # no view, as this window is laid out
        window, is_copy = view.apply(signal.window), True
    if function.__name__ in ("reshape", "flatten", "reshape_as") and not geometry.only_splits(signal.shape, target):
        return signal.possible_alias(signal.derive(window, background, axes=axes), function)
    return signal.alias(view, (window, background), axes=axes, is_copy=is_copy)


def _into_blocks(
    function: Any, signal: Signal, target: tuple[int, ...], axes: tuple[int, ...], sizes: tuple[int, ...]
) -> Signal:
    """Space to depth: a stride of blocks, whose cells become dimensions of their own."""
    planned = plan(signal, tuple(Slide(size, size) for size in sizes), function)

    def run(cells: Tensor) -> Tensor:
        shape = [cells.shape[0], *target[1:]]
        for axis, place, size in zip(signal.axes, axes, sizes, strict=True):
            shape[place] = cells.shape[axis] // size
        return cells.reshape(shape)

    background = None if planned.background is None else planned.response(run)
    return signal.possible_alias(planned.result(run(planned.cells()), background, axes=axes), function)


def _shape_after(function: Any, signal: Signal, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[int]:
    if function.__name__ in ("view_as", "reshape_as"):
        return (args[0] if args else kwargs["other"]).shape
    return function(torch.empty(signal.shape, device="meta"), *args, **kwargs).shape


@rule(*named("channel_shuffle", "native_channel_shuffle"), needs="channels")
def channel_shuffle(function: Any, signal: Signal, groups: int) -> Signal:
    """Shuffle the channels of the window and of the background."""
    if signal.axes[0] < 2:
        raise signal.scope.unsupported(describe(function), "its channels are not the second dimension")
    background = None if signal.background is None else function(signal.background, groups)
    return signal.derive(function(signal.window, groups), background)


@rule(*named("expand_as"))
def expand_as(function: Any, tensor: Any, other: Any) -> Any:
    """A map spreads over channels and batch; an ordinary tensor without spatial extent broadcasts by itself."""
    if isinstance(tensor, Signal):
        return expand(function, tensor, *other.shape)
    if all(tensor.shape[axis - other.ndim] == 1 for axis in other.axes):
        return tensor
    with DisableTorchFunctionSubclass():
        return tensor.expand(other.shape)


@rule(*named("expand"))
def expand(function: Any, signal: Signal, *given: Any, size: Any = None) -> Signal:
    """Channels of size 1 may be repeated, and samples where they have one phase."""
    sizes = size or (tuple(given[0]) if len(given) == 1 and not isinstance(given[0], int) else given)
    if len(sizes) != signal.ndim:
        raise signal.scope.unsupported(describe(function), "it spreads a feature map along new dimensions")
    if any(sizes[axis] not in (-1, n) for axis, n in zip(signal.axes, signal.frame, strict=True)):
        raise signal.scope.unsupported(
            describe(function), f"it spreads a feature map of {signal.frame} cells over a larger one"
        )
    keeps_batch = sizes[0] in (-1, signal.shape[0])
    if not keeps_batch and signal.border.is_adaptive:
        raise signal.scope.unsupported(
            describe(function), "it repeats samples, and with phase='adaptive' each sample has its own phase"
        )
    sizes = [-1 if i in signal.axes or (i == 0 and keeps_batch) else n for i, n in enumerate(sizes)]
    view = View(lambda cells: cells.expand(sizes), signal.axes, None if keeps_batch else len(signal.window))
    return signal.alias(view)
