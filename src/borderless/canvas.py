"""Maps of an object on a canvas: those of the empty canvas, but for the window that the object can have changed.

The model runs on the empty canvas once, and a `Tape` remembers every function that it called on a map and what came
out. When the model then runs on objects, each of its maps is a `Placed` Signal: it stores the window, and reads what
else an operation needs from the map that stands at the same step of the tape. An operation that mixes all of space, or
whose other operands differ from the tape's (a gate computed from the object, say), is run on whole maps, and so is all
that follows from it. So nothing is approximated; there is only more or less to compute.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from borderless.borders import Border, Keep, Outside
from borderless.cells import inside, memory_format_of, strips
from borderless.geometry import Box, intersection
from borderless.rules import normalisation, pointwise, reductions, shapes, sliding
from borderless.rules.plan import per_axis
from borderless.rules.registry import describe, find_rule
from borderless.rules.uniform import UniformMaps
from borderless.scope import Scope
from borderless.signal import Signal, first_signal

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
_LOCAL = _CELL_BY_CELL | {
    sliding.convolution,
    sliding.max_pool,
    sliding.average_pool,
    shapes.reshape,
    shapes.join,
    shapes.getitem,
}
# They ask what a map is and compute nothing; hooks may ask more than the model does, so they are on no tape.
_QUESTIONS = {shapes.query, shapes.query_window, shapes.values}
_OVER_CHANNELS = {reductions.reduction, reductions.extremum}
_POOLS = {reductions.reduction, reductions.adaptive_average_pool, reductions.adaptive_max_pool, sliding.average_pool}


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
        made: Any = _like(signal, signal.window.new_empty((0, *sizes[1:])), cls)  # no view, which would keep all cells
        made._sizes = sizes
        return made

    def keep(self, window: Tensor, kept: Box) -> None:
        """kept: within the window; if something else was kept already, all is."""
        if self.kept is not None and intersection([self.kept, kept]) == kept:
            return
        cut = prod(b - a for a, b in kept) <= 0.7 * prod(b - a for a, b in self.box)
        if cut and self.kept is None:
            self.cells, self.kept = _cut(window, self.axes, self.box, kept).clone(), kept
        else:
            self.cells, self.kept = window, self.box

    @property
    def whole(self) -> Signal:
        """The map as a plain Signal."""
        if self.kept != self.box:
            raise NotKept
        return _like(self, self.cells)

    def read(self, box: Box, beyond: float = 0.0) -> Tensor:
        """beyond: what lies outside of maps that do not grow out of their frame."""
        known = intersection([self.box, box])
        if any(a >= b for a, b in known):
            return self._outside(box, beyond)
        if self.kept is None or intersection([self.kept, known]) != known:
            raise NotKept
        cells = _cut(self.cells, self.axes, self.kept, known)
        if known == box:
            return cells
        missing = [(a - first, stop - b) for (a, b), (first, stop) in zip(known, box, strict=True)]
        return _pasted(self._outside(box, beyond), cells, self.axes, missing)

    def _outside(self, box: Box, beyond: float) -> Tensor:
        sizes = list(self._sizes)
        for axis, (a, b) in zip(self.axes, box, strict=True):
            sizes[axis] = b - a
        if self.background is not None:
            return self.background.expand(sizes)
        return self.window.new_full((), beyond if self.border.keeps == "frame" else 0.0).expand(sizes)


class Canvas(Signal):
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

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        source = first_signal(args, kwargs)
        assert isinstance(source, Canvas) and isinstance(source.scope, Tape)
        tape, rule = source.scope, find_rule(func)
        if tape.calls or rule in _QUESTIONS:
            return rule(func, *args, **kwargs)
        maps = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Canvas)]
        operands, record = _operands(args, kwargs), source.record
        is_fixed = all(id(t) in tape.parameters for t in operands)
        is_local = is_fixed and (rule in _LOCAL or _pads_space(rule, source, args, kwargs))
        read = [] if is_local and len(maps) == 1 and not _reads_around(rule, args, kwargs) else maps
        windows = [(leaf.record, leaf.window) for leaf in read]
        for leaf in read:
            leaf.aliased = True  # so that a function in place leaves these cells alone
        tape.calls += 1
        try:
            result = rule(func, *args, **kwargs)
        finally:
            tape.calls -= 1
        step = Step(func, record, operands, tree_map(_new_record, result), is_local or rule in _OVER_CHANNELS)
        tape.steps.append(step)
        for kept, window in windows:
            kept.keep(window, tape.within_reach(kept, step.maps) if is_local and step.maps else kept.box)
        return result


def _new_record(leaf: Any) -> Any:
    if not isinstance(leaf, Canvas):
        return leaf
    leaf._record = None  # it was of what there was before a function in place
    return leaf.record


def _like(signal: Signal, window: Tensor, kind: type[Signal] = Signal) -> Signal:
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


def _operands(args: Any, kwargs: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and not isinstance(leaf, Signal)]


def _reads_around(rule: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the result on a window may need cells of the map outside of it."""
    if rule is sliding.convolution:
        weight = args[1] if len(args) > 1 else kwargs["weight"]
        stride = args[3] if len(args) > 3 else kwargs.get("stride", 1)
        return max(weight.shape[2:]) > 1 or set(per_axis(stride, weight.ndim - 2)) != {1}
    return rule not in _CELL_BY_CELL


