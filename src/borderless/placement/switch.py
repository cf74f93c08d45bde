"""The step at which a placement leaves windows for whole maps, and the objects that run together until there.

A window costs the share of a map that it covers, and one call of each function for every group of objects whose windows
have the same size and lie on the same sublattice. A deep map's window is most of the map: from some step on it is
cheaper to paste the windows into the canvas's maps and to run all objects as one batch. All costs are counted from the
tape, in multiply-adds; no clock decides, so that a result can be reproduced.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import lcm

import numpy as np

from borderless.engine.geometry import Interval
from borderless.engine.receptive_field import Field
from borderless.placement.tape import Step, StoredMap, Tape

# The cost of a call of a function on windows, and of writing a byte of a map and reading it again, in multiply-adds
# that take as long. Measured on a core of a server's CPU (25 billion of them a second), and on an H100 (7,000 billion,
# float32 without TF32), where a call takes 0.1 ms and windows run at a part of the rate of whole maps.
_CALL = {"cpu": 1.5e7, "cuda": 3e9}
_BYTE = {"cpu": 12.0, "cuda": 8.0}
# A function that slides over windows first puts the canvas's cells around them: twice it is copied.
_COPIES = 3
# Of the largest map of a pass: itself, what is read for it, what comes out of it, and what a branch still holds.
_MAPS_AT_A_TIME = 6
_MOST_SWITCHES = 32  # that are compared

_NO_ROOM = (1, 1, 0)
Span = tuple[int, int]  # of an object along an axis: the pixels [first, stop)


@dataclass(frozen=True)
class Arrangement:
    """A way to run objects. switch: the step from which on all maps are whole; 0: no windows at all.

    groups: numbers of the objects whose windows run together, and the box of each: that of the object, or larger with
    cells of the canvas, so that others have a box of the same size. cost: in multiply-adds. sample_bytes: of an object.
    """

    switch: int
    groups: list[list[tuple[int, tuple[Span, ...]]]]
    cost: float
    sample_bytes: int


def choose(tape: Tape, spans: Sequence[tuple[Span, ...]], samples: int, device: str) -> Arrangement:
    """Return the cheapest way to run objects on the canvas of `tape`.

    Args:
        tape: The pass over the empty canvas.
        spans: Of each object, the pixels that it covers along each axis.
        samples: Number of objects at each of the `spans`.
        device: Type of the device, as PyTorch names it.
    """
    choices = Arrangements(tape, spans, samples, device)
    best = choices.dense
    for switch in choices.switches:
        if choices.after(switch) < best.cost:
            best = min(best, *(choices.at(switch, bucket) for bucket in choices.buckets), key=lambda one: one.cost)
    return best


class Arrangements:
    """The ways to run objects. switches: the steps at which windows may end. buckets: see `at`."""

    def __init__(self, tape: Tape, spans: Sequence[tuple[Span, ...]], samples: int, device: str) -> None:
        steps = self._steps = tape.steps
        self._spans, self._samples, self._count = spans, samples, len(spans) * samples
        self._call, self._byte = _CALL.get(device, _CALL["cuda"]), _BYTE.get(device, _BYTE["cuda"])
        self._image = steps[0].source.whole_bytes
        self._largest = np.array([max([m.whole_bytes for m in step.maps], default=0) for step in steps])
        whole = [step.macs + self._byte * sum(m.whole_bytes for m in step.maps) for step in steps]
        self._rest = np.append(np.cumsum(whole[::-1])[::-1], 0.0)
        self._windows = np.array([_window_cost(step, self._byte) for step in steps])
        self.switches = _candidates(steps)
        size = max(b - a for span in spans for a, b in span)
        self.buckets = (None, size, 2 * size)

    @property
    def dense(self) -> Arrangement:
        """All objects on whole canvases."""
        used = max(self._image, int(self._largest.max()))
        return Arrangement(0, [], self._count * (self._rest[0] + self._byte * self._image), _MAPS_AT_A_TIME * used)

    def after(self, switch: int) -> float:
        """Return the cost from `switch` on."""
        pasted = self._byte * sum(m.whole_bytes for m in _crossing(self._steps, switch))
        return self._count * (self._rest[switch] + pasted)

    def at(self, switch: int, bucket: int | None) -> Arrangement:
        """Return windows before the step `switch`.

        bucket: objects at an edge within that many pixels run as one box of the canvas, and those inside begin at a
        multiple of the stride; None: no object is enlarged.
        """
        steps, source = self._steps[:switch], self._steps[0].source
        maps = [source, *(m for step in steps for m in step.maps)]
        maps = [m for m in maps if len(m.frame) == len(source.frame)]
        along = []
        for axis in range(len(source.frame)):
            ordered = all(m.lattice.axes is None or m.lattice.axes[axis] == axis for m in maps)
            room = _room(tuple({(m.field[axis], m.box[axis]): None for m in maps})) if ordered else _NO_ROOM
            along.append(_arranged([span[axis] for span in self._spans], *room, bucket))
        boxes = [tuple(box for box, _ in each) for each in zip(*along, strict=True)]
        groups: dict[object, list[tuple[int, tuple[Span, ...]]]] = {}
        for number, each in enumerate(zip(*along, strict=True)):
            groups.setdefault(tuple(key for _, key in each), []).append((number, boxes[number]))
        shares = _shares(steps, boxes)
        cost = self._samples * float(self._windows[:switch] @ shares.sum(1)) + self._call * switch * len(groups)
        used = max(self._image, *(self._largest[:switch] * shares.max(1)), *self._largest[switch:])
        return Arrangement(switch, list(groups.values()), cost + self.after(switch), _MAPS_AT_A_TIME * int(used))


def _window_cost(step: Step, byte: float) -> float:
    """Return what a step costs on windows that cover all of the canvas."""
    written = sum(m.whole_bytes for m in step.maps) or step.source.whole_bytes
    return step.macs + byte * written * (_COPIES if step.need.kind == "neighborhood" else 1)


def _candidates(steps: Sequence[Step]) -> list[int]:
    """Return the steps at which windows may end: those that slide, and the first that needs all of a map."""
    end = next((step.index for step in steps if not step.need.is_local and step.maps), len(steps))
    slides = [step.index for step in steps[1:end] if step.need.kind == "neighborhood"] + [end] * (end > 0)
    thinned = slides[:: -(-len(slides) // _MOST_SWITCHES)] if slides else []
    return sorted({*thinned, *slides[-1:]})


def _crossing(steps: Sequence[Step], switch: int) -> list[StoredMap]:
    """Return the maps made before `switch` that are read from there on."""
    if switch == len(steps):
        return []
    made = {id(m): m for step in steps[:switch] for m in (step.source, *step.maps)}
    return list({id(m): m for step in steps[switch:] for m in step.sources if id(m) in made}.values())


def _shares(steps: Sequence[Step], boxes: Sequence[tuple[Span, ...]]) -> np.ndarray:
    """Return, for each step and object, the share of the step's map that its window covers."""
    shares = np.ones((len(steps), len(boxes)))
    for axis, spans in enumerate(zip(*boxes, strict=True)):
        unique, numbers = np.unique(np.array(spans), axis=0, return_inverse=True)
        known: dict[object, np.ndarray] = {}
        for i, step in enumerate(steps):
            made = step.maps[0] if step.maps else step.source
            if len(made.frame) != len(boxes[0]):
                continue
            key = made.field[axis], made.box[axis]
            if key not in known:
                known[key] = np.array([_share(made, axis, (int(a), int(b))) for a, b in unique])
            shares[i] *= known[key][numbers.ravel()]
    return shares


