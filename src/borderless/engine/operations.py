"""Operations along one axis beside `geometry.Slide` and `geometry.Spread`, and the outputs that a part decides.

A part is stored on a `window`, the whole map on `whole`: what lies outside of the whole map is known (the border says
it), what lies inside of it and outside of the window is not. Integers only; no tensor enters here.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

from borderless.engine.geometry import DECIDED, Box, Interval, Keep, Mirroring, Slide, clip, outside_indices


class Operation(Protocol):
    """One axis of an operation whose outputs read intervals of inputs, further on the further on they are."""

    def frame(self, n: int) -> int:
        """Return how many outputs the unmodified model has on an axis of `n` cells."""
        ...

    def kept(self, window: Interval, n: int, keep: Keep, reach: int | None = None) -> Interval:
        """Return the outputs that are kept, of an input stored on `window` in a frame of `n` cells."""
        ...

    def needed(self, outputs: Interval) -> Interval:
        """Return the inputs that a non-empty interval of outputs reads."""
        ...


class PartOfMap(Protocol):
    """A map that is stored on `box`, of one that is stored on `whole_box`."""

    @property
    def box(self) -> Box:
        """The stored box."""
        ...

    @property
    def whole_box(self) -> Box:
        """The stored box of the whole map."""
        ...


class Interpolation(NamedTuple):
    """An interpolation by the whole number `factor`: output j lies at the input (j + 1/2) / factor - 1/2.

    halo: how many cells on either side of its position an output between two cells reads: 0 (nearest: one cell), 1
    (linear), 2 (cubic). delay: how many outputs later each comes.
    """

    factor: int
    halo: int
    delay: int = 0

    @property
    def sticking(self) -> int:
        """The number of outputs beyond those of a window's own cells that read a cell of it."""
        return (self.halo - 1) * self.factor + self.factor // 2 if self.halo and self.factor > 1 else 0

    def causal(self, n: int) -> "Interpolation":  # noqa: ARG002
        """Return the interpolation of which no output reads a later cell than its own."""
        return self._replace(delay=self.sticking)

    def frame(self, n: int) -> int:
        """Return how many outputs the unmodified model has on an axis of `n` cells."""
        return self.factor * n

    def kept(self, window: Interval, n: int, keep: Keep, reach: int | None = None) -> Interval:
        """Return the outputs that are kept, as `Slide.kept` says."""
        if keep == "frame":
            return 0, self.frame(n)
        a, b = (self.factor * end + self.delay for end in window)
        if keep in DECIDED:
            return a + self.sticking, b - self.sticking
        return clip((a - self.sticking, b + self.sticking), self.frame(n), reach)

    def needed(self, outputs: Interval) -> Interval:
        """Return the inputs that a non-empty interval of outputs reads."""
        first, stop = outputs[0] - self.delay, outputs[1] - self.delay
        if self.halo == 0 or self.factor == 1:
            return first // self.factor, (stop - 1) // self.factor + 1
        return self._below(first) - self.halo + 1, self._below(stop - 1) + self.halo + 1

    def _below(self, output: int) -> int:
        """Return the last input at or before an output."""
        return (2 * output + 1 - self.factor) // (2 * self.factor)


class Mirror(NamedTuple):
    """A padding that mirrors, repeats or goes round a frame of `n` cells; negative amounts cut cells off."""

    padding: int
    padding_after: int
    n: int
    mode: Mirroring

    def causal(self, n: int) -> "Slide | Mirror":
        """Return the padding with all of it before the first cell: repeated, or cells of which none is later."""
        moved = Slide(1, 1, self.padding, self.padding_after).causal(n)
        if self.mode != "replicate":
            return moved
        return self._replace(padding=moved.padding, padding_after=moved.padding_after)

    @property
    def reads_outside(self) -> bool:
        """Whether some outputs lie outside of the frame."""
        return self.padding > 0 or self.padding_after > 0

    def frame(self, n: int) -> int:
        """Return how many cells there are after the padding of `n`."""
        return n + self.padding + self.padding_after

    def kept(self, window: Interval, n: int, keep: Keep, reach: int | None = None) -> Interval:  # noqa: ARG002
        """Return the outputs that are kept: all, or ("inside") those that no cell beyond `window` stands for."""
        a, b = window
        before, after = max(0, self.padding), max(0, self.padding_after)
        first, stop = a + self.padding, b + self.padding
        if keep not in DECIDED or (a <= 0 and b >= self.n):
            return 0, self.frame(self.n)
        if a >= b:
            return first, first
        if self.mode != "circular" and a <= 0:
            first -= before if self.mode == "replicate" else min(before, b - 1)
        if self.mode != "circular" and b >= self.n:
            stop += after if self.mode == "replicate" else min(after, self.n - 1 - a)
        return max(0, first), min(stop, self.frame(self.n))

    def needed(self, outputs: Interval) -> Interval:
        """Return the inputs from the first to the last that a non-empty interval of outputs reads."""
        first, stop = outputs[0] - self.padding, outputs[1] - self.padding
        cells = [max(first, 0)] if first < self.n else []
        cells += [min(stop, self.n) - 1] if stop > 0 else []
        cells += outside_indices((first, min(stop, 0)), self.n, self.mode)
        cells += outside_indices((max(first, self.n), stop), self.n, self.mode)
        return min(cells), max(cells) + 1