class _OnCanvas(Border):
    """Whatever touches the object is kept, as far as the canvas's own maps reach; outside lie these maps."""

    @property
    def outside(self) -> Outside:  # pyright: ignore[reportIncompatibleVariableOverride]
        return "canvas"

    @property
    def keeps(self) -> Keep:  # pyright: ignore[reportIncompatibleVariableOverride]
        return "touching"


@dataclass
class Placing(Scope):
    """A pass over objects on the canvas of `tape`.

    offsets: for each sample how many pixels further on it stands than the first one says; multiples of the total stride
    that lead nowhere near the edge of the canvas. None: all in the same place.
    """

    tape: Tape = field(kw_only=True)
    offsets: tuple[tuple[int, ...], ...] | None = None
    beyond: float = 0.0  # what a pool reads outside the frame
    _next: int = 0

    def step(self, function: Any) -> Step:
        if self._next < len(self.tape.steps) and self.tape.steps[self._next].function is function:
            self._next += 1
            return self.tape.steps[self._next - 1]
        raise self.unsupported(
            describe(function), "the model took another path than on the empty canvas, so it cannot be placed"
        )


def placing(tape: Tape, root: nn.Module, offsets: tuple[tuple[int, ...], ...] | None) -> Placing:
    reach = 0 if tape.border.keeps == "frame" else tape.border.reach
    return Placing(_OnCanvas("full", reach=reach), root, warned=tape.warned, tape=tape, offsets=offsets)