def _share(made: StoredMap, axis: int, pixels: Span) -> float:
    (first, stop), cells = made.box[axis], made.field[axis].meeting(pixels)
    if cells is None:
        return 1 / (stop - first)
    return max(1, min(stop, cells[1]) - max(first, cells[0])) / (stop - first)


@lru_cache(256)
def _room(maps: tuple[tuple[Field, Interval], ...]) -> tuple[int, int, int]:
    """Return the stride of the maps, and the pixels [low, high) in which objects influence no cell at an edge."""
    if any(field.has_gaps for field, _ in maps):
        return _NO_ROOM
    low, high, stride = -(2**31), 2**31, 1
    for field, (first, stop) in maps:
        period, stride = len(field.intervals), lcm(stride, field.advance)
        # A window may hold a cell or two that read no object.
        before = [field.of(cell) for cell in range(first + 2 - period, first + 2)]
        after = [field.of(cell) for cell in range(stop - 2, stop - 2 + period)]
        low = max(low, *(read[1] for read in before if read))
        high = min(high, *(read[0] for read in after if read))
    return stride, low, high


def _arranged(spans: Sequence[Span], stride: int, low: int, high: int, bucket: int | None) -> list[tuple[Span, object]]:
    """Return the box of each object along an axis, and what objects that run together have in common."""
    if bucket is None:
        return [((a, b), ("inside", a % stride, b - a) if a >= low and b <= high else ("at", a, b)) for a, b in spans]
    width = max(b - a // stride * stride for a, b in spans)
    found: list[tuple[Span, object]] = []
    at_edge: dict[object, list[Span]] = {}
    for a, b in spans:
        first = a // stride * stride
        key: object = "inside" if first >= low and first + width <= high else ("at", (a + b) // 2 // bucket)
        if key != "inside":
            at_edge.setdefault(key, []).append((a, b))
        found.append(((first, first + width), key))
    joined = {key: (min(a for a, _ in some), max(b for _, b in some)) for key, some in at_edge.items()}
    return [(joined.get(key, box), key) for box, key in found]
