"""Schedule of a placement: positions that run together, and those that another position with the same output covers.

Four ways, the cheapest that is exact: on an unbounded plane; on windows of the empty canvas's maps, all the way or as
far as windows pay; or whole canvases.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from borderless.engine.aliases import CellsForgotten
from borderless.engine.events import Event
from borderless.engine.forward_pass import ForwardPass
from borderless.engine.lattice import Lattice
from borderless.engine.signal import Signal
from borderless.placement.bundle import PartsDiffer
from borderless.placement.known_batches import Batches, KnownBatches, described, evenly
from borderless.placement.replay import ReplayedSignal, placing
from borderless.placement.rows import RowsMixed, checked, is_same, rows_apart, without_row
from borderless.placement.scene import Position, Sample, Scene, space_of
from borderless.placement.single_pass import SinglePass
from borderless.placement.switch import choose
from borderless.placement.tape import NotKept, RecordedSignal, Tape
from borderless.placement.windows import Windows

# Events after which an output depends on where the frame is.
_OF_THE_FRAME = frozenset({"position", "leaves"})
# Under these an object changes a window of each map around itself, and nothing else.
_WINDOWED = ("zero", "full", "infinite")
# Of the largest window of a pass: itself, what is read for it, what comes out of it, and what a branch still holds.
_WINDOWS_AT_A_TIME = 6


# Positions that run in one pass: for each that runs, the numbers of those with its output.
_Group = dict[Any, list[int]]


@dataclass
class Placement:
    """The objects of a placement, and its passes.

    budget: bytes that the maps of a pass may take. needs_canvas: whether the output of the empty canvas is needed too.
    whole: that output, once it ran. per_sample: bytes that one object takes. are_apart: whether objects run one by one,
    because the model joins or selects rows of its batch; None: it is not known. asked: number of positions.
    """

    model: nn.Module
    run: "SinglePass"
    known: KnownBatches
    scene: Scene
    budget: int
    progress: Callable[[int, int], Any] | None
    needs_canvas: bool = False
    whole: Tensor | None = None
    per_sample: int = 0  # bytes
    are_apart: bool | None = None
    asked: int = 0

    def at(self, positions: list[Position]) -> Tensor:
        """Return the outputs at `positions`: (positions, patches, ...)."""
        self.asked = len(positions)
        border = self.run.border
        unlimited = border.name == "infinite" and border.reach is None and self.scene.is_all(border.background)
        if isinstance(self.scene.patches, Tensor) and unlimited and (found := self._on_a_plane(positions)) is not None:
            return self._outputs(positions, *found)
        if border.name not in _WINDOWED or border.is_adaptive or border.at is not None:
            return self._whole_canvases(positions)
        kind = self._kind(positions)
        if (batches := self.known.kinds.get(kind)) is not None:
            return self._in_batches(positions, batches)
        spans = [self.scene.span(position) for position in positions]
        region = tuple((min(a for a, _ in axis), max(b for _, b in axis)) for axis in zip(*spans, strict=True))
        for part in (region, None):
            tape = Tape(border, self.model, warned=self.run.warned, region=part, shares_passes=True)
            try:
                return self._on_a_tape(positions, tape, kind)
            except NotKept:
                continue
            except (CellsForgotten, PartsDiffer):  # nor does it tell what in-place operations leave around
                return self._whole_canvases(positions)
            except RowsMixed:
                self.are_apart = True
                return self._whole_canvases(positions)
            finally:  # its maps know it, and it knows its maps: without this, large as they are, they would stay
                tape.steps.clear()
        raise AssertionError("a tape that keeps everything lacks nothing")

    def of_canvas(self) -> Tensor:
        """Return the output of the empty canvas: (1, ...)."""
        if self.whole is None:
            scope = ForwardPass(self.run.border, self.model, warned=self.run.warned, shares_passes=True)
            self.whole = self.run(lambda leaf: Signal.from_image(leaf, scope), self.scene.empty)
        return self.whole

    def _outputs(self, positions: list[Position], groups: list[_Group], make: Callable[..., Any]) -> Tensor:
        outputs: dict[int, Tensor] = {}
        for group in groups:
            where = [positions[members[0]] for members in group.values()]
            found = self._of_group(self._samples(where), make)
            each = torch.cat(found).unflatten(0, (len(where), self.scene.count))
            for output, members in zip(each, group.values(), strict=True):
                outputs.update(dict.fromkeys(members, output))
            self._report(len(outputs), len(positions))
        return torch.stack([outputs[i] for i in range(len(positions))])

    def _of_group(self, samples: list[Sample], make: Callable[..., Any]) -> list[Tensor]:
        """Return the outputs of samples that may run in one pass, pass by pass."""
        # A model without sliding operations stores no windows.
        most, found = max(1, self.budget // max(1, self.per_sample)), []
        if self.are_apart is None and len(samples) > 2:
            found = [checked(make(samples[:1]), 1)]
            now = samples[1 : 1 + most]
            if self.are_apart is None:  # the first runs once more, among others
                middle = len(now) // 2
                rows = checked(make([*now[:middle], samples[0], *now[middle:]]), len(now) + 1)
                self.are_apart = self.are_apart or not is_same(rows[middle], found[0][0])
                found += [] if self.are_apart else [without_row(rows, middle)]
            samples = samples[sum(map(len, found)) :]
        step = most if self.are_apart is False else 1
        return found + [
            checked(make(some), len(some)) for some in (samples[k : k + step] for k in range(0, len(samples), step))
        ]

    def _report(self, done: int, total: int) -> None:
        if self.progress is not None:
            outputs = self.asked * self.scene.count
            self.progress(outputs * done // total, outputs)

    def _on_a_tape(self, positions: list[Position], tape: Tape, kind: Hashable) -> Tensor:
        """Run on windows of the maps of the empty canvas as far as they pay, then on whole canvases."""
        self.whole = self.run(lambda leaf: _like_image(leaf, RecordedSignal, tape), self.scene.empty)
        movable = tape.kinds.isdisjoint(_OF_THE_FRAME) and _is_without_place(self.whole)
        even = movable and self.scene.is_even
        margin, stride = tape.margin, tape.stride

        def agreeing(axis: int, p: int, size: int, n: int) -> tuple[Any, Any]:
            """Return what must agree for positions to have the same output."""
            room = min(p, n - p - size)
            return None, p if room < margin[axis] or not even else ("inside", p % stride[axis])

        members = [some for group in self._grouped(positions, agreeing) for some in group.values()]
        runs = [positions[some[0]] for some in members]
        choice = choose(tape, [self.scene.span(each) for each in runs], self.scene.count, self.scene.empty.device.type)
        if choice.switch == 0:
            self._check_rows(runs, tape)
            batches = Batches(members, choice.batch(self.budget))
            self.known.keep(kind, batches)
            return self._in_batches(positions, batches)  # as later calls, so that these return the same to the last bit
        windows = Windows(self.model, self.run, self.scene, tape, choice, self.of_canvas())
        outputs: dict[int, Tensor] = {}
        for numbers, found in windows.outputs(runs, self.budget):
            outputs.update(zip(numbers, found, strict=True))
            self._report(sum(len(members[number]) for number in outputs), len(positions))
        return _spread(torch.stack([outputs[number] for number in range(len(members))]), members)

    def _kind(self, positions: list[Position]) -> Hashable:
        """Return all that tells how to run, but for the model."""
        run, scene, canvas = self.run, self.scene, self.scene.empty
        return (
            (run.is_converted, run.border, id(run.module), run.pool, described(run.channels), described(run.images)),
            (described(run.args), described(run.kwargs)),
            (tuple(canvas.shape), canvas.stride(), canvas.dtype, canvas.device),
            (scene.size, scene.count, scene.is_even, self.budget, tuple(positions)),
        )

    def _check_rows(self, positions: list[Position], tape: Tape) -> None:
        """Raise RowsMixed, or an error, for a model that mixes images; the empty canvas runs among others for it."""
        samples, scope = self._samples(positions[:2]), placing(tape, self.model, None, 0)
        rows = [samples[0], None, *samples[1:2]]
        canvases = self.scene.canvases(rows)
        found = checked(self.run(lambda leaf: ReplayedSignal.from_canvases(leaf, scope), canvases), len(rows))
        rows_apart(found, 1, self.of_canvas())

    def _in_batches(self, positions: list[Position], batches: Batches) -> Tensor:
        """Run whole canvases in batches that are known to be right, the empty one among them where it is needed."""
        samples = self._samples([positions[some[0]] for some in batches.members])
        rows: list[Sample | None] = [*([None] if self.needs_canvas else []), *samples]
        size, found = evenly(len(rows), batches.at_once), []
        for first in range(0, len(rows), size):
            some = rows[first : first + size]
            found.append(checked(self._in_a_batch(some), len(some)))
            self._report(first + len(some), len(rows))
        outputs = torch.cat(found)
        if self.needs_canvas:
            self.whole, outputs = outputs[:1], outputs[1:]
        return _spread(outputs.unflatten(0, (-1, self.scene.count)), batches.members)

    def _samples(self, positions: list[Position]) -> list[Sample]:
        return [(position, n) for position in positions for n in range(self.scene.count)]

    def _in_a_batch(self, samples: Sequence[Sample | None]) -> Tensor:
        canvases = self.scene.canvases(samples)
        if not self.run.is_converted:
            return self.run.unwatched(canvases)
        scope = ForwardPass(self.run.border, self.model, warned=self.run.warned, shares_passes=True)
        return self.run(lambda leaf: Signal.from_image(leaf, scope), canvases)

    def _on_a_plane(self, positions: list[Position]) -> tuple[list[_Group], Callable[..., Any]] | None:
        """Run on an unlimited plane of the border's own background, where all positions are equal.

        None where the model counts the cells of its window: that of a patch is not that of a whole canvas.
        """
        events: list[Event] = []
        grids: list[Lattice] = []

        def make(samples: list[tuple[Position, int]], observer: Any = None) -> Tensor:
            scope = ForwardPass(
                self.run.border, self.model, warned=self.run.warned, observer=observer, shares_passes=True
            )
            start = [max(p, 0) for p in samples[0][0]]

            def image(leaf: Tensor) -> Signal:
                made = _like_image(leaf, Signal, scope, start, space_of(self.scene.empty))
                grids.append(made.lattice)
                return made

            found = self.run(image, self.scene.objects(samples))
            self.are_apart = True if scope.has_mixed_rows else self.are_apart
            return found

        probe = make([((0, 0), 0)], events.append)
        if any(event.kind == "window" for event in events):
            return None
        maps = [event.signal for event in events if event.signal is not None]
        movable = _OF_THE_FRAME.isdisjoint(event.kind for event in events) and _is_without_place(probe)
        stride = (1, 1) if self.run.border.is_adaptive else grids[0].total_stride
        largest = max(m.numel() * m.element_size() for m in (self.scene.objects([((0, 0), 0)]), *maps))
        self.per_sample = _WINDOWS_AT_A_TIME * largest

        def kind(axis: int, p: int, size: int, n: int) -> tuple[Any, Any]:
            if not movable:
                return p, p
            seen = max(p, 0)  # what is cut off on the left leaves the rest at 0
            return (min(p, 0), min(n - p - size, 0), seen % stride[axis]), seen % stride[axis]

        return self._grouped(positions, kind), make

    def _whole_canvases(self, positions: list[Position]) -> Tensor:
        """Run every canvas by itself, several at a time where the model does not mix rows of the batch."""
        self.per_sample = 100 * self.scene.empty.numel() * self.scene.empty.element_size()

        def make(samples: list[tuple[Position, int]]) -> Tensor:
            scope = ForwardPass(self.run.border, self.model, warned=self.run.warned, shares_passes=True)
            found = self.run(lambda leaf: Signal.from_image(leaf, scope), self.scene.canvases(samples))
            self.are_apart = True if scope.has_mixed_rows else self.are_apart
            return found

        return self._outputs(positions, self._grouped(positions, lambda axis, p, size, n: (None, p)), make)

    def _grouped(self, positions: list[Position], kind: Callable[..., Any]) -> list[_Group]:
        sizes, canvas = self.scene.size, space_of(self.scene.empty)
        groups: dict[Any, _Group] = {}
        for i, position in enumerate(positions):
            axes = [
                kind(axis, p, size, n) for axis, (p, size, n) in enumerate(zip(position, sizes, canvas, strict=True))
            ]
            together = tuple(key for key, _ in axes)
            groups.setdefault(together, {}).setdefault(tuple(key for _, key in axes), []).append(i)
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


def _spread(outputs: Tensor, members: list[list[int]]) -> Tensor:
    """Return an output for each position; members: the numbers of the positions that have an output."""
    order = {number: at for at, some in enumerate(members) for number in some}
    at = [order[number] for number in range(len(order))]
    return outputs if at == list(range(len(outputs))) else outputs[at]
