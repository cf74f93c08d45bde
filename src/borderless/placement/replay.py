"""Maps of an object on a canvas: those of the empty canvas, but for the window that the object can have changed.

`tape` has run the model on the empty canvas once. When it then runs on objects, each of its maps is a `ReplayedSignal`:
it stores the window, and reads what else an operation needs from the map at the same step of the tape. An operation
that mixes all of space, or whose other operands differ from the tape's (a gate computed from the object, say), is run
on whole maps, and so is all that follows from it. So nothing is approximated; there is only more or less to compute.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from borderless.engine.aliases import Change, write_through
from borderless.engine.forward_pass import ForwardPass
from borderless.engine.geometry import Box, Mirroring, filled_box, intersection
from borderless.engine.naming import describe
from borderless.engine.padding import memory_format_of, pasted, strips
from borderless.engine.reading import cut
from borderless.engine.registry import Gather, traits_of
from borderless.engine.relabeled import Relabeled, maps_of
from borderless.engine.rules.frame_pools import FramePool
from borderless.engine.rules.indices import Indices
from borderless.engine.signal import Signal
from borderless.engine.torch_internals import tree_leaves, tree_map
from borderless.placement.averages import as_the_model_divides
from borderless.placement.canvas_edge import CanvasEdge
from borderless.placement.tape import Step, StoredMap, Tape, TapedSignal, like, operands_of


@dataclass
class Replay(ForwardPass):
    """A pass over objects on the canvas of `tape`.

    samples: the number of objects. offsets: for each sample its distance in pixels from the first one; multiples of the
    stride that lead nowhere near the edge of the canvas. None: all at one position. switch: the step from which on all
    steps run on whole maps.
    """

    tape: Tape = field(kw_only=True)
    switch: int = field(kw_only=True)
    samples: int = 0
    offsets: tuple[tuple[int, ...], ...] | None = None
    _next: int = 0

    def reads_position(self, operation: str, reason: str, frame: tuple[int, ...] = ()) -> None:
        """Do nothing: the pass over the empty canvas, under the same border, has warned already."""

    def step(self, function: Any) -> Step:
        """Return the step of the tape at which `function` was called."""
        if self._next < len(self.tape.steps) and self.tape.steps[self._next].function == function:
            self._next += 1
            return self.tape.steps[self._next - 1]
        raise self.unsupported(
            describe(function), "the model took another path than on the empty canvas, so it cannot be placed"
        )


def placing(tape: Tape, root: nn.Module, offsets: tuple[tuple[int, ...], ...] | None, switch: int) -> Replay:
    """Return a pass over objects, by `offsets` apart, along `tape`, on windows before the step `switch`."""
    edge = CanvasEdge(tape.border)
    return Replay(edge, root, warned=tape.warned, shares_passes=True, tape=tape, offsets=offsets, switch=switch)


class ReplayedSignal(TapedSignal):
    """A map of objects on a canvas. whole: the same on the whole canvas, once it had to be computed."""

    canvas: StoredMap
    whole: Signal | None
    may_pool_frame = False  # such a pool runs on whole canvases

    @classmethod
    def from_objects(cls, objects: Tensor, position: Sequence[int], scope: Replay) -> "ReplayedSignal":
        """Return `objects` (N, C, *space) with their first cell at `position`; they lie wholly on the canvas."""
        canvas, scope.samples = scope.tape.steps[0].source, len(objects)
        made = cls(  # pyright: ignore[reportCallIssue]
            objects, tuple(position), canvas.frame, canvas.axes, None, canvas.lattice, scope, canvas.field, aliased=True
        )
        return made._on(canvas)

    @classmethod
    def from_canvases(cls, canvases: Tensor, scope: Replay) -> "ReplayedSignal":
        """Return whole `canvases` (N, C, *space) with objects on them."""
        made = cls.from_objects(canvases, (0,) * (canvases.ndim - 2), scope)
        return made._on(made.canvas, like(made.canvas, canvases))

    def _on(self, canvas: StoredMap | None, whole: Signal | None = None) -> "ReplayedSignal":
        self.canvas, self.whole = canvas, whole  # pyright: ignore[reportAttributeAccessIssue]
        return self

    @property
    def placing(self) -> Replay:
        """The pass over objects."""
        assert isinstance(self.scope, Replay)
        return self.scope

    @property
    def tape(self) -> Tape:
        """The tape that it reads along."""
        return self.placing.tape

    def derive(self, *args: Any, **kwargs: Any) -> "ReplayedSignal":  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a map of the same pass, over the same map of the canvas."""
        made = super().derive(*args, **kwargs)
        assert isinstance(made, ReplayedSignal)
        return made._on(self.canvas)

    def forget(self, change: Change) -> None:
        """Forget the cells, those on the whole canvas too."""
        super().forget(change)
        if self.whole is not None:
            self.whole.forget(change)

    def crop(self) -> Tensor:
        """Return the maps on the frame of the canvas."""
        return super().crop() if self.placing.offsets is None else self.on_whole_canvas().crop()

    def read(self, box: Box, padding: float | Mirroring = 0.0) -> Tensor:
        """Return cells of the maps: the object's, and around them the canvas's, outside of which lies `padding`."""
        if self.whole is not None:
            return self.whole.read(box)
        if box == self.box:
            return self.window
        have = intersection([self.box, box])
        around = self._canvas_cells(box, padding)
        if any(a >= b for a, b in have):
            return around.expand(len(self.window), *around.shape[1:])
        cells = cut(self.window, self.axes, self.box, have)
        missing = [(a - first, stop - b) for (a, b), (first, stop) in zip(have, box, strict=True)]
        if not any(before or after for before, after in missing):
            return cells
        return pasted(around, cells, self.axes, missing)

    def around(self, box: Box) -> Tensor:
        """Return the canvas's cells of `box`."""
        return self._canvas_cells(box)

    def _canvas_cells(self, box: Box, padding: float | Mirroring = 0.0) -> Tensor:
        """Return the empty canvas's cells of `box`, for all samples; (1, C, …) where these are the same."""
        offsets = self.placing.offsets
        if offsets is None:
            return self._for_each_sample(self.canvas.read(box, padding))
        cells = {offset: self.canvas.read(self._moved(box, offset), padding) for offset in dict.fromkeys(offsets)}
        return torch.cat([cells[offset] for offset in offsets])

    def _moved(self, box: Box, offset: Sequence[int]) -> Box:
        steps = [int(o / Fraction(s)) for o, s in zip(offset, self.lattice.stride, strict=True)]
        return tuple((a + step, b + step) for (a, b), step in zip(box, steps, strict=True))

    def _for_each_sample(self, cells: Tensor) -> Tensor:
        """Return `cells` of the canvas, repeated for every sample where channels were folded into the batch."""
        return cells if len(cells) == 1 else cells.repeat(self.placing.samples, *[1] * (cells.ndim - 1))

    def boxes_of_rows(self) -> list[Box]:
        """Return the box of the window for each row of the batch; rows of one sample follow each other."""
        offsets = self.placing.offsets
        if offsets is None:
            return [self.box] * len(self.window)
        rows = len(self.window) // len(offsets)
        return [box for offset in offsets for box in [self._moved(self.box, offset)] * rows]

    def on_whole_canvas(self) -> Signal:
        """Return the same maps, all stored: a Signal under the border of the canvas."""
        if self.whole is not None:
            return self.whole
        canvas = self.canvas.whole
        cells = self._for_each_sample(canvas.window).expand(self._sizes[0], *canvas.window.shape[1:])
        cells = cells.clone(memory_format=memory_format_of(canvas.window))  # because they are the tape's
        self.paste(cells, canvas.box)
        whole = like(canvas, cells)
        if whole.background is not None:
            whole.background = self._for_each_sample(whole.background)
        return whole

    def paste(self, cells: Tensor, box: Box) -> None:
        """Write the windows into `cells`, maps that are stored on `box`."""
        for sample, window, own in zip(cells, self.window, self.boxes_of_rows(), strict=True):
            cut(sample, tuple(axis - 1 for axis in self.axes), box, own).copy_(window)

    def pooled(self, gather: Gather, canvas_value: Tensor) -> Tensor:
        """Return the mean, sum or maximum over all of space, given the empty canvas's."""
        cells = self._canvas_cells(self.box)
        if gather == "max":
            boxes = self.boxes_of_rows()
            elsewhere = {box: self._largest_elsewhere(box) for box in dict.fromkeys(boxes)}
            value = torch.maximum(self.window.amax(self.axes), torch.cat([elsewhere[box] for box in boxes]))
        else:
            border, frame, box = self.canvas.border, self.canvas.frame, self.canvas.box
            count: float = prod(frame)
            if border.name == "full":
                count = prod(b - a for a, b in box)
            elif border.count == "window":
                count = filled_box(box, frame)
            change = (self.window - cells).sum(self.axes)
            if gather == "mean":
                change = change / count
            elif border.count == "window":  # a sum is the mean times the cells of the frame
                change = change * (prod(frame) / count)
            value = change + canvas_value.reshape(1, *change.shape[1:])
        return value.reshape(len(value), *canvas_value.shape[1:])

    def _largest_elsewhere(self, box: Box) -> Tensor:
        """Return the largest value of each channel of the empty canvas outside `box`: (1, C)."""
        canvas = self.canvas.whole
        missing = [(a - first, stop - b) for (a, b), (first, stop) in zip(box, canvas.box, strict=True)]
        largest = [strip.amax(self.axes) for strip in strips(canvas.window, self.axes, missing)]
        if canvas.background is not None:
            largest.append(canvas.background.amax(self.axes))
        lowest = torch.full_like(canvas.window.amax(self.axes), -torch.inf)
        return torch.stack([lowest, *largest]).amax(0)

    def called(self, func: Any, rule: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the rule on windows where that is exact, else on whole maps."""
        step = self.placing.step(func)
        leaves = tree_leaves((args, kwargs))
        placed = [leaf for leaf in leaves if isinstance(leaf, ReplayedSignal)]
        is_windowed = step.index < self.placing.switch and all(p.whole is None for p in placed)
        if is_windowed and _same(step.operands, operands_of(leaves)):
            result = self.on_windows(func, rule, step, args, kwargs)
            if result is not NotImplemented:
                return result
        for p in placed if step.index >= self.placing.switch else ():
            p._on(p.canvas, p.on_whole_canvas())  # for all that read it from here on
        result = _on_whole_maps(func, rule, self.placing, args, kwargs)
        _checked_maps(result, step)
        return result

    def on_windows(self, func: Any, rule: Any, step: Step, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what `func` makes of windows; NotImplemented where windows are not enough."""
        traits = traits_of(rule)
        gather = traits.gather(func)
        if gather is not None and isinstance(step.result, Tensor) and not isinstance(step.result, Signal):
            return _global_pool(gather, step, self)
        if not step.need.is_local or isinstance(step.result, FramePool):
            return NotImplemented
        result = rule(func, *args, **kwargs)
        if isinstance(result, Signal) != isinstance(step.result, Signal):  # a pool over the whole frame is a map too
            return NotImplemented
        if gather == "mean" and step.need.kind == "neighborhood":
            result = as_the_model_divides(func, step, result, result.boxes_of_rows(), args, kwargs)
        return _on_canvas(result, step)


def _on_whole_maps(func: Any, rule: Any, scope: Replay, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    placed = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, ReplayedSignal)]
    wholes = {id(p): p.on_whole_canvas() for p in placed}
    args, kwargs = tree_map(lambda leaf: wholes.get(id(leaf), leaf), (args, kwargs))
    result = rule(func, *args, **kwargs)

    def wrapped(leaf: Any) -> Any:
        if isinstance(leaf, Relabeled):
            return Relabeled.of(wrapped(leaf.map), leaf.batch, leaf.tokens, leaf.flattened_by)
        if not isinstance(leaf, Signal) or isinstance(leaf, FramePool | Indices):
            return leaf
        for changed in placed:
            if wholes[id(changed)] is leaf:  # in place
                if changed.memory is not None:
                    write_through(changed, func)
                return changed._on(None, leaf)
        made: Any = ReplayedSignal(  # pyright: ignore[reportCallIssue]
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
    for signal, canvas in zip(_checked_maps(result, step), step.maps, strict=True):
        signal._on(canvas)
    return result


def _checked_maps(result: Any, step: Step) -> list[ReplayedSignal]:
    """Return the maps in the result of a step, each with as many rows for an object as the canvas's has."""
    made = [leaf for leaf in tree_leaves(maps_of(result)) if isinstance(leaf, ReplayedSignal)]
    if len(made) != len(step.maps):
        raise step.source.scope.unsupported(
            describe(step.function),
            "it makes a feature map of an empty canvas, and an ordinary tensor with a value for each position where an "
            "object lies on it. Write each canvas out, and call the model on them",
        )
    for signal, canvas in zip(made, step.maps, strict=True):
        samples, alone = signal.placing.samples, (canvas._sizes[0], *canvas.shape[1:])
        if tuple(signal.shape) != (samples * alone[0], *alone[1:]):
            raise signal.scope.unsupported(
                describe(step.function),
                f"it makes a map of shape {alone} of one image and {tuple(signal.shape)} of {samples} images, and "
                "bl.place needs rows of the batch that belong to one image each",
            )
    return made


def _global_pool(gather: Gather, step: Step, source: ReplayedSignal) -> Any:
    """Return the value of a function that leaves one number per channel of all space; NotImplemented of any other."""
    canvas = step.source
    channels = prod(size for axis, size in enumerate(canvas._sizes) if axis not in canvas.axes)
    if step.result.numel() != channels or step.result.shape[0] != 1:
        return NotImplemented
    return source.pooled(gather, step.result)
