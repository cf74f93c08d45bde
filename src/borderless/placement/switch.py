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
from borderless.placement.scene import Span
from borderless.placement.tape import Step, StoredMap, Tape

# The cost of a call of a function on windows, and of writing a byte of a map and reading it again, in multiply-adds
# that take as long. Measured on a core of a server's CPU (25 billion of them a second), and on an H100 (7,000 billion,
# float32 without TF32), where a call takes 0.1 ms and windows run at a part of the rate of whole maps.
_CALL = {"cpu": 1.5e7, "cuda": 3e9}
_BYTE = {"cpu": 12.0, "cuda": 8.0}
# A function that slides over windows first puts the canvas's cells around them: twice it is copied.
_COPIES = 3
# The cost of a plan, per step: its call is taped, and its windows are compared with its whole map.
_PLANNED = {"cpu": 3e7, "cuda": 1.5e9}
# Windows are taken where they save that share of the cost: they take up to a fifth longer than they count.
_SAVED = 0.2
# The bytes with which a batch uses caches best: of image and largest map, and after windows of the largest map alone.
_IN_CACHES = {"cpu": 30 * 2**20}
_LEAST_WINDOWS = 8  # of a batch
# Of the largest map of a pass: itself, what is read for it, what comes out of it, and what a branch still holds.
_MAPS_AT_A_TIME = 6
_MAPS_OF_A_BATCH = 4  # that runs without windows
_MOST_SWITCHES = 32  # that are compared

_NO_ROOM = (1, 1, 0)


