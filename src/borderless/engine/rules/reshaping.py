"""Functions that move, merge, split and repeat dimensions, as far as space stays space."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from borderless.engine import geometry
from borderless.engine.aliases import View
from borderless.engine.geometry import Slide
from borderless.engine.naming import describe, named
from borderless.engine.registry import Declared, rule
from borderless.engine.relabeled import Relabeled
from borderless.engine.rules.leaving import flatten_space
from borderless.engine.rules.plan import plan
from borderless.engine.rules.resampling import on_finer_cells
from borderless.engine.rules.rows import lattice_of_reshaped
from borderless.engine.signal import Signal, first_signal
from borderless.engine.torch_internals import DisableTorchFunctionSubclass, getter


def _order_after(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> list[int]:
    """Return which dimension of `signal` each of the result is, from PyTorch itself on dimensions of distinct sizes."""
    numbered = function(torch.empty(tuple(range(1, signal.ndim + 1)), device="meta"), *args, **kwargs)
    return [size - 1 for size in numbered.shape]


def _move_seen(function: Any, source: Relabeled, *args: Any, **kwargs: Any) -> Any:
    """Tokens and stacks: the map's dimensions follow, all but the batch, and the axes of space together."""
    order = _order_after(function, source, *args[1:], **kwargs)
    groups, batch = source.groups, order.index(source.batch)
    own = [d for place in order if place != source.batch for d in groups[place]]
    moved = source.map if own == sorted(own) else source.map.permute(0, *own)
    tokens = None if source.tokens is None else order.index(source.tokens)
    return Relabeled.of(moved, batch, tokens, source.flattened_by)


