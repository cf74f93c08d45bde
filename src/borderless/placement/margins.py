"""Pixels at an edge, and cells of a map, that objects on a canvas have to do with, along one axis. Integers only."""

from collections.abc import Sequence

from borderless.engine.geometry import Interval
from borderless.engine.receptive_field import Field


def edge_margin(size: int, maps: Sequence[tuple[int, Field]]) -> int:
    """Return `Tape.margin` along an axis of `size` pixels, of maps with these frames and fields."""
    if any(read.has_gaps for _, read in maps):  # what such cells see of the edge, their fields do not tell
        return size
    edge = 0
    for frame, read in maps:
        period = len(read.intervals)
        # Whatever reads a cell beyond the frame reads all the pixels that this cell stands for.
        before = [interval for cell in range(-period, 0) if (interval := read.of(cell))]
        after = [interval for cell in range(frame, frame + period) if (interval := read.of(cell))]
        edge = max(edge, *(start + 1 for start, _ in before), *(size - stop + 1 for _, stop in after))
    return edge + max(read.width for _, read in maps) + max(read.advance for _, read in maps)


def mirrored(size: int, frame: int, field: Field, cells: int) -> int:
    """Return how many pixels from the edge those lie at most that `cells` cells at the edge of a map read."""
    first, last = field.read_by((0, cells)), field.read_by((frame - cells, frame))
    return 0 if first is None or last is None else max(first[1], size - last[0])


def read_for(pixels: Interval, window: Interval, field: Field, results: Sequence[Field]) -> Interval:
    """Return the cells of `window` that cells of `results` may read, where these read any of `pixels`."""
    if field.has_gaps or any(result.has_gaps for result in results):  # what reads no pixel may read any cell
        return window
    # A window may hold a cell or two that read no object.
    read = [result.read_by((cells[0] - 2, cells[1] + 2)) for result in results if (cells := result.meeting(pixels))]
    ends = [interval for interval in read if interval is not None]
    found = field.within((min(a for a, _ in ends), max(b for _, b in ends))) if ends else None
    return window if found is None else (max(window[0], found[0] - 1), min(window[1], found[1] + 1))