@dataclass(frozen=True)
class Arrangement:
    """A way to run objects. switch: the step from which on all maps are whole; 0: no windows at all.

    groups: numbers of the objects whose windows run together, and the box of each: that of the object, or larger with
    cells of the canvas, so that others have a box of the same size. cost: in multiply-adds. sample_bytes: of an object.
    at_once: objects of the batches that run fastest; None: as many as there is memory for.
    """

    switch: int
    groups: list[list[tuple[int, tuple[Span, ...]]]]
    cost: float
    sample_bytes: int
    at_once: int | None = None

    def batch(self, budget: int) -> int:
        """Return the number of objects of a batch, whose maps may take `budget` bytes."""
        fits = max(1, budget // self.sample_bytes)
        return min(fits, self.at_once or fits)


def choose(tape: Tape, spans: Sequence[tuple[Span, ...]], samples: int, device: str) -> Arrangement:
    """Return the cheapest way to run objects on the canvas of `tape`.

    Args:
        tape: The pass over the empty canvas.
        spans: Of each object, the pixels that it covers along each axis.
        samples: Number of objects at each of the `spans`.
        device: Type of the device, as PyTorch names it.
    """
    choices = Arrangements(tape, spans, samples, device)
    dense, best = choices.dense, None
    least = (1 - _SAVED) * dense.cost - choices.planned
    for switch in choices.switches:
        if choices.after(switch) < least:
            found = min((choices.at(switch, bucket) for bucket in choices.buckets), key=lambda one: one.cost)
            if found.cost < least:
                best, least = found, found.cost
    return best or dense


class Arrangements:
    """The ways to run objects.

    switches: the steps at which windows may end. buckets: see `at`. planned: the multiply-adds of a plan, which whole
    canvases save from the next placement of their kind on.
    """

    def __init__(self, tape: Tape, spans: Sequence[tuple[Span, ...]], samples: int, device: str) -> None:
        steps, maps = tape.steps, [step.maps for step in tape.steps]
        source = steps[0].source
        planned, self._call, self._byte = (costs.get(device, costs["cuda"]) for costs in (_PLANNED, _CALL, _BYTE))
        self.planned = len(steps) * planned
        self._in_caches = _IN_CACHES.get(device)
        self._spans, self._samples, self._count = spans, samples, len(spans) * samples
        self._image = source.whole_bytes
        self._largest = np.array([max([m.whole_bytes for m in made], default=0) for made in maps])
        whole = [
            step.macs + self._byte * sum(m.whole_bytes for m in made) for step, made in zip(steps, maps, strict=True)
        ]
        self._rest = np.append(np.cumsum(whole[::-1])[::-1], 0.0)
        self._windows = np.array([_window_cost(step, self._byte) for step in steps])
        self._crossing = _bytes_that_cross(steps, maps)
        self._axes = [_Axis(axis, source, steps, maps) for axis in range(len(source.frame))]
        self.switches = _candidates(steps)
        size = max(b - a for span in spans for a, b in span)
        self.buckets = (None, size, 2 * size)

    @property
    def dense(self) -> Arrangement:
        """All objects on whole canvases."""
        used = max(self._image, int(self._largest.max()))
        cost = self._count * (self._rest[0] + self._byte * self._image)
        at_once = self._at_once(self._image + used, 1)
        return Arrangement(0, [], cost, _MAPS_OF_A_BATCH * used, at_once)

    def _at_once(self, largest: int, least: int) -> int | None:
        return None if self._in_caches is None or not largest else max(least, self._in_caches // largest)

    def after(self, switch: int) -> float:
        """Return the cost from `switch` on."""
        return float(self._count * (self._rest[switch] + self._byte * self._crossing[switch]))

    def at(self, switch: int, bucket: int | None) -> Arrangement:
        """Return windows before the step `switch`.

        bucket: objects at an edge within that many pixels run as one box of the canvas, and those inside begin at a
        multiple of the stride; None: no object is enlarged.
        """
        along = [
            _arranged([span[axis] for span in self._spans], *cells.rooms[switch], bucket)
            for axis, cells in enumerate(self._axes)
        ]
        boxes = [tuple(box for box, _ in each) for each in zip(*along, strict=True)]
        groups: dict[object, list[tuple[int, tuple[Span, ...]]]] = {}
        for number, each in enumerate(zip(*along, strict=True)):
            groups.setdefault(tuple(key for _, key in each), []).append((number, boxes[number]))
        shares = np.ones((switch, len(boxes)))
        for cells, spans in zip(self._axes, zip(*boxes, strict=True), strict=True):
            shares *= cells.shares(switch, spans)
        cost = self._samples * float(self._windows[:switch] @ shares.sum(1)) + self._call * switch * len(groups)
        used = int(max(self._image, *(self._largest[:switch] * shares.max(1)), *self._largest[switch:]))
        at_once = self._at_once(int(max(self._largest[switch:], default=0)), _LEAST_WINDOWS)
        passes = 1 if at_once is None else -(-self._count // at_once)
        cost += self.after(switch) + self._call * passes * (len(self._windows) - switch)
        return Arrangement(switch, list(groups.values()), cost, _MAPS_AT_A_TIME * used, at_once)


class _Axis:
    """The cells of all maps along one axis.

    rooms: for each switch, the room of the maps before it.
    """

    def __init__(
        self, axis: int, source: StoredMap, steps: Sequence[Step], maps: Sequence[Sequence[StoredMap]]
    ) -> None:
        self._shares: dict[tuple[int, Span], float] = {}
        numbers: dict[tuple[Field, Interval], int] = {}
        self._of_step: list[int] = []  # the number of its first map's cells among the known; -1: it has other axes
        self.rooms = [_room(source.field[axis], source.box[axis])]
        for step, made in zip(steps, maps, strict=True):
            room, number = self.rooms[-1], -1
            for place, m in enumerate(made or [step.source]):
                if len(m.frame) != len(source.frame):
                    continue
                cells = m.field[axis], m.box[axis]
                if place == 0:
                    number = numbers.setdefault(cells, len(numbers))
                is_ordered = m.lattice.axes is None or m.lattice.axes[axis] == axis
                room = _joined(room, _room(*cells) if is_ordered else _NO_ROOM)
            self._of_step.append(number)
            self.rooms.append(room)
        self._known = list(numbers)

    def shares(self, switch: int, spans: Sequence[Span]) -> np.ndarray:
        """Return, for each step before `switch` and each object, the share of the map that the object's window covers.

        Maps with other axes are covered.
        """
        unique, places = np.unique(np.array(spans), axis=0, return_inverse=True)
        pixels = [(int(a), int(b)) for a, b in unique]
        table = [[self._share(number, each) for each in pixels] for number in range(len(self._known))]
        return np.array([*table, [1.0] * len(pixels)])[self._of_step[:switch]][:, places.ravel()]

    def _share(self, number: int, pixels: Span) -> float:
        found = self._shares.get((number, pixels))
        if found is None:
            field, (first, stop) = self._known[number]
            cells = field.meeting(pixels)
            covered = 1 if cells is None else max(1, min(stop, cells[1]) - max(first, cells[0]))
            found = self._shares[number, pixels] = covered / (stop - first)
        return found


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


def _bytes_that_cross(steps: Sequence[Step], maps: Sequence[Sequence[StoredMap]]) -> np.ndarray:
    """Return, for each switch, the bytes of the maps made before it that are read from there on."""
    made: dict[int, int] = {}
    last: dict[int, tuple[int, StoredMap]] = {}
    for step, results in zip(steps, maps, strict=True):
        for m in (step.source, *results):
            made.setdefault(id(m), step.index)
        last |= {id(m): (step.index, m) for m in step.sources}
    crossing = np.zeros(len(steps) + 1)
    for key, (index, m) in last.items():
        if key in made:
            crossing[made[key] + 1 : index + 1] += m.whole_bytes
    return crossing


Room = tuple[int, int, int]


@lru_cache(1024)
def _room(field: Field, box: Interval) -> Room:
    """Return the stride of a map, and the pixels [low, high) in which objects influence no cell at an edge."""
    if field.has_gaps:
        return _NO_ROOM
    (first, stop), period = box, len(field.intervals)
    # A window may hold a cell or two that read no object.
    before = [field.of(cell) for cell in range(first + 2 - period, first + 2)]
    after = [field.of(cell) for cell in range(stop - 2, stop - 2 + period)]
    return field.advance, max(read[1] for read in before if read), min(read[0] for read in after if read)


def _joined(one: Room, other: Room) -> Room:
    """Return the room of two maps together."""
    if _NO_ROOM in (one, other):
        return _NO_ROOM
    return lcm(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2])


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