def _need_of_move(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Declared:
    order = _order_after(function, signal, *args, **kwargs)
    moved = [order.index(axis) for axis in signal.axes]
    return "cell" if moved == sorted(moved) else "everything"


def _transpose(function: Any, signal: Signal, order: list[int]) -> Signal:
    """Bring the dimensions in an `order` in which spatial axes are exchanged: all that is known of each goes along."""
    batch = order.index(0)
    if batch != 0:  # the map keeps its batch first
        made: Any = _transpose(function, signal, [0, *(d for d in order if d != 0)])
        return made.permute(*range(1, batch + 1), 0, *range(batch + 1, len(order)))
    places = sorted(range(len(signal.axes)), key=lambda i: order.index(signal.axes[i]))
    made = signal.derive(
        signal.window.permute(order),
        None if signal.background is None else signal.background.permute(order),
        box=tuple(signal.box[i] for i in places),
        frame=tuple(signal.frame[i] for i in places),
        axes=tuple(sorted(order.index(axis) for axis in signal.axes)),
        lattice=signal.lattice.transposed(tuple(places)),
        field=tuple(signal.field[i] for i in places),
    )
    return signal.possible_alias(made, function)


@rule(
    *named("permute", "transpose", "movedim", "swapaxes", "swapdims", "moveaxis"),
    getter("mT"),
    needs=_need_of_move,
    dims=_move_seen,
)
def move(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Signal:
    """Permute dimensions; space goes along, and may be transposed itself."""
    order = _order_after(function, signal, *args, **kwargs)
    axes = tuple(order.index(axis) for axis in signal.axes)
    if axes != tuple(sorted(axes)):
        return _transpose(function, signal, order)
    if order[0] != 0:  # the map keeps its batch first
        batch, rest = order.index(0), [place for place in order if place]
        axes = tuple(rest.index(axis) + 1 for axis in signal.axes)
        view = View(lambda cells: cells.permute(0, *rest), signal.axes)
        return Relabeled.of(signal.alias(view, axes=axes), batch, None)
    return signal.alias(View(lambda cells: function(cells, *args, **kwargs), signal.axes), axes=axes)


def _need_of_reshape(function: Any, signal: Any, *args: Any, **kwargs: Any) -> Declared:
    if not isinstance(signal, Signal) or any(isinstance(value, torch.dtype) for value in (*args, *kwargs.values())):
        return "everything"
    target = tuple(_shape_after(function, signal, args, kwargs))
    if _kept_axes(signal, target) is not None:
        return "cell"
    blocks = _cut_axes(signal, target)
    if blocks is not None:
        return tuple(Slide(size, size) for size in blocks[1])
    return "everything" if _tokens_after(signal, target) is None else "cell"


def _reshape_seen(function: Any, source: Relabeled, *args: Any, **kwargs: Any) -> Any:
    if not isinstance(args[0], Signal):
        with DisableTorchFunctionSubclass():
            return args[0].reshape(source.shape)
    target = tuple(_shape_after(function, source, args[1:], kwargs))
    return _reshape_labels(function, source, target, torch.Tensor.reshape if _may_copy(function) else torch.Tensor.view)


def _may_copy(function: Any) -> bool:
    return function.__name__ in ("reshape", "flatten", "reshape_as")


@rule(
    *named("reshape", "view", "flatten", "unflatten", "unsqueeze", "squeeze", "view_as", "reshape_as"),
    needs=_need_of_reshape,
    dims=_reshape_seen,
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
    axes = _kept_axes(signal, target)
    if axes is not None:
        return _reshaped_to(function, signal, target, axes, target)
    blocks = _cut_axes(signal, target)
    if blocks is not None:
        return _into_blocks(function, signal, target, *blocks)
    joined = geometry.joined_axes(signal.shape, target, signal.axes)
    if joined is not None:
        return _out_of_blocks(function, signal, target, *joined)
    tokens = _tokens_after(signal, target)
    if tokens is not None:
        axes = tuple(range(tokens, tokens + len(signal.axes)))
        spread = (*target[:tokens], *signal.frame, *target[tokens + 1 :])
        made = _reshaped_to(function, signal, spread, axes, target)
        return Relabeled.of(made, 0, tokens, signal.scope.call_of(function))
    return flatten_space(function, signal, target)


def _kept_axes(signal: Signal, target: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return where the axes of space are after a reshape to `target`; None if they are lost, or come first.

    A batch of one sample can move behind space by a reshape, where any other cannot.
    """
    axes = geometry.preserved_axes(signal.shape, target, signal.axes)
    return None if axes is None or axes[0] == 0 else axes


def _cut_axes(signal: Signal, target: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    blocks = geometry.blocked_axes(signal.shape, target, signal.axes)
    return None if blocks is None or blocks[0][0] == 0 else blocks


def _tokens_after(signal: Signal, target: tuple[int, ...]) -> int | None:
    """Return the dimension to which a reshape to `target` merges space of more than one axis and cell; else None."""
    first, count = signal.axes[0], len(signal.axes)
    if count == 1 or signal.axes != tuple(range(first, first + count)) or set(signal.frame) == {1}:
        return None
    merged = (*signal.shape[:first], prod(signal.frame), *signal.shape[first + count :])
    found = geometry.preserved_axes(merged, target, (first,))
    return None if found is None or found[0] == 0 else found[0]


def _reshaped_to(
    function: Any, signal: Signal, target: tuple[int, ...], axes: tuple[int, ...], model_target: tuple[int, ...]
) -> Signal:
    """Return the map in the shape `target`, with its `axes` there; the unmodified model's shape is `model_target`."""
    keeps_batch = target[0] == signal.shape[0]
    lattice = lattice_of_reshaped(signal, target[0], function)

    def sizes(cells: Tensor) -> list[int]:
        found = list(target)
        for axis, new in zip(signal.axes, axes):  # noqa: B905  one each
            found[new] = cells.shape[axis]
        if keeps_batch:
            found[0] = cells.shape[0]
        return found

    def shaped(cells: Tensor, reshape: Callable[..., Tensor] = torch.Tensor.reshape) -> Tensor:
        found = sizes(cells)
        if model_target is target:
            return reshape(cells, found)
        space = [found[axis] for axis in axes]  # merged, as in the unmodified model, before it is space again
        return reshape(cells, [*found[: axes[0]], prod(space), *found[axes[-1] + 1 :]]).unflatten(axes[0], space)

    view = View(shaped, signal.axes, None if keeps_batch else signal.window.shape[0])
    background = None if signal.background is None else view.of_background(signal.background)
    window, is_copy = _as_view(signal.window, shaped)
    if _may_copy(function) and not geometry.only_splits(signal.shape, model_target):
        made = signal.derive(window, background, axes=axes, lattice=lattice)
        return signal.possible_alias(made, function)
    return signal.alias(view, (window, background), axes=axes, lattice=lattice, is_copy=is_copy)


def _as_view(cells: Tensor, shaped: Callable[..., Tensor]) -> tuple[Tensor, bool]:
    """Return `cells` in another shape, and whether they are a copy, as they must be where their layout has no view."""
    if not torch.compiler.is_compiling():  # a program would keep the call that fails
        try:
            return shaped(cells, torch.Tensor.view), False
        except (RuntimeError, ValueError):  # the latter of fake tensors
            pass
    return shaped(cells), True


def _out_of_blocks(
    function: Any, signal: Signal, target: tuple[int, ...], axes: tuple[int, ...], sizes: tuple[int, ...]
) -> Signal:
    """Depth to space: dimensions after the axes become cells of a finer map."""

    def run(cells: Tensor) -> Tensor:
        shape = [cells.shape[0], *target[1:]]
        for axis, place, size in zip(signal.axes, axes, sizes, strict=True):
            shape[place] = cells.shape[axis] * size
        return cells.reshape(shape)

    if target[0] != signal.shape[0]:
        raise signal.scope.unsupported(
            describe(function), "it changes the batch and makes a finer map at once. Write two reshapes"
        )
    background = None if signal.background is None else run(signal.background)
    return signal.possible_alias(on_finer_cells(signal, sizes, run(signal.window), background, axes), function)


def _reshape_labels(function: Any, source: Relabeled, target: tuple[int, ...], reshape: Callable[..., Any]) -> Any:
    """Reshape as the model sees it: the tokens stay one dimension, become space again, or end here.

    reshape: the function that does it to the map, `Tensor.reshape` or `Tensor.view`.
    """
    shape, signal = tuple(source.shape), source.map
    batch = 0
    if source.batch != 0:
        kept = geometry.preserved_axes(shape, target, (source.batch,))
        if kept is None:
            return reshape(source.as_batch(function), target)
        batch = kept[0]
    tokens, spread = None, target
    if source.tokens is not None:
        at, frame = source.tokens, tuple(signal.shape[axis] for axis in signal.axes)
        whole = (*shape[:at], *frame, *shape[at + 1 :])
        merged = geometry.preserved_axes(shape, target, (at,))
        merged = None if merged == (batch,) else merged
        cells = geometry.preserved_axes(whole, target, tuple(range(at, at + len(frame))))
        cells = None if cells is not None and batch in cells else cells
        if cells is None or (merged is not None and len(target) == len(shape)):
            if merged is None:
                return _without_space(function, source, target)
            tokens = merged[0]
            spread = (*target[:tokens], *frame, *target[tokens + 1 :])
    batch_of_map = batch if tokens is None or batch < tokens else batch + len(signal.axes) - 1
    own = (spread[batch_of_map], *spread[:batch_of_map], *spread[batch_of_map + 1 :])
    made = reshape(signal, own)
    call = source.flattened_by or source.scope.call_of(function)
    return Relabeled.of(made, batch, tokens, call) if isinstance(made, Signal) else made


def _without_space(function: Any, source: Relabeled, target: tuple[int, ...]) -> Tensor:
    if len(target) != 2 or target[0] != source.shape[0] or source.batch != 0:
        raise source.refusal(function)
    source.scope.reads_position(
        describe(function), f"it flattens the tokens of a feature map to the shape {target}, a weight for each position"
    )
    return source.crop().reshape(target)


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
