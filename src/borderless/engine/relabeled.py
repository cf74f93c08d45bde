"""Maps whose dimensions the model sees in another order, or merged: tokens (N, H·W, C), and stacks (S, N, C, H, W).

A `Relabeled` Signal stands for a map (N, …) with the batch first and space in dimensions of its own. A function that
acts on every cell alike is called on that map instead, with its dimensions renumbered; one that mixes tokens, such as
attention, is refused. So a sequence of tokens becomes a map again where the model makes it one.

Rules declare which of their arguments are dimensions: see `registry.Traits.dims`.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from borderless.engine.forward_pass import CallSite
from borderless.engine.geometry import Box
from borderless.engine.leaving import LeftCells
from borderless.engine.naming import describe
from borderless.engine.registry import REFUSED, find_rule, traits_of
from borderless.engine.signal import Signal, as_rules_take_it
from borderless.engine.signatures import Signature, signatures
from borderless.engine.torch_internals import make_wrapper_subclass, tree_leaves, tree_map
from borderless.errors import UnsupportedOperation


class Relabeled(Signal):
    """A map in other dimensions than its own.

    map: with the batch as dimension 0, the others in the order in which the model sees them. batch: which dimension the
    model takes for the batch. tokens: which one it has in the place of the spatial axes, row by row; None: space is as
    it is in the map. `window`, `background`, `axes` and `frame` are as the model sees them, all else is the map's.
    flattened_by: the call that has merged space to tokens.
    """

    map: Signal
    batch: int
    tokens: int | None
    flattened_by: CallSite | None

    @classmethod
    def of(cls, signal: Any, batch: int, tokens: int | None, flattened_by: CallSite | None = None) -> Signal:
        """Return `signal` as the model sees it: itself, where its dimensions are its own."""
        if batch == 0 and tokens is None:
            return signal
        groups = groups_of(signal, batch, tokens)
        shape = torch.Size([prod(signal.shape[d] for d in group) for group in groups])
        stored = signal.stored
        made: Any = make_wrapper_subclass(
            cls, shape, dtype=stored.dtype, device=stored.device, requires_grad=stored.requires_grad
        )
        axes = tuple(i for i, group in enumerate(groups) if set(group) & set(signal.axes))
        made.__dict__.update(
            map=signal,
            batch=batch,
            tokens=tokens,
            flattened_by=flattened_by,
            axes=axes,
            frame=tuple(shape[axis] for axis in axes),
            lattice=signal.lattice,
            scope=signal.scope,
            field=signal.field,
            aliased=False,
            _shape=shape,
            _deviation=None,
        )
        return made

    @property
    def window(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The stored cells, as the model sees them."""
        return as_seen(self.map.window, self.groups)

    @property
    def background(self) -> Tensor | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The background around the stored cells."""
        background = self.map.background
        if background is None:
            return None
        if self.batch:
            background = background.expand(len(self.map.window), *background.shape[1:])
        return as_seen(background, self.groups)

    @property
    def start(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The frame index at which the window of the map starts."""
        return self.map.start

    @property
    def box(self) -> Box:
        """The window of the map as frame indices."""
        return self.map.box

    @property
    def groups(self) -> list[tuple[int, ...]]:
        """For each dimension that the model sees, those of the map."""
        return groups_of(self.map, self.batch, self.tokens)

    def crop(self) -> Tensor:
        """Return the map on its frame, as the unmodified model would have it."""
        return as_seen(self.map.crop(), self.groups)

    def check_gradients(self) -> None:
        """Refuse a map that left PyTorch's autograd on its way."""
        self.map.check_gradients()

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"Relabeled({tuple(self.shape)}, of {self.map!r} of shape {tuple(self.map.shape)})"

    def operand(self, value: Any) -> Any:
        """Return an ordinary tensor that the model joins with this map, in the map's dimensions; all else as it is."""
        if not isinstance(value, Tensor) or isinstance(value, Signal) or value.ndim == 0 or value.ndim > self.ndim:
            return value
        value = value.reshape(*[1] * (self.ndim - value.ndim), *value.shape)
        order = [self.batch, *(d for d in range(self.ndim) if d != self.batch)]
        value = value.permute(order)
        if self.tokens is None:
            return value
        at, frame = order.index(self.tokens), tuple(self.map.shape[axis] for axis in self.map.axes)
        return value.unflatten(
            at, frame if value.shape[at] == prod(frame) else [value.shape[at], *[1] * (len(frame) - 1)]
        )

    def as_batch(self, function: Any) -> Signal:
        """Return the map with its dimensions in the order that the model sees, where no row has a phase of its own."""
        if self.tokens is not None or self.border.is_adaptive:
            raise self.refusal(function)
        signal, order = self.map, [group[0] for group in self.groups]
        signal.scope.mixes_rows(function)
        background = signal.background
        if background is not None:
            background = background.expand(signal.window.shape[0], *background.shape[1:]).permute(order)
        axes = tuple(order.index(axis) for axis in signal.axes)
        return signal.possible_alias(signal.derive(signal.window.permute(order), background, axes=axes), function)

    def refusal(self, function: Any, reason: str = "it mixes tokens (attention, for example)") -> UnsupportedOperation:
        """Return the error for a `function` that cannot act on this map as the model sees it."""
        if self.tokens is None:
            return self.scope.unsupported(
                describe(function),
                f"it acts on a feature map whose dimension {self.batch} is the batch, and with phase='adaptive' each "
                "sample has its own phase. Write it for maps with the batch first",
            )
        size = " × ".join(str(self.map.shape[axis]) for axis in self.map.axes)
        return self.scope.unsupported(
            describe(function),
            f"{reason}: these are the cells of a feature map of {size}, a sequence of {self.shape[self.tokens]}, which "
            "has no border to change. Layers that treat each token alike can run: Linear, LayerNorm, activations",
        )

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = args, kwargs or {}
        args, kwargs = as_rules_take_it(func, types, args, kwargs)
        source = next(leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, cls))
        try:
            if LeftCells in types and source.tokens is not None:
                raise source.refusal(func, "it joins tokens with cells that have left the engine")
            return cls._call(func, source, args, kwargs)
        except UnsupportedOperation as refusal:
            return find_rule(REFUSED)(refusal, func, *given)

    @classmethod
    def _call(cls, func: Any, source: "Relabeled", args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        rule = find_rule(func)
        traits = traits_of(rule)
        if traits.needs == "nothing":
            return rule(func, *args, **kwargs)
        if callable(traits.dims):
            return traits.dims(func, source, *args, **kwargs)
        if traits.dims is None:
            return on_batches(func, args, kwargs)
        if isinstance(traits.dims, str):
            return on_channels(func, source, args, kwargs)
        return on_maps(func, source, args, kwargs, traits.dims, runs_over_space=traits.gathers is not None)


def on_batches(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call `function` on maps with the dimensions that the model sees, where a batch is a dimension like any other."""
    args, kwargs = tree_map(
        lambda leaf: leaf.as_batch(function) if isinstance(leaf, Relabeled) else leaf, (args, kwargs)
    )
    return function(*args, **kwargs)


def maps_in(result: Any) -> list[Signal]:
    """Return the maps in what a call returned, in their own dimensions."""
    leaves = [result] if isinstance(result, Tensor) else tree_leaves(result)
    return [leaf.map if isinstance(leaf, Relabeled) else leaf for leaf in leaves if isinstance(leaf, Signal)]


def on_channels(function: Any, source: Relabeled, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call `function`, for which dimension 1 is that of the channels, on the map if it is so there too."""
    if source.batch != 0 or source.tokens == 1:
        return on_batches(function, args, kwargs)
    return on_maps(function, source, args, kwargs)


def groups_of(signal: Signal, batch: int, tokens: int | None) -> list[tuple[int, ...]]:
    """For each dimension that the model sees of `signal`, those of the map."""
    count = signal.ndim if tokens is None else signal.ndim - len(signal.axes) + 1
    groups, rest = [], iter(range(1, signal.ndim))
    for i in range(count):
        if i == batch:
            groups.append((0,))
        else:
            groups.append(tuple(next(rest) for _ in (signal.axes if i == tokens else (0,))))
    return groups


def as_seen(tensor: Tensor, groups: Sequence[tuple[int, ...]]) -> Tensor:
    """Return an ordinary tensor in the dimensions of a map, in those that the model sees."""
    moved = tensor.permute([d for group in groups for d in group])
    return moved.reshape([prod(tensor.shape[d] for d in group) for group in groups])


def on_maps(
    function: Any,
    source: Relabeled,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    names: Sequence[str] = (),
    *,
    runs_over_space: bool = False,
) -> Any:
    """Call `function` on the maps that its arguments stand for, with its dimensions, the arguments `names`, renumbered.

    runs_over_space: whether it takes all spatial axes for one dimension of tokens.
    """
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Signal)]
    check_alike(function, source, given)
    groups, named = source.groups, _named(function, args, kwargs, names)
    dropped: set[int] = set()

    def renumbered(value: Any) -> Any:
        dims = [value] if isinstance(value, int) else list(value)
        if any(isinstance(d, bool) or not isinstance(d, int) for d in dims):
            return value
        own = [d for dim in dims for d in groups[dim % source.ndim]]
        if not runs_over_space and any(len(groups[dim % source.ndim]) > 1 for dim in dims):
            raise source.refusal(function)
        dropped.update(own)
        return own[0] if isinstance(value, int) and len(own) == 1 else tuple(own)

    by_place, by_name = list(args), dict(kwargs)
    for name, (place, value) in named.items():
        if isinstance(value, int | tuple | list):
            if place is None:
                by_name[name] = renumbered(value)
            else:
                by_place[place] = renumbered(value)
    return seen_alike(function(*maps_of(by_place), **maps_of(by_name)), source, given, dropped, function)


