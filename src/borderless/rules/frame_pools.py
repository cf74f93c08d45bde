"""Average pools whose kernel is as large as the frame: global ones, or local ones that a small image makes look global.

`AvgPool2d(7)` at the end of a network averages all of space; an `AvgPool2d(2)` that meets a map of 2 × 2 cells in the
middle of one is a stride like any other. What the model does next tells them apart: a map is convolved, padded, pooled
or joined with maps of one cell, and a vector is flattened. Until then a `FramePool` stands for both. What leaves the
model is the vector, or the map if Signals are to leave it.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves, tree_map

from borderless.rules import normalisation, pointwise
from borderless.rules.registry import find_rule, named
from borderless.rules.signatures import by_position
from borderless.signal import Signal

_CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)
_OF_MAPS = (
    F.pad,
    *named("conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "pixel_shuffle", "pixel_unshuffle"),
    *named(*(f"{kind}_pool{dimensions}d" for kind in ("max", "avg") for dimensions in (1, 2, 3))),
)


class FramePool(Signal):
    """The result of an average pool over the whole frame of a map.

    pooled: what the global pool gives, an ordinary tensor (N, C, 1…). local: makes the map that the local pool gives.
    """

    pooled: Tensor
    local: Callable[[], Signal]

    @classmethod
    def of(cls, source: Signal, pooled: Tensor, local: Callable[[], Signal]) -> "FramePool":
        """Return what stands for both pools of `source`; `local` runs at most once, and only if a map is needed."""
        count = len(source.axes)
        made = cls(  # pyright: ignore[reportCallIssue]
            pooled, (0,) * count, (1,) * count, source.axes, None, source.lattice, source.scope, source.field
        )
        made.__dict__.update(pooled=pooled, local=cache(local))
        return made

    def crop(self) -> Tensor:
        return self.pooled

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args, kwargs = by_position(func, args, kwargs) if kwargs else (args, {})
        pools = {id(leaf): leaf.local for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, cls)}

        def on_maps() -> Any:
            own = tree_map(lambda leaf: pools[id(leaf)]() if isinstance(leaf, cls) else leaf, (args, kwargs))
            return func(*own[0], **own[1])

        if _needs_maps(func, args, kwargs):
            return on_maps()
        tensors = tree_map(lambda leaf: leaf.pooled if isinstance(leaf, cls) else leaf, (args, kwargs))
        result = func(*tensors[0], **tensors[1])
        source = args[0] if args else None
        if not isinstance(source, cls) or not isinstance(result, Tensor) or not _acts_on_cells(func, args, kwargs):
            return result
        if result is source.pooled:  # in place
            source.__dict__["local"] = cache(on_maps)
            return source
        return cls.of(source, result, on_maps)


def as_map(signal: Signal) -> Signal:
    """Return `signal`, or of a pool over a frame the map that the local pool gives."""
    return signal.local() if isinstance(signal, FramePool) else signal


def _needs_maps(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether `func` makes sense for maps alone."""
    if func in _OF_MAPS:
        return True
    if func in _CONVOLUTIONS:
        return not _acts_on_cells(func, args, kwargs)
    if func is F.interpolate:  # to a size: that of the map that a global pool is to be spread over
        return kwargs.get("scale_factor") is not None
    signals = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Signal)]
    return any(not isinstance(signal, FramePool) and set(signal.frame) == {1} for signal in signals)


def _acts_on_cells(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether `func` does to a vector what it does to each cell of a map, and nothing else."""
    if func in _CONVOLUTIONS:
        given = dict(zip(("input", "weight", "bias", "stride", "padding"), args, strict=False)) | kwargs
        options = (tuple(given["weight"].shape[2:]), given.get("stride", 1), given.get("padding", 0))
        kernel, stride, padding = (o if isinstance(o, tuple | list) else (o,) for o in options)
        return set(kernel) == set(stride) == {1} and set(padding) in ({0}, {"valid"}, {"same"})
    rule = find_rule(func)
    if rule in (normalisation.batch_norm, normalisation.torch_batch_norm):
        return not (args[5] if len(args) > 5 else kwargs.get("training", False))
    return rule in (pointwise.elementwise, pointwise.alike, pointwise.along_channels, pointwise.dropout)
