"""Average pools whose kernel is as large as the frame: global ones, or local ones that a small image makes look global.

`AvgPool2d(7)` at the end of a network averages all of space; an `AvgPool2d(2)` that meets a map of 2 × 2 cells in the
middle of one is a stride like any other. What the model does next decides: a map is convolved, padded, pooled
or joined with maps of one cell, and a vector is flattened. Until then a `FramePool` stands for both. What leaves the
model is the vector, or the map if Signals are to leave it.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from borderless.engine.naming import named
from borderless.engine.registry import find_rule
from borderless.engine.rules import casts, channels, normalization, pointwise, softmaxes
from borderless.engine.signal import Signal
from borderless.engine.signatures import by_position
from borderless.engine.torch_internals import tree_leaves, tree_map

_CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)
_BATCH_NORMS = (normalization.batch_norm, normalization.torch_batch_norm)
_OF_MAPS = (
    F.pad,
    *named("conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "pixel_shuffle", "pixel_unshuffle"),
    *named(*(f"{kind}_pool{dimensions}d" for kind in ("max", "avg") for dimensions in (1, 2, 3))),
)


class FramePool(Signal):
    """The result of an average pool over the whole frame of a map. Nothing is computed before it is known of which.

    pooled: makes what the global pool gives, an ordinary tensor (N, C, 1…). local: makes the map of the local pool.
    """

    pooled: Callable[[], Tensor]
    local: Callable[[], Signal]

    @classmethod
    def of(cls, source: Signal, like: Tensor, pooled: Callable[[], Tensor], local: Callable[[], Signal]) -> "FramePool":
        """Return what stands for both pools of `source`. like: of the channels, type and device of the result."""
        count = len(source.axes)
        stored = source.window.new_full((), torch.nan, dtype=like.dtype).expand(*like.shape[:2], *[1] * count)
        made = cls(  # pyright: ignore[reportCallIssue]
            stored, (0,) * count, (1,) * count, source.axes, None, source.lattice, source.scope, source.field
        )
        made.pooled, made.local = _later(pooled), _later(local)
        return made

    def crop(self) -> Tensor:
        """Return the local pool's map on its frame."""
        return self.pooled()

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args, kwargs = by_position(func, args, kwargs) if kwargs else (args, {})
        pools = {id(leaf): (leaf.pooled, leaf.local) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, cls)}

        def call(kind: int) -> Any:
            own = tree_map(lambda leaf: pools[id(leaf)][kind]() if isinstance(leaf, cls) else leaf, (args, kwargs))
            return func(*own[0], **own[1])

        def on_vectors() -> Tensor:
            return call(0)

        def on_maps() -> Signal:
            return call(1)

        if _needs_maps(func, args, kwargs):
            return on_maps()
        source = args[0] if args else None
        if not isinstance(source, cls) or not _acts_on_cells(func, args, kwargs):
            return on_vectors()
        like = _shaped_like(func, source, args, kwargs)
        if like is None:  # in place
            source.pooled, source.local = _later(on_vectors), _later(on_maps)
            return source
        return cls.of(source, like, on_vectors, on_maps)


def _later(make: Callable[[], Any]) -> Callable[[], Any]:
    """`make`, run at most once, with gradients if they are enabled now."""
    has_gradients = torch.is_grad_enabled()

    def run() -> Any:
        with torch.set_grad_enabled(has_gradients):
            return make()

    return cache(run)


def _shaped_like(func: Any, source: FramePool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Return a tensor like the result of `func`, which acts on cells; None where it changes `source` in place."""
    if find_rule(func) in _BATCH_NORMS:
        return source.window
    stands_for = {id(leaf): _without_values(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
    own = tree_map(lambda leaf: stands_for[id(leaf)] if isinstance(leaf, Tensor) else leaf, (args, kwargs))
    result = func(*own[0], **own[1])
    return None if result is stands_for[id(source)] else result


def _without_values(tensor: Tensor) -> Tensor:
    stored = tensor.window if isinstance(tensor, Signal) else tensor
    return torch.empty(stored.shape, dtype=stored.dtype, device="meta")


def as_map(signal: Signal) -> Signal:
    """Return `signal`, or of a pool over a frame the map that the local pool gives."""
    return signal.local() if isinstance(signal, FramePool) else signal


def _needs_maps(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether `func` makes sense for maps alone."""
    if func in _OF_MAPS:
        return True
    if func in _CONVOLUTIONS:
        return not _acts_on_cells(func, args, kwargs)
    if func is F.interpolate:  # to a size: that of the map that a global pool is to be spread over
        return kwargs.get("scale_factor") is not None
    signals = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Signal)]
    return any(not isinstance(signal, FramePool) and set(signal.frame) == {1} for signal in signals)


def _acts_on_cells(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether `func` does to a vector what it does to each cell of a map, and nothing else."""
    if func in _CONVOLUTIONS:
        given = dict(zip(("input", "weight", "bias", "stride", "padding"), args, strict=False)) | kwargs
        options = (tuple(given["weight"].shape[2:]), given.get("stride", 1), given.get("padding", 0))
        kernel, stride, padding = (o if isinstance(o, tuple | list) else (o,) for o in options)
        return set(kernel) == set(stride) == {1} and set(padding) in ({0}, {"valid"}, {"same"})
    return find_rule(func) in (
        *_BATCH_NORMS,
        pointwise.elementwise,
        casts.alike,
        channels.along_channels,
        softmaxes.softmax,
        casts.dropout,
    )
