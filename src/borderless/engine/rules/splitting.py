"""Maps joined along channels, and cut along them."""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import torch

from borderless.engine.aliases import View
from borderless.engine.naming import describe, named
from borderless.engine.registry import rule
from borderless.engine.rules.joining import joint_box, joint_field, without_extent
from borderless.engine.signal import Signal, first_signal
from borderless.engine.signatures import arguments
from borderless.engine.tiles import same_period


@rule(*named("chunk", "split", "tensor_split", "unbind", "split_with_sizes"), needs="cell")
def split(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Any:
    """Split along channels, into views."""
    dim = arguments(function, (signal, *args), kwargs).get("dim", 0) % signal.ndim
    if dim == 0 or dim in signal.axes:
        raise signal.scope.unsupported(describe(function), "it cuts a map along the batch or along space")
    windows = function(signal.window, *args, **kwargs)
    backgrounds = (None,) * len(windows) if signal.background is None else function(signal.background, *args, **kwargs)
    if function.__name__ == "unbind":
        axes = tuple(axis - (axis > dim) for axis in signal.axes)
        views = [partial(torch.select, dim=dim, index=i) for i in range(len(windows))]
    else:
        axes, sizes = signal.axes, [window.shape[dim] for window in windows]
        starts = accumulate(sizes[:-1], initial=0)
        views = [partial(torch.narrow, dim=dim, start=start, length=n) for start, n in zip(starts, sizes, strict=True)]
    return tuple(
        signal.alias(View(view, signal.axes), stored, axes=axes)
        for view, *stored in zip(views, windows, backgrounds, strict=True)
    )


@rule(*named("cat", "concat", "concatenate", "stack"), needs="cell")
def join(function: Any, tensors: Sequence[Any], dim: int = 0, **kwargs: Any) -> Any:
    """Join maps along channels, or stack them, on the cells where they meet."""
    signal = first_signal(tensors)
    assert signal is not None
    dim = kwargs.pop("axis", dim)
    is_stack = function.__name__ == "stack"
    dim %= signal.ndim + is_stack
    signals = [t for t in tensors if isinstance(t, Signal)]
    uniform = [None if isinstance(t, Signal) else without_extent(t, signal) for t in tensors]
    if any(u is None and not isinstance(t, Signal) for t, u in zip(tensors, uniform, strict=True)):
        reason = "an ordinary tensor with a value for each place enters"
        signal.scope.reads_position(describe(function), reason, signal.frame)
        return function([t.crop() if isinstance(t, Signal) else t for t in tensors], dim, **kwargs)
    if dim == 0 or (dim in signal.axes and not is_stack):
        raise signal.scope.unsupported(describe(function), "it joins maps along the batch or along space")
    box = joint_box(signals, function)
    space = {axis: b - a for axis, (a, b) in zip(signal.axes, box, strict=True)}
    parts = [
        t.read(box) if u is None else u.expand([space.get(i, n) for i, n in enumerate(u.shape)])
        for t, u in zip(tensors, uniform, strict=True)
    ]
    window = function(parts, dim, **kwargs)
    background = None
    if signal.background is not None:
        surroundings = [t.background if u is None else u for t, u in zip(tensors, uniform, strict=True)]
        surroundings = same_period(surroundings, [signal.axes] * len(surroundings), dense=True)
        batch = max(s.shape[0] for s in surroundings)
        background = function([s.expand(batch, *s.shape[1:]) for s in surroundings], dim, **kwargs)
    axes = tuple(axis + (is_stack and axis >= dim) for axis in signal.axes)
    return signal.derive(window, background, box=box, axes=axes, field=joint_field(signals))
