"""The empty canvas: a `Tape` of every function that a model calls on a map of it, and of what came out.

`placed.py` reads along when the model runs on objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from torch import Tensor

from borderless.cells import cut, pasted
from borderless.geometry import Box, intersection
from borderless.rules import normalisation, pointwise, reductions, shapes, sliding
from borderless.rules.plan import per_axis
from borderless.rules.registry import find_rule
from borderless.scope import Scope
from borderless.signal import Signal, first_signal
from borderless.torch_internals import tree_leaves, tree_map

_CELL_BY_CELL = {
    pointwise.elementwise,
    pointwise.alike,
    pointwise.along_channels,
    pointwise.dropout,
    normalisation.batch_norm,
    normalisation.torch_batch_norm,
    shapes.move,
    shapes.split,
    shapes.channel_shuffle,
}
# These need no more than a window and what surrounds it; every other rule gets whole maps.
LOCAL = _CELL_BY_CELL | {
    sliding.convolution,
    sliding.max_pool,
    sliding.average_pool,
    shapes.reshape,
    shapes.join,
    shapes.getitem,
}
# They ask what a map is and compute nothing; hooks may ask more than the model does, so they are on no tape.
_QUESTIONS = {shapes.query, shapes.query_window, shapes.values}
# These mix channels or all of space: over channels alone, a window is enough for them too.
OVER_CHANNELS = {reductions.reduction, reductions.extremum}


@dataclass
class Step:
    """One function called on maps: the first of them, the ordinary tensors among its arguments, and its result."""

    function: Any
    source: "Record"
    operands: list[Tensor]
    result: Any
    is_windowed: bool  # an object changes a window of the result, if it changes one of the source
    divisors: Tensor | None = None  # of an average

    @property
    def maps(self) -> list["Record"]:
        return [leaf for leaf in tree_leaves(self.result) if isinstance(leaf, Record)]


@dataclass
class Tape(Scope):
    """The pass over the empty canvas, under the border `border`, and what happened in it.

    region: for each axis, the pixels that objects will cover, first and stop; None: unknown. Its maps are `Record`s,
    which keep their cells only where an object there may want to read them.
    """

    region: Box | None = None
    steps: list[Step] = field(default_factory=list)
    calls: int = 0  # that are under way: what a rule calls itself is no step

    def __post_init__(self) -> None:
        self.parameters = {id(tensor) for tensor in (*self.root.parameters(), *self.root.buffers())}

    @property
    def margin(self) -> tuple[int, ...]:
        """For each axis: no cell sees both the edge and an object this many pixels away, and one lies between them."""
        return tuple(max(int(m.field[i]) + int(m.lattice.stride[i]) for m in self._maps()) for i in self._axes())

    @property
    def stride(self) -> tuple[int, ...]:
        """The total stride for each axis: objects that far apart meet the same sublattices."""
        return tuple(max(int(m.lattice.stride[i]) for m in self._maps()) for i in self._axes())

    def window_bytes(self, size: Sequence[int]) -> int:
        """What the largest map takes for one object of `size` pixels, at most."""
        largest, windowed = 0, True
        for step in self.steps:
            windowed = windowed and step.is_windowed
            for m in step.maps:
                cells = [b - a for a, b in m.box]
                channels = m._sizes.numel() // prod(cells)
                if windowed:
                    touched = [(n + px) // s + 2 for n, px, s in zip(size, m.field, m.lattice.stride, strict=False)]
                    cells = [min(a, int(b)) for a, b in zip(cells, touched, strict=True)]
                largest = max(largest, prod(cells) * channels * m.window.element_size())
        return largest

    def within_reach(self, signal: Signal, results: "list[Record]") -> Box:
        """The cells of `signal` that `results` may depend on, where an object changes them."""
        if self.region is None:
            return signal.box
        reach = [max(result.field[i] for result in results if len(result.field) > i) for i in range(len(signal.field))]
        kept = tuple(
            (max(a, int((first - 2 * px) // s) - 2), min(b, int((stop + 2 * px) // s) + 3))
            for (a, b), (first, stop), px, s in zip(signal.box, self.region, reach, signal.lattice.stride, strict=True)
        )
        return kept if all(a < b for a, b in kept) else signal.box

    def _maps(self) -> list["Record"]:
        maps = [signal for step in self.steps for signal in (step.source, *step.maps)]
        return [signal for signal in maps if len(signal.frame) == len(maps[0].frame)]

    def _axes(self) -> range:
        return range(len(self.steps[0].source.frame))


class NotKept(Exception):
    """Cells were asked for that the tape did not expect anyone to read."""


class Record(Signal):
    """What a tape keeps of a map: how large it is, and its cells in the box `kept` (None: in none)."""

    kept: Box | None = None
    cells: Tensor

    @classmethod
    def of(cls, signal: Signal) -> "Record":
        sizes = signal.window.shape
        made: Any = like(signal, signal.window.new_empty((0, *sizes[1:])), cls)  # no view, which would keep all cells
        made._sizes = sizes
        return made

    def keep(self, window: Tensor, kept: Box) -> None:
        """kept: within the window; if something else was kept already, all is."""
        if self.kept is not None and intersection([self.kept, kept]) == kept:
            return
        is_small = prod(b - a for a, b in kept) <= 0.7 * prod(b - a for a, b in self.box)
        if is_small and self.kept is None:
            self.cells, self.kept = cut(window, self.axes, self.box, kept).clone(), kept
        else:
            self.cells, self.kept = window, self.box

    @property
    def whole(self) -> Signal:
        """The map as a plain Signal."""
        if self.kept != self.box:
            raise NotKept
        return like(self, self.cells)

    def read(self, box: Box, beyond: float = 0.0) -> Tensor:
        """beyond: what lies outside of maps that do not grow out of their frame."""
        known = intersection([self.box, box])
        if any(a >= b for a, b in known):
            return self._outside(box, beyond)
        if self.kept is None or intersection([self.kept, known]) != known:
            raise NotKept
        cells = cut(self.cells, self.axes, self.kept, known)
        if known == box:
            return cells
        missing = [(a - first, stop - b) for (a, b), (first, stop) in zip(known, box, strict=True)]
        return pasted(self._outside(box, beyond), cells, self.axes, missing)

    def _outside(self, box: Box, beyond: float) -> Tensor:
        sizes = list(self._sizes)
        for axis, (a, b) in zip(self.axes, box, strict=True):
            sizes[axis] = b - a
        if self.background is not None:
            return self.background.expand(sizes)
        return self.window.new_full((), beyond if self.border.keeps == "frame" else 0.0).expand(sizes)


class OnTape(Signal):
    """A map whose pass writes a tape or reads along one: of its calls only the model's own are steps."""

    @property
    def tape(self) -> Tape:
        raise NotImplementedError

    def called(self, func: Any, rule: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The model has called `func` on this map, the first of its arguments."""
        raise NotImplementedError

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        source = first_signal(args, kwargs)
        assert isinstance(source, OnTape)
        tape, rule = source.tape, find_rule(func)
        if tape.calls or rule in _QUESTIONS:
            return rule(func, *args, **kwargs)
        tape.calls += 1
        try:
            return source.called(func, rule, args, kwargs)
        finally:
            tape.calls -= 1


class Canvas(OnTape):
    """A map of the empty canvas, whose scope is a `Tape`. record: what the tape keeps of it."""

    _record: Record | None = None

    @property
    def record(self) -> Record:
        if self._record is None:
            self._record = Record.of(self)
        return self._record

    def crop(self) -> Tensor:
        self.record.keep(self.window, self.box)
        return super().crop()

    @property
    def tape(self) -> Tape:
        assert isinstance(self.scope, Tape)
        return self.scope

    def called(self, func: Any, rule: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        maps = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Canvas)]
        operands, record = operands_of(args, kwargs), self.record
        is_fixed = all(id(t) in self.tape.parameters for t in operands)
        is_local = is_fixed and (rule in LOCAL or pads_space(rule, self, args, kwargs))
        read = [] if is_local and len(maps) == 1 and not _reads_around(rule, args, kwargs) else maps
        windows = [(leaf.record, leaf.window) for leaf in read]
        for leaf in read:
            leaf.aliased = True  # so that a function in place leaves these cells alone
        result = rule(func, *args, **kwargs)
        step = Step(func, record, operands, tree_map(_new_record, result), is_local or rule in OVER_CHANNELS)
        self.tape.steps.append(step)
        for kept, window in windows:
            kept.keep(window, self.tape.within_reach(kept, step.maps) if is_local and step.maps else kept.box)
        return result


def _new_record(leaf: Any) -> Any:
    if not isinstance(leaf, Canvas):
        return leaf
    leaf._record = None  # it was of what there was before a function in place
    return leaf.record


def like(signal: Signal, window: Tensor, kind: type[Signal] = Signal) -> Signal:
    """A Signal like `signal`, of another kind and with other cells."""
    return kind(  # pyright: ignore[reportCallIssue]
        window,
        signal.start,
        signal.frame,
        signal.axes,
        signal.background,
        signal.lattice,
        signal.scope,
        signal.field,
    )


def operands_of(args: Any, kwargs: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and not isinstance(leaf, Signal)]


def _reads_around(rule: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the result on a window may need cells of the map outside of it."""
    if rule is sliding.convolution:
        weight = args[1] if len(args) > 1 else kwargs["weight"]
        stride = args[3] if len(args) > 3 else kwargs.get("stride", 1)
        return max(weight.shape[2:]) > 1 or set(per_axis(stride, weight.ndim - 2)) != {1}
    return rule not in _CELL_BY_CELL


def pads_space(rule: Any, source: Signal, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether this is F.pad, adding constant cells along space alone."""
    if rule is not shapes.padding:
        return False
    amounts = args[1] if len(args) > 1 else kwargs["pad"]
    mode = args[2] if len(args) > 2 else kwargs.get("mode", "constant")
    return mode == "constant" and len(amounts) <= 2 * (source.ndim - source.axes[0])
