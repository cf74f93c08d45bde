"""Schedule of a placement: positions that run together, and those that another position with the same output covers.

Four ways, the cheapest that is exact: on an unbounded plane; on windows of the empty canvas's maps, all the way or as
far as windows pay; or whole canvases.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from borderless.engine.aliases import CellsForgotten
from borderless.engine.events import Event
from borderless.engine.forward_pass import ForwardPass
from borderless.engine.lattice import Lattice
from borderless.engine.signal import Signal
from borderless.errors import ImageError
from borderless.placement.bundle import BundledSignal, PartsDiffer
from borderless.placement.replay import ReplayedSignal, placing
from borderless.placement.single_pass import SinglePass
from borderless.placement.switch import Arrangement, Span, choose
from borderless.placement.tape import NotKept, RecordedSignal, RowsMixed, Tape

Position = tuple[int, int]
# Events after which an output depends on where the frame is.
_OF_THE_FRAME = frozenset({"position", "leaves"})
# Under these an object changes a window of each map around itself, and nothing else.
_WINDOWED = ("zero", "full", "infinite")
# Of the largest window of a pass: itself, what is read for it, what comes out of it, and what a branch still holds.
_WINDOWS_AT_A_TIME = 6


# The patches (N, C, H, W) that a position has.
Objects = Callable[[Position], Tensor]


@dataclass
class _Group:
    """Positions that run in one pass.

    members: for each position that is run, the numbers of the positions with the same output.
    """

    members: dict[Any, list[int]] = field(default_factory=lambda: defaultdict(list))


@dataclass
class Placement:
    """The objects of a placement, and its passes.

    empty: the canvas without an object, (1, C, H, W). patches: the same ones at all positions, or those of a position.
    size: of a patch. budget: bytes that the maps of a pass may take. whole: the output of the empty canvas, if it ran.
    per_sample: bytes that one object takes. apart: whether objects run one by one, because the model joins or selects
    rows of its batch, or may.
    """

    model: nn.Module
    run: "SinglePass"
    patches: Tensor | Objects
    size: tuple[int, int]
    empty: Tensor
    budget: int
    progress: Callable[[int, int], Any] | None
    whole: Tensor | None = None
    per_sample: int = 0  # bytes
    apart: bool = False

    def at(self, positions: list[Position]) -> Tensor:
        """Return the outputs at `positions`: (positions, patches, ...)."""
        border = self.run.border
        unlimited = border.name == "infinite" and border.reach is None and _is_all(self.empty, border.background)
        if isinstance(self.patches, Tensor) and unlimited and (found := self._on_a_plane(positions)) is not None:
            return self._outputs(positions, *found)
        if border.name not in _WINDOWED or border.is_adaptive or border.at is not None:
            return self._whole_canvases(positions)
        spans = [self._span(position) for position in positions]
        region = tuple((min(a for a, _ in axis), max(b for _, b in axis)) for axis in zip(*spans, strict=True))
        for part in (region, None):
            tape = Tape(border, self.model, warned=self.run.warned, region=part, shares_passes=True)
            try:
                return self._on_a_tape(positions, tape)
            except NotKept:
                continue
            except (CellsForgotten, RowsMixed, PartsDiffer):  # nor does it tell what in-place operations leave around
                return self._whole_canvases(positions)
            finally:  # its maps know it, and it knows its maps: without this, large as they are, they would stay
                tape.steps.clear()
        raise AssertionError("a tape that keeps everything lacks nothing")

    def of_canvas(self) -> Tensor:
        """Return the output of the empty canvas: (1, ...)."""
        if self.whole is None:
            scope = ForwardPass(self.run.border, self.model, warned=self.run.warned, shares_passes=True)
            self.whole = self.run(lambda leaf: Signal.from_image(leaf, scope), self.empty)
        return self.whole

    def _outputs(self, positions: list[Position], groups: "list[_Group]", make: Callable[..., Any]) -> Tensor:
        outputs: dict[int, Tensor] = {}
        for group in groups:
            where = [positions[members[0]] for members in group.members.values()]
            samples = [(position, n) for position in where for n in range(self._count)]
            found = []
            while samples:
                # A model without sliding operations stores no windows.
                now = samples[: 1 if self.apart else max(1, self.budget // max(1, self.per_sample))]
                samples = samples[len(now) :]
                found.append(self._checked(make(now), len(now)))
            each = torch.cat(found).unflatten(0, (len(where), self._count))
            for output, members in zip(each, group.members.values(), strict=True):
                outputs.update(dict.fromkeys(members, output))
            self._report(len(outputs), len(positions))
        return torch.stack([outputs[i] for i in range(len(positions))])

    @property
    def _count(self) -> int:
        return len(self._patches_at((0, 0)))

    def _patches_at(self, position: Position) -> Tensor:
        return self.patches if isinstance(self.patches, Tensor) else self.patches(position)

    def _report(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(done * self._count, total * self._count)

    def _checked(self, output: Tensor, count: int) -> Tensor:
        if output.shape[:1] != (count,):
            raise ImageError(
                f"Expected one output for each image of a batch but got an output of shape {tuple(output.shape)} for "
                f"{count} images; name a module before images are mixed or channels become images with output="
            )
        return output

    def _span(self, position: Position) -> tuple[Span, ...]:
        """Return the pixels of the canvas that a patch covers."""
        axes = zip(position, self.size, space_of(self.empty), strict=True)
        return tuple((max(p, 0), min(p + size, n)) for p, size, n in axes)

    def _objects(self, samples: Sequence[tuple[Position, int]]) -> Tensor:
        """Return the parts of patches on the canvas, equally large at all positions: (samples, C, height, width)."""
        cells = []
        for position, n in samples:
            axes = zip(position, self._span(position), strict=True)
            cells.append(self._patches_at(position)[n][(..., *(slice(a - p, b - p) for p, (a, b) in axes))])
        return torch.stack(cells)

    def _drawn(self, samples: Sequence[tuple[Position, int]], boxes: Sequence[tuple[Span, ...]]) -> Tensor:
        """Return the cells of the `boxes` of the canvas, all of one size, with a patch on each."""
        cells = torch.cat([self.empty[(..., *(slice(a, b) for a, b in box))] for box in boxes])
        for image, sample, box in zip(cells, samples, boxes, strict=True):
            axes = zip(self._span(sample[0]), box, strict=True)
            image[(..., *(slice(a - first, b - first) for (a, b), (first, _) in axes))] = self._objects([sample])[0]
        return cells

    def _on_a_tape(self, positions: list[Position], tape: Tape) -> Tensor:
        """Run on windows of the maps of the empty canvas as far as they pay, then on whole canvases."""
        self.whole = self.run(lambda leaf: _like_image(leaf, RecordedSignal, tape), self.empty)
        movable = tape.kinds.isdisjoint(_OF_THE_FRAME) and _is_without_place(self.whole)
        even = movable and isinstance(self.patches, Tensor) and bool((self.empty == self.empty[..., :1, :1]).all())
        margin, stride = tape.margin, tape.stride

        def kind(axis: int, p: int, size: int, n: int) -> tuple[Any, Any]:
            """Return what must agree for positions to have the same output."""
            room = min(p, n - p - size)
            return None, p if room < margin[axis] or not even else ("inside", p % stride[axis])

        members = [some for group in self._grouped(positions, kind) for some in group.members.values()]
        spans = [self._span(positions[some[0]]) for some in members]
        choice = choose(tape, spans, self._count, self.empty.device.type)
        self.apart = True
        outputs: list[Tensor | None] = [None] * len(positions)
        done = 0
        for numbers, found in self._run_choice(choice, [positions[some[0]] for some in members], tape):
            for number, output in zip(numbers, found, strict=True):
                done += len(members[number])
                for i in members[number]:
                    outputs[i] = output
            self._report(done, len(positions))
        return torch.stack([output for output in outputs if output is not None])

    def _run_choice(
        self, choice: Arrangement, positions: list[Position], tape: Tape
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Yield numbers of `positions` and their outputs, (numbers, patches, *output), pass by pass."""
        count = self._count
        most = max(1, self.budget // choice.sample_bytes)
        step = max(1, most // count)
        queue = [(number, box, key) for key, group in enumerate(choice.groups) for number, box in group]
        queue = queue or [(number, (), 0) for number in range(len(positions))]
        for first in range(0, len(queue), step):
            now = queue[first : first + step]
            samples = [(positions[number], box, key, n) for number, box, key in now for n in range(count)]
            found = []
            for start in range(0, len(samples), most):
                some = samples[start : start + most]
                make = self._canvases if choice.switch == 0 else self._windows
                found.append(self._checked(make(some, tape, choice.switch), len(some)))
            yield [number for number, _, _ in now], torch.cat(found).unflatten(0, (len(now), count))

    def _canvases(self, samples: Sequence[Any], tape: Tape, switch: int) -> Tensor:
        """Run whole canvases as one batch: the first of them along the tape, which refuses models that mix images."""
        whole = tuple((0, n) for n in space_of(self.empty))
        canvases = self._drawn([(position, n) for position, _, _, n in samples], [whole] * len(samples))
        if self.apart or self.run.is_converted:
            scope = placing(tape, self.model, None, switch)
            self.apart = False
            return self.run(lambda leaf: ReplayedSignal.from_canvases(leaf, scope), canvases)
        return self.run(lambda leaf: leaf, canvases)

    def _windows(self, samples: Sequence[Any], tape: Tape, switch: int) -> Tensor:
        """Run windows before the step `switch`, each group of them by itself, then whole canvases."""
        parts = []
        for _, some in groupby(samples, key=lambda sample: sample[2]):
            group = list(some)
            boxes = [box for _, box, _, _ in group]
            start = tuple(a for a, _ in boxes[0])
            offsets = tuple(tuple(a - q for (a, _), q in zip(box, start, strict=True)) for box in boxes)
            scope = placing(tape, self.model, offsets if any(any(o) for o in offsets) else None, switch)
            cells = self._drawn([(position, n) for position, _, _, n in group], boxes)
            parts.append((cells, start, scope))

        def images(_: Tensor) -> Signal:
            signals = [ReplayedSignal.from_objects(*part) for part in parts]
            if len(signals) == 1:
                return signals[0]
            scope = placing(tape, self.model, None, switch)
            scope.samples = len(samples)
            return BundledSignal.of(signals, scope)

        return self.run(images, self.empty.expand(len(samples), *self.empty.shape[1:]))

    def _on_a_plane(self, positions: list[Position]) -> tuple[list[_Group], Callable[..., Any]] | None:
        """Run on an unlimited plane of the border's own background, where all positions are equal.

        None where the model counts the cells of its window: that of a patch is not that of a whole canvas.
        """
        events: list[Event] = []
        grids: list[Lattice] = []
        self.apart = False

        def make(samples: list[tuple[Position, int]], observer: Any = None) -> Tensor:
            scope = ForwardPass(
                self.run.border, self.model, warned=self.run.warned, observer=observer, shares_passes=True
            )
            start = [max(p, 0) for p in samples[0][0]]

            def image(leaf: Tensor) -> Signal:
                made = _like_image(leaf, Signal, scope, start, space_of(self.empty))
                grids.append(made.lattice)
                return made

            found = self.run(image, self._objects(samples))
            self.apart = scope.has_mixed_rows
            return found

        probe = make([((0, 0), 0)], events.append)
        if any(event.kind == "window" for event in events):
            return None
        maps = [event.signal for event in events if event.signal is not None]
        movable = _OF_THE_FRAME.isdisjoint(event.kind for event in events) and _is_without_place(probe)
        stride = (1, 1) if self.run.border.is_adaptive else grids[0].total_stride
        largest = max(m.numel() * m.element_size() for m in (self._objects([((0, 0), 0)]), *maps))
        self.per_sample = _WINDOWS_AT_A_TIME * largest

        def kind(axis: int, p: int, size: int, n: int) -> tuple[Any, Any]:
            if not movable:
                return p, p
            seen = max(p, 0)  # what is cut off on the left leaves the rest at 0
            return (min(p, 0), min(n - p - size, 0), seen % stride[axis]), seen % stride[axis]

        return self._grouped(positions, kind), make

    def _whole_canvases(self, positions: list[Position]) -> Tensor:
        """Run every canvas by itself, several at a time where the model does not mix rows of the batch."""
        self.apart = True
        self.per_sample = 100 * self.empty.numel() * self.empty.element_size()

        def make(samples: list[tuple[Position, int]]) -> Tensor:
            scope = ForwardPass(self.run.border, self.model, warned=self.run.warned, shares_passes=True)
            whole = tuple((0, n) for n in space_of(self.empty))
            canvases = self._drawn(samples, [whole] * len(samples))
            found = self.run(lambda leaf: Signal.from_image(leaf, scope), canvases)
            self.apart = scope.has_mixed_rows
            return found

        return self._outputs(positions, self._grouped(positions, lambda axis, p, size, n: (None, p)), make)

    def _grouped(self, positions: list[Position], kind: Callable[..., Any]) -> list[_Group]:
        sizes, canvas = self.size, space_of(self.empty)
        groups: dict[Any, _Group] = {}
        for i, position in enumerate(positions):
            axes = [
                kind(axis, p, size, n) for axis, (p, size, n) in enumerate(zip(position, sizes, canvas, strict=True))
            ]
            together = tuple(key for key, _ in axes)
            groups.setdefault(together, _Group()).members[tuple(key for _, key in axes)].append(i)
        return list(groups.values())


def _like_image(
    image: Tensor,
    kind: type[Signal],
    scope: ForwardPass,
    start: Sequence[int] = (0, 0),
    frame: Sequence[int] | None = None,
) -> Signal:
    whole = Signal.from_image(image, scope)
    size = whole.frame if frame is None else tuple(frame)
    return kind(  # pyright: ignore[reportCallIssue]
        image, tuple(start), size, whole.axes, whole.background, whole.lattice, scope, whole.field, aliased=True
    )


def _is_without_place(output: Tensor) -> bool:
    return all(size == 1 for size in output.shape[2:])


def _is_all(image: Tensor, color: float | tuple[float, ...]) -> bool:
    values = torch.tensor(color if isinstance(color, tuple) else (color,), dtype=image.dtype, device=image.device)
    return bool((image == values.reshape(1, -1, 1, 1)).all())


def space_of(images: Tensor) -> tuple[int, int]:
    """Return height and width."""
    return images.shape[-2], images.shape[-1]
