"""Multiply-adds and memory of a model on parts of an image, from a `Recording`: integers, before anything runs."""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from borderless.engine.geometry import Interval
from borderless.partition.plan import Extents, extents
from borderless.partition.record import Recording


class Cost(NamedTuple):
    """The cost of a run. macs: multiply-adds. maps, rims, waiting: the most bytes in memory at once.

    maps: feature maps of the part that runs, its input included. rims: what calls keep for later parts. waiting: the
    maps of all parts while they wait for one another, at an operation over all of space.
    """

    macs: int
    maps: int
    rims: int = 0
    waiting: int = 0

    @property
    def memory(self) -> int:
        """Bytes at most, without the model, the whole image and the whole output."""
        return self.maps + self.rims + self.waiting


def cost(recording: Recording, cuts: Sequence[Sequence[Interval]]) -> Cost:
    """Return what carried parts cost, where axis k of the image is cut into the intervals `cuts[k]`."""
    along = [extents(recording, axis, intervals) for axis, intervals in enumerate(cuts)]
    is_whole = all(len(intervals) == 1 for intervals in cuts)
    return Cost(
        _macs(recording, along),
        _maps(recording, along),
        0 if is_whole else _rims(recording, along, [len(intervals) for intervals in cuts]),
        0 if is_whole else _waiting(recording),
    )


def whole_cost(recording: Recording) -> Cost:
    """Return what the whole image costs at once."""
    return cost(recording, [[(0, n)] for n in recording.size])


def cost_alone(recording: Recording, boxes: Sequence[Sequence[Interval]]) -> Cost:
    """Return what parts cost that run each by itself, on the intervals `boxes[k]` of axis k, which may overlap."""
    along = []
    for axis, intervals in enumerate(boxes):
        parts = [extents(recording, axis, [interval]) for interval in intervals]
        along.append(
            Extents(
                [[one.maps[key][0] for one in parts] for key in range(len(recording.maps))],
                [
                    [[one.inputs[number][i][0] for one in parts] for i in range(len(call.sources))]
                    for number, call in enumerate(recording.calls)
                ],
                [],
            )
        )
    return Cost(_macs(recording, along), _maps(recording, along))


def _macs(recording: Recording, along: Sequence[Extents]) -> int:
    total = 0.0
    for number, call in enumerate(recording.calls):
        if not call.macs:
            continue
        if call.counts_inputs:
            total += call.macs * prod(sum(one.inputs[number][0]) for one in along)
        else:
            total += call.macs * prod(sum(b - a for a, b in one.maps[call.results[0]]) for one in along)
    return round(total)


def _maps(recording: Recording, along: Sequence[Extents]) -> int:
    """Return the most bytes of maps that are alive at once, with the copies of sources that a call puts rims around."""
    held = [
        made.cell_bytes * prod(max(b - a for a, b in one.maps[key]) for one in along)
        for key, made in enumerate(recording.maps)
    ]
    most = 0
    for number, (call, alive) in enumerate(zip(recording.calls, _alive(recording, held), strict=True)):
        copies = 0
        for i, source in enumerate(call.sources):
            cells = prod(max(one.inputs[number][i]) for one in along)
            read = cells * recording.maps[source].cell_bytes
            copies += read if read > held[source] else 0
        most = max(most, alive + copies)
    return max(most, sum(held[image] for image in recording.images))


def _alive(recording: Recording, held: Sequence[int]) -> list[int]:
    """Return the bytes that are alive during each call, of maps that hold so many."""
    count = len(recording.calls)
    change = [0] * (count + 1)
    for key, made in enumerate(recording.maps):
        if made.storage == key:
            change[max(0, made.call)] += held[key]
            change[min(count, recording.ends.get(key, count - 1) + 1)] -= held[key]
    alive, now = [], 0
    for difference in change[:count]:
        now += difference
        alive.append(now)
    return alive


def _rims(recording: Recording, along: Sequence[Extents], parts: Sequence[int]) -> int:
    """All rims: along an axis, of a part's cells on earlier axes and of the whole map on later ones."""
    total = 0
    for number, call in enumerate(recording.calls):
        for i, source in enumerate(call.sources):
            made = recording.maps[source]
            for k, one in enumerate(along):
                cells = max(one.rims[number][i])
                earlier = prod(max(b - a for a, b in before.maps[source]) for before in along[:k])
                later = prod(b - a for a, b in made.whole[k + 1 :])
                copies = 2 if any(n > 1 for n in parts[k + 1 :]) else 1  # the next rim grows while this one is read
                total += made.cell_bytes * cells * earlier * later * copies
    return total


def _waiting(recording: Recording) -> int:
    held = [made.cell_bytes * prod(b - a for a, b in made.whole) for made in recording.maps]
    alive = _alive(recording, held)
    return max((alive[number] for number, call in enumerate(recording.calls) if call.gathers), default=0)
