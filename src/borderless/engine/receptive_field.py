"""Receptive fields along one axis: which input pixels a cell of a map reads. Integers only; no tensor enters here.

A cell reads an interval of pixels. On a map that was upsampled, neighboring cells read intervals of different widths,
in a pattern that repeats: a `Field` holds one interval for each phase of the pattern. What lies between the pixels of
an interval may be skipped (a dilation); its two ends are read. Padding is not told from pixels: the intervals are those
of cells far from the edge. A function that mixes all of space (a global pool, GroupNorm) leaves the intervals as they
are. Under an adaptive phase cells are counted as under the fixed one: an image is as good as moved by its phase.

The functions are cached and return the same object for equal fields, so that a `Field` is compared by identity.
"""

from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import lru_cache
from math import gcd, lcm

from borderless.engine.geometry import Interval, Slide, Spread, ceil_div


class Field:
    """The pixels [start, stop) that the cells of an axis read.

    intervals: of the cells 0, 1, …, as many as one period has; None for a cell that reads no pixel, as between the
    steps of a transposed convolution. advance: how many pixels further on the same cells of the next period read.
    """

    __slots__ = ("advance", "intervals")

    def __init__(self, intervals: tuple[Interval | None, ...], advance: int) -> None:
        self.intervals = intervals
        self.advance = advance

    def of(self, cell: int) -> Interval | None:
        """Return the pixels that the cell with this frame index reads."""
        periods, phase = divmod(cell, len(self.intervals))
        interval = self.intervals[phase]
        return (
            None if interval is None else (interval[0] + periods * self.advance, interval[1] + periods * self.advance)
        )

    @property
    def width(self) -> int:
        """Number of pixels from the first to the last that a cell reads, of the cell that reads furthest."""
        return max((stop - start for start, stop in filter(None, self.intervals)), default=0)

    @property
    def reach(self) -> tuple[int | Fraction, int | Fraction]:
        """The number of pixels before and after its own position, index · stride, that a cell reads at most."""
        step = Fraction(self.advance, len(self.intervals))
        read = [(phase * step, interval) for phase, interval in enumerate(self.intervals) if interval is not None]
        before = max((position - start for position, (start, _) in read), default=Fraction(0))
        after = max((stop - 1 - position for position, (_, stop) in read), default=Fraction(0))
        return _plain(before), _plain(after)

    @property
    def has_gaps(self) -> bool:
        """Whether there are cells that read no pixel."""
        return None in self.intervals

    def meeting(self, pixels: Interval) -> Interval | None:
        """Return the cells from the first to the last that read any of `pixels`; None if none does."""
        first, stop = pixels
        return self._cells(lambda interval: (first - interval[1] + 1, stop - interval[0] - 1))

    def within(self, pixels: Interval) -> Interval | None:
        """Return the cells from the first to the last that read `pixels` and nothing else; None if none does."""
        first, stop = pixels
        return self._cells(lambda interval: (first - interval[0], stop - interval[1]))

    def _cells(self, moves: Callable[[Interval], Interval]) -> Interval | None:
        """From the first to the last cell that reads an interval of a period moved by an amount within `moves`."""
        period, found = len(self.intervals), []
        for phase, interval in enumerate(self.intervals):
            if interval is not None:
                low, high = moves(interval)
                periods = ceil_div(low, self.advance), high // self.advance
                found += [phase + count * period for count in periods if periods[0] <= periods[1]]
        return (min(found), max(found) + 1) if found else None

    def read_by(self, cells: Interval) -> Interval | None:
        """Return the pixels from the first to the last that the cells of a non-empty interval read; None if none."""
        (first, stop), period = cells, len(self.intervals)
        ends = {*range(first, min(stop, first + period)), *range(max(first, stop - period), stop)}
        return _hull(self.of(cell) for cell in ends)

    def __repr__(self) -> str:
        return f"Field({self.intervals}, advance={self.advance})"


@lru_cache(4096)
def _field(intervals: tuple[Interval | None, ...], advance: int) -> Field:
    return Field(intervals, advance)


PIXEL = _field(((0, 1),), 1)


@lru_cache(8192)
def slid(field: Field, slide: Slide) -> Field:
    """Return the field after a sliding operation: output j reads the inputs s·j - p + d·t."""
    period = len(field.intervals)
    count = period // gcd(period, slide.stride)
    # The first and the last inputs of each phase are the ones that count.
    taps = {*range(min(slide.kernel, period)), *range(max(0, slide.kernel - period), slide.kernel)}
    intervals = (
        _hull(field.of(slide.stride * j - slide.padding + slide.dilation * t) for t in taps) for j in range(count)
    )
    return _field(tuple(intervals), field.advance * slide.stride * count // period)


@lru_cache(8192)
def spread_out(field: Field, spread: Spread) -> Field:
    """Return the field after a transposed convolution: output j reads the inputs i with s·i - p + d·t = j."""
    count = len(field.intervals) * spread.stride

    def inputs(j: int) -> list[int]:
        sources = (j + spread.padding - spread.dilation * t for t in range(spread.kernel))
        return [source // spread.stride for source in sources if source % spread.stride == 0]

    return _field(tuple(_hull(field.of(i) for i in inputs(j)) for j in range(count)), field.advance)


@lru_cache(8192)
def interpolated(field: Field, factor: int, halo: int) -> Field:
    """Return the field after interpolation by a whole factor.

    halo: how many cells on either side of its position an output between two cells reads: 0 (nearest: its own alone),
    1 (linear), 2 (cubic). An output that lies on a cell reads that cell alone.
    """

    def cells(j: int) -> range:
        place, between = divmod(2 * j + 1 - factor, 2 * factor)  # (j + 1/2) / factor - 1/2
        if halo == 0:
            return range(j // factor, j // factor + 1)
        return range(place - halo + 1, place + halo + 1) if between else range(place, place + 1)

    count = len(field.intervals) * factor
    return _field(tuple(_hull(field.of(i) for i in cells(j)) for j in range(count)), field.advance)


@lru_cache(8192)
def renumbered(field: Field, before: int) -> Field:
    """Return the field of a map with `before` more cells at its start: what was cell i is cell i + before."""
    return _field(tuple(field.of(j - before) for j in range(len(field.intervals))), field.advance)


@lru_cache(8192)
def united(fields: tuple[Field, ...]) -> Field:
    """Return the field of maps of one lattice, joined cell by cell."""
    count = lcm(*(len(field.intervals) for field in fields))
    intervals = tuple(_hull(field.of(j) for field in fields) for j in range(count))
    return _field(intervals, fields[0].advance * count // len(fields[0].intervals))


def _hull(intervals: Iterable[Interval | None]) -> Interval | None:
    read = [interval for interval in intervals if interval is not None]
    return (min(start for start, _ in read), max(stop for _, stop in read)) if read else None


def _plain(number: Fraction) -> int | Fraction:
    return int(number) if number.denominator == 1 else number
