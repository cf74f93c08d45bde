"""Maps joined along channels or to a larger batch, and cut along these."""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import torch

from borderless.engine.aliases import View
from borderless.engine.naming import describe, named
from borderless.engine.registry import rule
from borderless.engine.relabeled import Relabeled, check_alike, maps_of, on_maps
from borderless.engine.rules.joining import (
    LINES_REACH_OUT,
    beside_window,
    is_as_unmodified,
    joint_box,
    joint_field,
    reaches_out,
    read_in,
    surroundings_of,
    widest,
    without_extent,
)
from borderless.engine.rules.rows import are_alike, lattice_of_parts, lattice_of_rows
from borderless.engine.signal import Signal
from borderless.engine.signatures import arguments
from borderless.engine.tiles import same_period


@rule(
    *named("chunk", "split", "tensor_split", "unbind", "split_with_sizes"),
    torch.Tensor.__iter__,
    needs="cell",
    dims=("dim",),
)
def split(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Any:
    """Split along channels, or into batches, into views."""
    name = "unbind" if function is torch.Tensor.__iter__ else function.__name__
    function = torch.unbind if name == "unbind" else function
    dim = arguments(function, (signal, *args), kwargs).get("dim", 0) % signal.ndim
    if dim in signal.axes:
        raise signal.scope.unsupported(
            describe(function), "it cuts a map along space, at absolute positions. Write slices: x[..., a:b]"
        )
    windows = function(signal.window, *args, **kwargs)
    background = signal.background
    if dim == 0:
        signal.scope.mixes_rows(function)
        background = None if background is None else background.expand(signal.window.shape[0], *background.shape[1:])
    backgrounds = (None,) * len(windows) if background is None else function(background, *args, **kwargs)
    if name == "unbind":
        axes = tuple(axis - (axis > dim) for axis in signal.axes)
        views = [partial(torch.select, dim=dim, index=i) for i in range(len(windows))]
        rows = [[i] * len(window) for i, window in enumerate(windows)] if dim == 0 else []
    else:
        axes, sizes = signal.axes, [window.shape[dim] for window in windows]
        starts = list(accumulate(sizes[:-1], initial=0))
        views = [partial(torch.narrow, dim=dim, start=start, length=n) for start, n in zip(starts, sizes, strict=True)]
        rows = [range(start, start + n) for start, n in zip(starts, sizes, strict=True)] if dim == 0 else []
    lattices = [lattice_of_rows(signal, some) for some in rows] or [signal.lattice] * len(windows)
    samples = signal.window.shape[0] if dim == 0 else None
    return tuple(
        signal.alias(View(view, signal.axes, samples), stored, axes=axes, lattice=lattice)
        for view, lattice, *stored in zip(views, lattices, windows, backgrounds, strict=True)
    )


def _join_seen(function: Any, source: Relabeled, tensors: Sequence[Any], dim: int = 0, **kwargs: Any) -> Any:
    """Tokens and stacks are joined along what is neither space nor the batch."""
    dim = kwargs.pop("axis", dim)
    if function.__name__ != "stack":
        tensors = [source.operand(t) for t in tensors]
        is_ordinary = [isinstance(t, torch.Tensor) and not isinstance(t, Signal) for t in tensors]
        if source.tokens is not None and any(
            plain and without_extent(t, source.map) is None for t, plain in zip(tensors, is_ordinary, strict=True)
        ):
            raise source.refusal(function, "it has a value for each token (coordinates, for example)")
        return on_maps(function, source, (tensors,), {"dim": dim, **kwargs}, ("dim",))
    check_alike(function, source, [t for t in tensors if isinstance(t, Signal)])
    if any(not isinstance(t, Signal) for t in tensors):
        raise source.refusal(function)
    dim %= source.ndim + 1
    before = [group for i, group in enumerate(source.groups) if i < dim and i != source.batch]
    made = function(maps_of(tensors), 1 + sum(map(len, before)), **kwargs)
    if not isinstance(made, Signal):
        raise source.refusal(function, "means of rows or columns enter")
    tokens = None if source.tokens is None else source.tokens + (dim <= source.tokens)
    return Relabeled.of(made, source.batch + (dim <= source.batch), tokens, source.flattened_by)


@rule(*named("cat", "concat", "concatenate", "stack"), needs="cell", dims=_join_seen)
def join(function: Any, tensors: Sequence[Any], dim: int = 0, **kwargs: Any) -> Any:
    """Join maps along channels or to a larger batch, or stack them, on the cells where they meet.

    Maps (C, *space) are single samples, which are stacked to a batch.
    """
    signals = [t for t in tensors if isinstance(t, Signal)]
    signal = widest(signals)
    dim = kwargs.pop("axis", dim)
    is_stack = function.__name__ == "stack"
    dim %= signal.ndim + is_stack
    uniform = [None if isinstance(t, Signal) else without_extent(t, signal) for t in tensors]
    if any(u is None and not isinstance(t, Signal) for t, u in zip(tensors, uniform, strict=True)):
        reason = "an ordinary tensor with a value for each position enters"
        signal.scope.reads_position(describe(function), reason, signal.frame)
        return function([t.crop() if isinstance(t, Signal) else t for t in tensors], dim, **kwargs)
    if is_stack and dim == 0:
        has_own_phases = signal.border.is_adaptive and not all(are_alike(signal, other) for other in signals)
        if (signal.axes[0] == 1 or has_own_phases) and len(signals) == len(tensors):
            return torch.cat([sample.unsqueeze(0) for sample in signals])
        made = join(function, tensors, 1, **kwargs)  # the map keeps its batch first
        return Relabeled.of(made, 1, None) if isinstance(made, Signal) else made.movedim(1, 0)
    if dim in signal.axes and not is_stack:
        raise signal.scope.unsupported(describe(function), "it joins maps along space, at absolute positions")
    lattice = None
    if dim == 0:
        signal.scope.mixes_rows(function)
        if len(signals) < len(tensors) and signal.border.is_adaptive:
            raise signal.scope.unsupported(
                describe(function), "it joins rows without a phase to a batch, and with phase='adaptive' each has one"
            )
        lattice = lattice_of_parts([(s, range(len(s.window))) for s in signals])
    box = joint_box(signals, function, has_own_rows=dim == 0)
    lines = [s for s in signals if len(s.axes) < len(signal.axes) and s.background is not None]
    beside = [(beside_window(line, signal, box), surroundings_of([line], signal)[0]) for line in lines]
    if any(reaches_out(signal, cells, around, box) for cells, around in beside):
        signal.scope.reads_position(describe(function), LINES_REACH_OUT)
        return function([t.crop() if isinstance(t, Signal) else t for t in tensors], dim, **kwargs)
    space = {axis: b - a for axis, (a, b) in zip(signal.axes, box, strict=True)}
    plain = tensors if is_as_unmodified(signal, box) else uniform
    parts = [read_in(t, signal, box) if u is None else p for t, u, p in zip(tensors, uniform, plain, strict=True)]
    parts = [part.expand([space.get(i, n) for i, n in enumerate(part.shape)]) for part in parts]
    window = function(parts, dim, **kwargs)
    background = None
    if signal.background is not None:
        # An ordinary tensor has the period 1, and so a tile of one cell.
        surroundings = surroundings_of(tensors, signal)
        surroundings = [s if u is None else u for s, u in zip(surroundings, uniform, strict=True)]
        surroundings = same_period(surroundings, [signal.axes] * len(surroundings), dense=True)
        batch = max(s.shape[0] for s in surroundings)
        rows = [len(part) if dim == 0 else batch for part in parts]
        background = function([s.expand(n, *s.shape[1:]) for s, n in zip(surroundings, rows, strict=True)], dim)
    axes = tuple(axis + (is_stack and axis >= dim) for axis in signal.axes)
    return signal.derive(window, background, box=box, axes=axes, lattice=lattice, field=joint_field(signals))