def check_alike(function: Any, source: Relabeled, given: Sequence[Signal]) -> None:
    """Refuse maps that the model does not see in the same way."""
    for other in given:
        if not isinstance(other, Relabeled) or (other.batch, other.tokens) != (source.batch, source.tokens):
            raise source.scope.unsupported(
                describe(function),
                f"it joins a feature map of shape {tuple(other.shape)} with tokens or a stack of feature maps, of "
                f"shape {tuple(source.shape)}. Bring both into one shape before, by the same functions",
            )


def maps_of(values: Any) -> Any:
    """`values` with the map in the place of every `Relabeled`."""
    return tree_map(lambda leaf: leaf.map if isinstance(leaf, Relabeled) else leaf, values)


def seen_alike(result: Any, source: Relabeled, given: Sequence[Signal], dropped: set[int], function: Any) -> Any:
    """Return what came of the maps, as the model sees it; dropped: the dimensions of the maps that may be gone."""
    own = {id(leaf.map): leaf for leaf in given if isinstance(leaf, Relabeled)}
    groups = source.groups
    left = [group for group in groups if not set(group) & dropped]

    def seen(leaf: Any) -> Any:
        if id(leaf) in own:
            return own[id(leaf)]
        if not isinstance(leaf, Tensor) or isinstance(leaf, Relabeled):
            return leaf
        if leaf.ndim == source.map.ndim:
            kept = groups
        elif leaf.ndim == sum(map(len, left)):
            order = sorted(d for group in left for d in group)
            kept = [tuple(order.index(d) for d in group) for group in left]
        elif leaf.ndim == 0:
            return leaf
        else:
            raise source.refusal(function)
        if not isinstance(leaf, Signal):
            return as_seen(leaf, kept)
        tokens = next((i for i, group in enumerate(kept) if len(group) > 1), None)
        if (0,) not in kept:
            raise source.refusal(function, "it takes the batch away from tokens or from a stack")
        return Relabeled.of(leaf, kept.index((0,)), tokens, source.flattened_by)

    return tree_map(seen, result)


def _named(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], names: Sequence[str]
) -> dict[str, tuple[int | None, Any]]:
    """Return, of the arguments `names`, the index (None: by keyword, or its default) and the value."""
    if not names:
        return {}
    fitting = [s for s in signatures(function) if s.accepts(args, kwargs)]
    best: Signature | None = max(fitting, key=lambda s: len(set(names) & set(s.defaults)), default=None)
    if best is None:
        return {name: (None, value) for name, value in kwargs.items() if name in names}
    places = {name: (i, value) for i, (name, value) in enumerate(zip(best.names, args, strict=False)) if name in names}
    values = {name: best.defaults[name] for name in names if name in best.defaults} | {
        name: value for name, value in kwargs.items() if name in names
    }
    by_name: dict[str, tuple[int | None, Any]] = {name: (None, value) for name, value in values.items()}
    by_name.update(places)
    return by_name
