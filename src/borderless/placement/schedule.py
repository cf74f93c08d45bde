"""Schedule of a placement: positions that run together, and those that another position with the same output covers.

Three ways, the cheapest that is exact: on an unbounded plane, on windows of the empty canvas's maps, or whole canvases.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from borderless.engine.aliases import CellsForgotten
from borderless.engine.events import Event
from borderless.engine.forward_pass import ForwardPass
from borderless.engine.lattice import Lattice
from borderless.engine.signal import Signal
from borderless.errors import ImageError
from borderless.placement.replay import ReplayedSignal, placing
from borderless.placement.single_pass import SinglePass
from borderless.placement.tape import NotKept, RecordedSignal, RowsMixed, Tape

Position = tuple[int, int]
# Events after which an output depends on where the frame is.
_OF_THE_FRAME = frozenset({"position", "leaves"})
# Under these an object changes a window of each map around itself, and nothing else.
_WINDOWED = ("zero", "full", "infinite")
# Of the largest window of a pass: itself, what is read for it, what comes out of it, and what a branch still holds.
_WINDOWS_AT_A_TIME = 6


@dataclass
class _Group:
    """Positions that run in one pass.

    cut: the part of a patch that is on the canvas. members: for each position that is run, the numbers of the positions
    with the same output.
    """

    cut: tuple[slice, ...]
    members: dict[Any, list[int]] = field(default_factory=lambda: defaultdict(list))


@dataclass
class Placement:
    """The objects of a placement, and its passes.

    empty: the canvas without an object, (1, C, H, W). budget: bytes that the windows of a pass may take. per_sample:
    bytes that one object takes. apart: whether objects run one by one, because the model joins or selects rows of its
    batch, or may.
    """

    model: nn.Module
    run: "SinglePass"
    patches: Tensor
    empty: Tensor
    budget: int
    progress: Callable[[int, int], Any] | None
    per_sample: int = 0  # bytes
    apart: bool = False

    def at(self, positions: list[Position]) -> Tensor:
        """Return the outputs at `positions`: (positions, patches, ...)."""
        border = self.run.border
        endless = border.name == "infinite" and border.reach is None and _is_all(self.empty, border.background)
        if endless and (on_a_plane := self._on_a_plane(positions)) is not None:
            return self._answers(positions, *on_a_plane)
        if border.name not in _WINDOWED or border.is_adaptive or border.at is not None:
            return self._answers(positions, *self._whole(positions))
        rows, columns = zip(*positions, strict=True)
        size = space_of(self.patches)
        region = (min(rows), max(rows) + size[0]), (min(columns), max(columns) + size[1])
        for part in (region, None):
            tape = Tape(border, self.model, warned=self.run.warned, region=part, shares_passes=True)
            try:
                return self._answers(positions, *self._on_a_tape(positions, tape))
            except NotKept:
                continue
            except (CellsForgotten, RowsMixed):  # nor does it tell what in-place operations leave around other maps
                return self._answers(positions, *self._whole(positions))
            finally:  # its maps know it, and it knows its maps: without this, large as they are, they would stay
                tape.steps.clear()
        raise AssertionError("a tape that keeps everything lacks nothing")

    def _answers(self, positions: list[Position], groups: "list[_Group]", make: Callable[..., Any]) -> Tensor:
        answers: dict[int, Tensor] = {}
        for group in groups:
            places = [members[0] for members in group.members.values()]
            found = self._run_group(group, [positions[i] for i in places], make)
            for answer, members in zip(found, group.members.values(), strict=True):
                answers.update(dict.fromkeys(members, answer))
            if self.progress is not None:
                self.progress(len(answers) * len(self.patches), len(positions) * len(self.patches))
        return torch.stack([answers[i] for i in range(len(positions))])

    def _run_group(self, group: _Group, places: list[Position], make: Callable[..., Any]) -> Tensor:
        """Return (positions, patches, *output), in passes that keep to the budget."""
        samples = [(place, n) for place in places for n in range(len(self.patches))]
        answers = []
        while samples:
            # A model without sliding operations stores no windows.
            now = samples[: 1 if self.apart else max(1, self.budget // max(1, self.per_sample))]
            samples = samples[len(now) :]
            cells = self.patches[[n for _, n in now]][(..., *group.cut)]
            answers.append(make([place for place, _ in now], cells))
            if answers[-1].shape[:1] != (len(now),):
                raise ImageError(
                    f"Expected one output for each image of a batch but got an output of shape "
                    f"{tuple(answers[-1].shape)} for {len(now)} images; name a module before images are mixed or "
                    "channels become images with output="
                )
        return torch.cat(answers).unflatten(0, (len(places), len(self.patches)))

    def _on_a_tape(self, positions: list[Position], tape: Tape) -> tuple[list[_Group], Callable[..., Any]]:
        """Run windows on the maps of the empty canvas; positions that share sublattices and edges run together."""
        kinds: set[str] = set()
        self.apart = False
        tape.observer = lambda event: kinds.add(event.kind)  # not the event, which would keep its map
        answer = self.run(lambda leaf: _like_image(leaf, RecordedSignal, tape), self.empty)
        self.per_sample = _WINDOWS_AT_A_TIME * tape.window_bytes(space_of(self.patches))
        movable = kinds.isdisjoint(_OF_THE_FRAME) and _is_without_place(answer)
        even = movable and bool((self.empty == self.empty[..., :1, :1]).all())
        margin, stride = tape.margin, tape.stride

        def kind(axis: int, p: int, size: int, n: int) -> tuple[Any, Any]:
            """Return what must agree for positions to run together, and for them to have the same output."""
            room = min(p, n - p - size)
            if room < margin[axis]:
                return ("at", p), p
            # No cell sees both the object and what lies beyond the canvas.
            return ("anywhere", p % stride[axis]), ("same", p % stride[axis]) if even else p

        def make(places: list[Position], cells: Tensor) -> Tensor:
            offsets = tuple(tuple(p - q for p, q in zip(place, places[0], strict=True)) for place in places)
            scope = placing(tape, self.model, offsets if any(any(o) for o in offsets) else None)
            start = [max(p, 0) for p in places[0]]
            return self.run(lambda leaf: ReplayedSignal.from_objects(leaf, start, scope), cells)

        return self._grouped(positions, kind), make

    def _on_a_plane(self, positions: list[Position]) -> tuple[list[_Group], Callable[..., Any]] | None:
        """Run on an unlimited plane of the border's own background, where all positions are equal.

        None where the model counts the cells of its window: that of a patch is not that of a whole canvas.
        """
        events: list[Event] = []
        grids: list[Lattice] = []
        self.apart = False

        def make(places: list[Position], cells: Tensor, observer: Any = None) -> Tensor:
            scope = ForwardPass(
                self.run.border, self.model, warned=self.run.warned, observer=observer, shares_passes=True
            )
            start = [max(p, 0) for p in places[0]]

            def image(leaf: Tensor) -> Signal:
                made = _like_image(leaf, Signal, scope, start, space_of(self.empty))
                grids.append(made.lattice)
                return made

            found = self.run(image, cells)
            self.apart = scope.has_mixed_rows
            return found

        probe = make([(0, 0)], self.patches[:1], events.append)
        if any(event.kind == "window" for event in events):
            return None
        maps = [event.signal for event in events if event.signal is not None]
        movable = _OF_THE_FRAME.isdisjoint(event.kind for event in events) and _is_without_place(probe)
        stride = (1, 1) if self.run.border.is_adaptive else grids[0].total_stride
        largest = max(m.numel() * m.element_size() for m in (self.patches[:1], *maps))
        self.per_sample = _WINDOWS_AT_A_TIME * largest

        def kind(axis: int, p: int, size: int, n: int) -> tuple[Any, Any]:
            if not movable:
                return p, p
            seen = max(p, 0)  # what is cut off on the left leaves the rest at 0
            return (min(p, 0), min(n - p - size, 0), seen % stride[axis]), seen % stride[axis]

        return self._grouped(positions, kind), make

    def _whole(self, positions: list[Position]) -> tuple[list[_Group], Callable[..., Any]]:
        """Run every canvas by itself."""
        self.apart = True
        self.per_sample = 100 * self.empty.numel() * self.empty.element_size()

        def make(places: list[Position], cells: Tensor) -> Tensor:
            scope = ForwardPass(self.run.border, self.model, warned=self.run.warned, shares_passes=True)
            canvases = self.empty.repeat(len(cells), 1, 1, 1)
            for canvas, (row, column), patch in zip(canvases, places, cells, strict=True):
                row, column = max(row, 0), max(column, 0)
                canvas[:, row : row + patch.shape[1], column : column + patch.shape[2]] = patch
            found = self.run(lambda leaf: Signal.from_image(leaf, scope), canvases)
            self.apart = scope.has_mixed_rows
            return found

        return self._grouped(positions, lambda axis, p, size, n: ((min(p, 0), min(n - p - size, 0)), p)), make

    def _grouped(self, positions: list[Position], kind: Callable[..., Any]) -> list[_Group]:
        sizes, canvas = space_of(self.patches), space_of(self.empty)
        groups: dict[Any, _Group] = {}
        for i, position in enumerate(positions):
            axes = [
                kind(axis, p, size, n) for axis, (p, size, n) in enumerate(zip(position, sizes, canvas, strict=True))
            ]
            together = tuple(key for key, _ in axes)
            cut = tuple(slice(max(-p, 0), min(size, n - p)) for p, size, n in zip(position, sizes, canvas, strict=True))
            groups.setdefault(together, _Group(cut)).members[tuple(key for _, key in axes)].append(i)
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


def _is_without_place(answer: Tensor) -> bool:
    return all(size == 1 for size in answer.shape[2:])


def _is_all(image: Tensor, color: float | tuple[float, ...]) -> bool:
    values = torch.tensor(color if isinstance(color, tuple) else (color,), dtype=image.dtype, device=image.device)
    return bool((image == values.reshape(1, -1, 1, 1)).all())


def space_of(images: Tensor) -> tuple[int, int]:
    """Return height and width."""
    return images.shape[-2], images.shape[-1]
