"""Integers of a plan, one axis at a time: which pixels outputs read, and which cells each part of an image computes.

The calls of a model come from a `Recording`; nothing is computed. All parts are intervals [start, stop) of one axis.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import lcm
from typing import NamedTuple

from borderless.engine.geometry import Interval, Slide, Spread, ceil_div
from borderless.engine.operations import Interpolation, Mirror, OnMirrored, Operation, common_part, decided
from borderless.partition.part import not_done
from borderless.partition.record import Recorded, Recording


class Extents(NamedTuple):
    """One axis of the parts of an image.

    maps: of each map, the cells that each part makes. inputs: of each call, of each source, how many cells each part
    reads, those of earlier parts included. rims: the same, how many cells each part keeps for the next one.
    """

    maps: list[list[Interval]]
    inputs: list[list[list[int]]]
    rims: list[list[list[int]]]


class _StoredPart(NamedTuple):
    box: tuple[Interval, ...]
    whole_box: tuple[Interval, ...]


def extents(recording: Recording, axis: int, cuts: Sequence[Interval]) -> Extents:
    """Return what carried parts compute of each map, where the image is cut into the intervals `cuts`.

    It is what `carry.CarryPass` does with a single axis. One interval alone is a part that runs by itself.
    """
    wholes = [made.whole[axis] for made in recording.maps]
    maps: list[list[Interval]] = [[] for _ in recording.maps]
    for image in recording.images:
        maps[image] = list(cuts)
    inputs, rims = [], []
    for call in recording.calls:
        if call.gathers or not call.sources:
            for result in call.results:
                if call.sources and wholes[result] == wholes[call.sources[0]]:  # each part normalizes its own cells
                    maps[result] = maps[call.sources[0]]
                else:
                    maps[result] = [_scaled(cut, recording.size[axis], wholes[result]) for cut in cuts]
            inputs.append([[b - a for a, b in maps[source]] for source in call.sources])
            rims.append([[0] * len(cuts) for _ in call.sources])
            continue
        made, read, kept = _carried(call, axis, cuts, maps, wholes, recording.has_outside[axis])
        for result in call.results:
            maps[result] = made
        inputs.append(read)
        rims.append(kept)
    return Extents(maps, inputs, rims)


def _carried(
    call: Recorded,
    axis: int,
    cuts: Sequence[Interval],
    maps: list[list[Interval]],
    wholes: list[Interval],
    has_outside: bool,
) -> tuple[list[Interval], list[list[int]], list[list[int]]]:
    operation = call.operations[axis] if call.operations else None
    if operation is None and len(call.sources) == 1:
        own = maps[call.sources[0]]
        return own, [[b - a for a, b in own]], [[0] * len(cuts)]
    whole = wholes[call.results[0]] if call.results else wholes[call.sources[0]]
    starts: list[int | None] = [None] * len(call.sources)
    made, read, kept = [], [[] for _ in call.sources], [[0] * len(cuts) for _ in call.sources]
    done: int | None = None
    for number in range(len(cuts)):
        own = [maps[source][number] for source in call.sources]
        boxes = [(a if start is None else start, b) for start, (a, b) in zip(starts, own, strict=True)]
        first_whole = wholes[call.sources[0]]
        if number == 0:
            done = whole[0] if own[0][0] <= first_whole[0] else None
        if operation is None:
            parts = [_StoredPart((box,), (wholes[s],)) for box, s in zip(boxes, call.sources, strict=True)]
            (outputs,) = not_done(common_part(parts, [has_outside]), [done])
        else:
            (outputs,) = not_done([decided(operation, boxes[0], first_whole, whole)], [done])
        made.append(outputs)
        done = outputs[1]
        for i, (start, end) in enumerate(boxes):
            read[i].append(end - start)
            first = end
            if outputs[1] < whole[1]:
                first = operation.needed((outputs[1], whole[1]))[0] if operation else outputs[1]
                first = min(max(first, start), end)
            starts[i] = first if first < end else None
            kept[i][number] = end - first if number < len(cuts) - 1 else 0
    return made, read, kept


def _scaled(pixels: Interval, size: int, whole: Interval) -> Interval:
    """About the part of a map that belongs to an interval of pixels."""
    a, b = whole
    return a + pixels[0] * (b - a) // size, a + pixels[1] * (b - a) // size


def needed(recording: Recording, axis: int, wanted: Mapping[int, Interval]) -> Interval:
    """Return the shortest interval of pixels from which the cells `wanted` of maps, by their numbers, follow."""
    size = recording.size[axis]
    demands = _demands(
        recording, axis, {key: interval for key, interval in wanted.items() if interval[0] < interval[1]}
    )
    first = min((demands[image][0] for image in recording.images if image in demands), default=0)
    stop = max((demands[image][1] for image in recording.images if image in demands), default=1)
    first = min(max(0, first), size - 1)
    stop = max(min(stop, size), first + 1)
    while not _gives(recording, axis, (first, stop), wanted):
        assert (first, stop) != (0, size), (axis, wanted)
        first, stop = max(0, first - 1), min(size, stop + 1)
    return first, stop


def _gives(recording: Recording, axis: int, pixels: Interval, wanted: Mapping[int, Interval]) -> bool:
    maps = extents(recording, axis, [pixels]).maps
    return all(maps[key][0][0] <= a and b <= maps[key][0][1] for key, (a, b) in wanted.items())


def _demands(
    recording: Recording, axis: int, wanted: Mapping[int, Interval], *, is_interior: bool = False
) -> dict[int, Interval]:
    """Return the hulls of what is read of each map. is_interior: as if the map had no edges."""
    demands = dict(wanted)
    for call in reversed(recording.calls):
        asked = [demands[result] for result in call.results if result in demands]
        if not asked:
            continue
        outputs = min(a for a, _ in asked), max(b for _, b in asked)
        operation: Operation | None = call.operations[axis] if call.operations else None
        if is_interior and isinstance(operation, OnMirrored):
            operation = operation.operation
        if is_interior and isinstance(operation, Mirror):
            operation = Slide(1, 1, operation.padding, operation.padding_after)
        a, b = outputs if operation is None else operation.needed(outputs)
        for source in call.sources:
            low, high = recording.maps[source].whole[axis]
            piece = (a, b) if is_interior else (min(max(a, low), high - 1), max(min(b, high), low + 1))
            known = demands.get(source, piece)
            demands[source] = min(piece[0], known[0]), max(piece[1], known[1])
    return demands


def strides(recording: Recording, axis: int) -> list[Fraction]:
    """Return how many pixels apart the cells of each map are.

    A map that was resized to the size of an earlier one has its cells.
    """
    found = [Fraction(1)] * len(recording.maps)
    by_size = {recording.size[axis]: Fraction(1)}
    for call in recording.calls:
        if not call.sources:
            continue
        stride = found[call.sources[0]]
        operation = call.operations[axis] if call.operations else None
        operation = operation.operation if isinstance(operation, OnMirrored) else operation
        n = recording.maps[call.sources[0]].frame[axis]
        if isinstance(operation, Slide):
            stride *= operation.stride
        elif isinstance(operation, Spread):
            stride /= operation.stride
        elif isinstance(operation, Interpolation):
            stride /= operation.factor
        elif operation is not None and not isinstance(operation, Mirror):
            outputs = operation.frame(n)
            stride = by_size.get(outputs, stride * n / outputs)
        for result in call.results:
            found[result] = stride
            by_size.setdefault(recording.maps[result].frame[axis], stride)
    return found


def total_stride(recording: Recording, axis: int) -> int:
    """Return the least common multiple of all strides, in pixels."""
    return lcm(1, *(stride.numerator for stride in strides(recording, axis)))


def owned(stride: Fraction, pixels: Interval, size: int, whole: Interval) -> Interval:
    """Return the cells of a map that belong to an interval of pixels: their position, index · stride, lies in it.

    Cells before the first pixel belong to the first, those after the last pixel to the last. whole: all cells.
    """
    low, high = whole
    a = low if pixels[0] <= 0 else min(max(ceil_div(pixels[0] * stride.denominator, stride.numerator), low), high)
    b = high if pixels[1] >= size else min(max(ceil_div(pixels[1] * stride.denominator, stride.numerator), low), high)
    return a, max(a, b)


def owned_outputs(recording: Recording, axis: int, pixels: Interval) -> dict[int, Interval]:
    """Return the cells of each output, by its number, that belong to an interval of pixels."""
    along, found = strides(recording, axis), {}
    for key in recording.outputs:
        (low, high), n = recording.maps[key].whole[axis], recording.maps[key].frame[axis]
        low, high = max(0, low), min(high, n)
        found[key] = owned(along[key], pixels, recording.size[axis], (low, max(low, high)))
    return found


def read_by(recording: Recording, axis: int, pixels: Interval) -> Interval:
    """Return the pixels that the outputs read which belong to an interval of pixels."""
    return needed(recording, axis, owned_outputs(recording, axis, pixels))


def margins(recording: Recording, axis: int) -> Interval:
    """Return how many pixels before and after its own a tile reads, which begins and ends far from the edge.

    Its ends are multiples of the total stride. Only where no operation weighs cells by their position in the frame.
    """
    step, found = total_stride(recording, axis), strides(recording, axis)
    wanted = {key: (0, step * found[key].denominator // found[key].numerator) for key in recording.outputs}
    demands = _demands(recording, axis, wanted, is_interior=True)
    read = [demands[image] for image in recording.images if image in demands]
    before, after = max(-a for a, _ in read), max(b for _, b in read) - step
    return max(0, before), max(0, after)