class Placed(Signal):
    """A map of objects on a canvas. whole: the same on the whole canvas, once it had to be computed."""

    canvas: Record
    whole: Signal | None

    @classmethod
    def from_objects(cls, objects: Tensor, position: Sequence[int], scope: Placing) -> "Placed":
        """`objects` (N, C, *space) with their first cell at `position`; they lie wholly on the canvas."""
        canvas = scope.tape.steps[0].source
        made = cls(  # pyright: ignore[reportCallIssue]
            objects, tuple(position), canvas.frame, canvas.axes, None, canvas.lattice, scope, canvas.field, aliased=True
        )
        return made._on(canvas)

    def _on(self, canvas: Record | None, whole: Signal | None = None) -> "Placed":
        self.canvas, self.whole = canvas, whole  # pyright: ignore[reportAttributeAccessIssue]
        return self

    @property
    def placing(self) -> Placing:
        assert isinstance(self.scope, Placing)
        return self.scope

    def derive(self, *args: Any, **kwargs: Any) -> "Placed":  # pyright: ignore[reportIncompatibleMethodOverride]
        made = super().derive(*args, **kwargs)
        assert isinstance(made, Placed)
        return made._on(self.canvas)

    def crop(self) -> Tensor:
        return super().crop() if self.placing.offsets is None else self.on_whole_canvas().crop()

    def read(self, box: Box) -> Tensor:
        if self.whole is not None:
            return self.whole.read(box)
        if box == self.box:
            return self.window
        have = intersection([self.box, box])
        around = self._canvas_cells(box)
        if any(a >= b for a, b in have):
            return around.expand(len(self.window), *around.shape[1:])
        cells = _cut(self.window, self.axes, self.box, have)
        missing = [(a - first, stop - b) for (a, b), (first, stop) in zip(have, box, strict=True)]
        if not any(before or after for before, after in missing):
            return cells
        return _pasted(around, cells, self.axes, missing)

    def around(self, box: Box) -> Tensor:
        return self._canvas_cells(box)

    def _canvas_cells(self, box: Box) -> Tensor:
        """The empty canvas's cells of `box`: (1, C, …), or (N, C, …) where samples stand in different places."""
        offsets = self.placing.offsets
        if offsets is None:
            return self.canvas.read(box, self.placing.beyond)
        cells = {
            offset: self.canvas.read(self._moved(box, offset), self.placing.beyond) for offset in dict.fromkeys(offsets)
        }
        return torch.cat([cells[offset] for offset in offsets])

    def _moved(self, box: Box, offset: Sequence[int]) -> Box:
        steps = [o // int(s) for o, s in zip(offset, self.lattice.stride, strict=True)]
        return tuple((a + step, b + step) for (a, b), step in zip(box, steps, strict=True))

    def _boxes(self) -> list[Box]:
        """Where each sample's window lies."""
        offsets = self.placing.offsets
        if offsets is None:
            return [self.box] * len(self.window)
        return [self._moved(self.box, offset) for offset in offsets]

    def on_whole_canvas(self) -> Signal:
        """The same maps, all stored: a Signal under the border of the canvas."""
        if self.whole is not None:
            return self.whole
        canvas = self.canvas.whole
        cells = canvas.window.expand(len(self.window), *canvas.window.shape[1:]).contiguous(
            memory_format=memory_format_of(canvas.window)
        )
        if len(cells) == 1:
            cells = cells.clone()  # because it is the tape's
        for sample, window, box in zip(cells, self.window, self._boxes(), strict=True):
            _cut(sample, tuple(axis - 1 for axis in self.axes), canvas.box, box).copy_(window)
        return _like(canvas, cells)

    def pooled(self, name: str, canvas_value: Tensor) -> Tensor | None:
        """Mean, sum or maximum over all of space, given the empty canvas's; None if it is another function."""
        cells = self._canvas_cells(self.box)
        if name == "amax":
            boxes = self._boxes()
            elsewhere = {box: self._largest_elsewhere(box) for box in dict.fromkeys(boxes)}
            value = torch.maximum(self.window.amax(self.axes), torch.cat([elsewhere[box] for box in boxes]))
        elif name in ("mean", "sum"):
            box = self.canvas.box if self.canvas.border.name == "full" else self.canvas.frame_box
            count = prod(b - a for a, b in box)
            change = (self.window - cells).sum(self.axes)
            change = change / count if name == "mean" else change
            value = change + canvas_value.reshape(1, *change.shape[1:])
        else:
            return None
        return value.reshape(len(value), *canvas_value.shape[1:])

    def _largest_elsewhere(self, box: Box) -> Tensor:
        """The largest value of each channel of the empty canvas outside `box`: (1, C)."""
        canvas = self.canvas.whole
        missing = [(a - first, stop - b) for (a, b), (first, stop) in zip(box, canvas.box, strict=True)]
        largest = [strip.amax(self.axes) for strip in strips(canvas.window, self.axes, missing)]
        if canvas.background is not None:
            largest.append(canvas.background.amax(self.axes))
        lowest = torch.full_like(canvas.window.amax(self.axes), -torch.inf)
        return torch.stack([lowest, *largest]).amax(0)

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        source = first_signal(args, kwargs)
        assert isinstance(source, Placed)
        scope, rule = source.placing, find_rule(func)
        if scope.tape.calls or rule in _QUESTIONS:
            return rule(func, *args, **kwargs)
        step = scope.step(func)
        scope.tape.calls += 1
        try:
            return _run(func, rule, step, source, args, kwargs)
        finally:
            scope.tape.calls -= 1


def _run(func: Any, rule: Any, step: Step, source: Placed, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    scope = source.placing
    placed = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Placed)]
    if all(p.whole is None for p in placed) and _same(step.operands, _operands(args, kwargs)):
        if rule in _POOLS and isinstance(step.result, Tensor) and not isinstance(step.result, Signal):
            pooled = _global_pool(func, step, source)
            if pooled is not None:
                if scope.tape.watched:
                    UniformMaps.start(scope)
                return pooled
        elif rule in _LOCAL or _pads_space(rule, source, args, kwargs):
            scope.beyond = -torch.inf if rule is sliding.max_pool else 0.0
            result = rule(func, *args, **kwargs)
            if isinstance(result, Signal) == isinstance(
                step.result, Signal
            ):  # a pool over the whole frame is a map too
                if rule is sliding.average_pool:
                    result = _as_the_model_divides(func, step, result, args, kwargs)
                return _on_canvas(result, step)
        elif rule in _OVER_CHANNELS and step.maps and all(m.frame == step.source.frame for m in step.maps):
            return _on_canvas(rule(func, *args, **kwargs), step)
    wholes = {id(p): p.on_whole_canvas() for p in placed}
    args, kwargs = tree_map(lambda leaf: wholes.get(id(leaf), leaf), (args, kwargs))
    result = rule(func, *args, **kwargs)
    if scope.tape.watched:
        UniformMaps.start(scope)

    def wrapped(leaf: Any) -> Any:
        if not isinstance(leaf, Signal):
            return leaf
        for changed in placed:
            if wholes[id(changed)] is leaf:  # in place
                return changed._on(None, leaf)
        made: Any = Placed(  # pyright: ignore[reportCallIssue]
            leaf.window, leaf.start, leaf.frame, leaf.axes, leaf.background, leaf.lattice, scope, leaf.field
        )
        return made._on(None, leaf)

    return tree_map(wrapped, result)