class OnMirrored(NamedTuple):
    """An `operation` on a frame of `n` cells, outside of which other cells of the frame stand for what it reads."""

    operation: Operation
    n: int
    mode: Mirroring

    def frame(self, n: int) -> int:
        """Return how many outputs the unmodified model has on an axis of `n` cells."""
        return self.operation.frame(n)

    def kept(self, window: Interval, n: int, keep: Keep, reach: int | None = None) -> Interval:
        """Return the outputs that are kept; "inside": those that no cell beyond `window` stands for."""
        if keep not in DECIDED:
            return self.operation.kept(window, n, keep, reach)
        mirror = self._mirror()
        first, stop = mirror.kept(window, n, keep)
        return self.operation.kept((first - mirror.padding, stop - mirror.padding), n, keep)

    def needed(self, outputs: Interval) -> Interval:
        """Return the inputs from the first to the last that a non-empty interval of outputs reads."""
        mirror = self._mirror()
        first, stop = self.operation.needed(outputs)
        return mirror.needed((first + mirror.padding, stop + mirror.padding))

    @property
    def reads_outside(self) -> bool:
        """Whether the operation reads cells outside of the frame."""
        return self._mirror().reads_outside

    def _mirror(self) -> Mirror:
        first, stop = self.operation.needed(self.operation.kept((0, self.n), self.n, "frame"))
        return Mirror(max(0, -first), max(0, stop - self.n), self.n, self.mode)


@lru_cache(8192)
def kept(
    operations: tuple[Operation, ...], box: Box, frame: tuple[int, ...], keeps: tuple[Keep, ...], reach: int | None
) -> Box:
    """Return the outputs that are kept along each axis, of a map stored on `box` in a `frame`."""
    axes = zip(operations, box, frame, keeps, strict=True)
    return tuple([o.kept(window, n, keep, reach) for o, window, n, keep in axes])


def common_part(maps: Sequence[PartOfMap], has_outside: Sequence[bool]) -> Box:
    """Return the cells that are known of all `maps`, which are joined; may be empty.

    has_outside: along each axis, whether something lies outside of whole maps; where a part holds the end of an axis it
    is known too.
    """
    common = []
    axes = zip(*(zip(one.box, one.whole_box, strict=True) for one in maps), strict=True)
    for goes_on, windows in zip(has_outside, axes, strict=True):
        if goes_on:
            low, high = min(whole[0] for _, whole in windows), max(whole[1] for _, whole in windows)
        else:
            low, high = max(whole[0] for _, whole in windows), min(whole[1] for _, whole in windows)
        first = max(low if window[0] <= whole[0] else window[0] for window, whole in windows)
        stop = min(high if window[1] >= whole[1] else window[1] for window, whole in windows)
        common.append((first, max(first, stop)))
    return tuple(common)


def decided(operation: Operation, window: Interval, whole: Interval, outputs: Interval) -> Interval:
    """Return which of `outputs`, kept of the whole map, follow from the part on `window`; may be empty."""
    first, stop = operation.kept(window, whole[1], "known")
    if not isinstance(operation, Mirror | OnMirrored):  # which reads cells of the whole map for those that lie outside
        first = outputs[0] if window[0] <= whole[0] else first
        stop = outputs[1] if window[1] >= whole[1] else stop
    first = max(first, outputs[0])
    return first, max(first, min(stop, outputs[1]))