def _same(expected: list[Tensor], got: list[Tensor]) -> bool:
    return len(expected) == len(got) and all(
        a is b or (a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b))
        for a, b in zip(expected, got, strict=True)
    )


def _on_canvas(result: Any, step: Step) -> Any:
    made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Placed)]
    for signal, canvas in zip(made, step.maps, strict=True):
        signal._on(canvas)
    return result


def _pads_space(rule: Any, source: Signal, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether this is F.pad, adding constant cells along space alone."""
    if rule is not shapes.padding:
        return False
    amounts = args[1] if len(args) > 1 else kwargs["pad"]
    mode = args[2] if len(args) > 2 else kwargs.get("mode", "constant")
    return mode == "constant" and len(amounts) <= 2 * (source.ndim - source.axes[0])


def _global_pool(func: Any, step: Step, source: Placed) -> Tensor | None:
    """The value of a function that leaves one number a channel, all of space taken together; None: it is none such."""
    canvas, name = step.source, str(func.__name__)
    channels = prod(size for axis, size in enumerate(canvas._sizes) if axis not in canvas.axes)
    if step.result.numel() != channels or step.result.shape[0] != 1:
        return None
    name = {"adaptive_max": "amax", "adaptive_avg": "mean", "avg": "mean"}.get(name.partition("_pool")[0], name)
    return source.pooled(name, step.result)


def _as_the_model_divides(
    func: Any, step: Step, result: Placed, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Placed:
    """An average under the model's own padding may count fewer cells at the edge than it has in its middle."""
    if step.source.border.keeps != "frame":
        return result
    if step.divisors is None:
        step.divisors = _divisors(func, step.source, result.window.new_ones(()), args, kwargs)
    if bool((step.divisors == 1).all()):
        return result
    whole = step.maps[0].frame_box
    scales = {box: _cut(step.divisors, result.axes, whole, box) for box in dict.fromkeys(result._boxes())}
    return result.derive(result.window * torch.cat([scales[box] for box in result._boxes()]), None)


def _divisors(func: Any, canvas: Signal, one: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """What the model's own average of ones is, compared with one over whole kernels with zeros outside."""
    ones = one.expand([n if axis in canvas.axes else 1 for axis, n in enumerate(canvas.shape)])

    def average(border: Border) -> Tensor:
        maps = _like(canvas, ones)
        maps.scope = Scope(border, canvas.scope.root)
        return sliding.average_pool(func, maps, *args[1:], **kwargs).window

    return average(canvas.border) / average(Border("full", reach=0))


def _cut(cells: Tensor, axes: Sequence[int], stored: Box, box: Box) -> Tensor:
    """The cells of `box`, a part of `stored`."""
    for axis, (first, _), (a, b) in zip(axes, stored, box, strict=True):
        cells = cells.narrow(axis, a - first, b - a)
    return cells


def _pasted(around: Tensor, cells: Tensor, axes: tuple[int, ...], missing: Sequence[tuple[int, int]]) -> Tensor:
    """`cells` with `around` (1 or N, C, *wider) on all the cells that are missing: each cell is written once."""
    shape = (len(cells), *around.shape[1:])
    result = torch.empty(shape, dtype=cells.dtype, device=cells.device, memory_format=memory_format_of(cells))
    for outside, strip in zip(strips(around.expand(shape), axes, missing), strips(result, axes, missing), strict=True):
        strip.copy_(outside)
    inside(result, axes, missing).copy_(cells)
    return result
