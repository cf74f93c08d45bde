"""Interval arithmetic of sliding operations: the cells that they read, and the outputs that a border keeps.

Integers only; no tensor enters here. Along one axis the unmodified model sees a *frame*: cells 0 … n-1. A *window* is
the half-open interval [a, b) of frame indices that is stored; a may be negative and b larger than n once a map has
grown past its frame. Output j of a sliding operation with kernel k, stride s, dilation d and padding p (before) reads
the inputs s·j - p + d·t for t = 0 … k-1, that is, from s·j - p to s·j - p + e with e = d(k-1). Output indices are the
unmodified model's own, so maps of parallel branches line up by index.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

Interval = tuple[int, int]
Box = tuple[Interval, ...]
Keep = Literal["inside", "frame", "touching", "known"]
DECIDED: tuple[Keep, ...] = ("inside", "known")  # by the stored cells alone
Mirroring = Literal["reflect", "replicate", "circular"]


def ceil_div(numerator: int, denominator: int) -> int:
    """Return ⌈numerator / denominator⌉."""
    return -(-numerator // denominator)


class Slide(NamedTuple):
    """One axis of a sliding operation.

    Args:
        kernel: Number of cells of a window.
        stride: Distance between windows.
        padding: The model's original padding before the first cell.
        padding_after: The same after the last cell.
        dilation: Distance between the cells of a window.
        ceil_mode: Whether the last window may lie partly outside, as in PyTorch's pools.
    """

    kernel: int
    stride: int = 1
    padding: int = 0
    padding_after: int = 0
    dilation: int = 1
    ceil_mode: bool = False

    @property
    def extent(self) -> int:
        """Distance from the first to the last input that one output reads."""
        return self.dilation * (self.kernel - 1)

    def causal(self, n: int) -> "Slide":
        """Return the operation with all padding before the first cell, and as many outputs of `n` cells."""
        before, after = self.padding + max(self.padding_after, 0), min(self.padding_after, 0)
        if self.ceil_mode:
            after = (self.frame(n) - 1) * self.stride + self.extent + 1 - n - before
        return self._replace(padding=before, padding_after=after, ceil_mode=False)

    def frame(self, n: int) -> int:
        """Return the number of outputs that the unmodified model has on an axis of `n` cells (may be < 1)."""
        room = n + self.padding + self.padding_after - self.extent - 1
        if not self.ceil_mode:
            return room // self.stride + 1
        count = ceil_div(room, self.stride) + 1
        # PyTorch drops a last window that would start in the padding after the signal.
        return count - 1 if (count - 1) * self.stride >= n + self.padding else count

    def kept(self, window: Interval, n: int, keep: Keep, reach: int | None = None) -> Interval:
        """Return the outputs that are kept, of an input stored on `window` in a frame of `n` cells.

        "touching": every window that touches the stored input; "inside": those wholly inside it; "known": these, of a
        part of a map; "frame": the model's own. `reach` bounds how far the result may stick out of the output frame.
        The interval may be empty.
        """
        a, b = window
        if keep == "frame":
            return 0, self.frame(n)
        if keep in DECIDED:
            first = ceil_div(a + self.padding, self.stride)
            stop = (b - 1 + self.padding - self.extent) // self.stride + 1
            if keep == "inside" and self.padding < 0:  # what the model cuts off is gone where maps may not grow
                first = max(first, 0)
            if keep == "inside" and self.padding_after < 0:
                stop = min(stop, self.frame(n))
            return first, stop
        first = ceil_div(a + self.padding - self.extent, self.stride)
        # A stride can step over a lone cell: then one output, all background, stands for the empty map.
        last = max(first, (b - 1 + self.padding) // self.stride)
        return clip((first, last + 1), self.frame(n), reach)

    def cheapest_phase(self, window: Interval) -> int:
        """Return the largest of `stride` neighboring phases, 0 among them, with the fewest outputs touching the window.

        Under a phase φ the cells i - φ take the place of the cells i; outputs are kept that any of the phases needs.
        """

        def outputs(largest: int) -> int:
            first, stop = self.kept((window[0] - largest, window[1] + self.stride - 1 - largest), 0, "touching")
            return stop - first

        return min(reversed(range(self.stride)), key=outputs)

    def needed(self, outputs: Interval) -> Interval:
        """Return the inputs that a non-empty interval of outputs reads."""
        first, stop = outputs
        return self.stride * first - self.padding, self.stride * (stop - 1) - self.padding + self.extent + 1


class Spread(NamedTuple):
    """One axis of a transposed convolution: input i reaches the outputs s·i - p + d·t for t = 0 … k-1.

    `output_padding` more outputs at the end belong to the unmodified model's frame.
    """

    kernel: int
    stride: int = 1
    padding: int = 0
    output_padding: int = 0
    dilation: int = 1

    @property
    def extent(self) -> int:
        """Distance from the first to the last output that one input reaches."""
        return self.dilation * (self.kernel - 1)

    def causal(self, n: int) -> "Spread":  # noqa: ARG002
        """Return the operation that cuts off its last outputs alone: no input reaches an output before its own."""
        return self._replace(padding=0, output_padding=self.output_padding - 2 * self.padding)

    def frame(self, n: int) -> int:
        """Return how many outputs the unmodified model has on an axis of `n` cells."""
        return (n - 1) * self.stride - 2 * self.padding + self.extent + 1 + self.output_padding

    def kept(self, window: Interval, n: int, keep: Keep, reach: int | None = None) -> Interval:
        """Return the outputs that are kept, as in `Slide.kept`; "inside": those that only inputs in `window` reach."""
        a, b = window
        if keep == "frame":
            return 0, self.frame(n)
        if keep in DECIDED:
            return self.stride * (a - 1) - self.padding + self.extent + 1, self.stride * b - self.padding
        first, stop = self.reached(window)
        return clip((first, stop + self.output_padding), self.frame(n), reach)

    def reached(self, window: Interval) -> Interval:
        """Return the outputs that the inputs of a non-empty window reach."""
        a, b = window
        return self.stride * a - self.padding, self.stride * (b - 1) - self.padding + self.extent + 1

    def needed(self, outputs: Interval) -> Interval:
        """Return the inputs that reach a non-empty interval of outputs; empty between two steps of the stride."""
        first, stop = outputs
        return ceil_div(first + self.padding - self.extent, self.stride), (stop - 1 + self.padding) // self.stride + 1


def clip(window: Interval, n: int, reach: int | None) -> Interval:
    """`window` cut so that it sticks out of the frame [0, n) by at most `reach` cells; never empty."""
    if reach is None:
        return window
    a = min(max(window[0], -reach), n + reach - 1)
    return a, max(min(window[1], n + reach), a + 1)


def filled_cells(window: Interval, n: int) -> float:
    """Return the number of cells of `window` over which the content of a full frame of `n` cells spreads in effect.

    A convolution of 3 cells widens a window by 2 and spreads content as a step of a random walk does, with a variance
    of 2/3: of a window of n + g cells the content fills about the square root of n² + 4 g (effective receptive fields:
    Luo et al., NeurIPS 2016).
    """
    cells = window[1] - window[0]
    return min(float(cells), math.sqrt(n * n + 4 * max(0, cells - n)))


def filled_box(box: Box, frame: Sequence[int]) -> float:
    """Return the number of cells of `box` over which the content of a full `frame` spreads in effect."""
    return math.prod(filled_cells(window, n) for window, n in zip(box, frame, strict=True))


def union(boxes: Iterable[Box]) -> Box:
    """Return the smallest box that holds all `boxes`."""
    return tuple((min(a for a, _ in axis), max(b for _, b in axis)) for axis in zip(*boxes, strict=True))


def intersection(boxes: Iterable[Box]) -> Box:
    """Return the common part of the boxes; an axis without one comes back with stop <= start."""
    return tuple((max(a for a, _ in axis), min(b for _, b in axis)) for axis in zip(*boxes, strict=True))


def cover(window: Interval, needed: Interval) -> tuple[Interval, int, int]:
    """Return how to read `needed` from `window`: the stored part (frame indices), the cells missing before and after.

    The stored part is empty (start == stop) when the two do not meet; all of `needed` is then missing.
    """
    (a, b), (lo, hi) = window, needed
    first, stop = max(a, lo), min(b, hi)
    if first >= stop:
        return (a, a), hi - lo, 0
    return (first, stop), first - lo, hi - stop


def outside_indices(needed: Interval, n: int, mode: Mirroring) -> list[int]:
    """For each cell of `needed`, the cell of the frame [0, n) that stands for it, however far outside it lies."""
    lo, hi = needed
    if mode == "circular":
        return [i % n for i in range(lo, hi)]
    if mode == "replicate" or n == 1:
        return [min(max(i, 0), n - 1) for i in range(lo, hi)]
    period = 2 * (n - 1)
    return [min(i % period, period - i % period) for i in range(lo, hi)]


def preserved_axes(source: Sequence[int], target: Sequence[int], axes: Sequence[int]) -> tuple[int, ...] | None:
    """Return where the dimensions `axes` of shape `source` are after a reshape to `target`; None if they are lost.

    A dimension survives when it keeps its size and its index in the row-major order, that is, when the sizes before it
    multiply to the same number: (2, 6, 5, 7) → (2, 2, 3, 5, 7) keeps 5 and 7, (2, 6, 35) does not.

    >>> preserved_axes((2, 6, 5, 7), (2, 2, 3, 5, 7), (2, 3))
    (3, 4)
    >>> preserved_axes((2, 6, 5, 7), (2, 6, 35), (2, 3)) is None
    True
    """
    source, target = _without_common_batch(source, target, axes)
    found: list[int] = []
    for axis in axes:
        before = _product(source[:axis])
        places = [
            i
            for i, size in enumerate(target)
            if size == source[axis] and _product(target[:i]) == before and (not found or i > found[-1])
        ]
        if not places:
            return None
        # Among dimensions of size 1 the choice is free: take the one that leaves as many behind it as there were.
        behind = len(source) - axis
        found.append(min(places, key=lambda i: abs(len(target) - i - behind)))
    return tuple(found)


def only_splits(source: Sequence[int], target: Sequence[int]) -> bool:
    """Return whether a reshape to `target` merges no two dimensions: then it is a view, however the tensor is laid out.

    >>> only_splits((2, 6, 5, 7), (2, 2, 3, 5, 7)), only_splits((2, 2, 3, 5, 7), (2, 6, 5, 7))
    (True, False)
    """
    source, target = _without_common_batch(source, target)
    ends = {_product(target[:i]) for i in range(len(target) + 1)}
    return all(_product(source[:i]) in ends for i in range(len(source)))


def blocked_axes(
    source: Sequence[int], target: Sequence[int], axes: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return where a reshape to `target` cuts each of the dimensions `axes` into (blocks, cells of a block).

    That is, the positions of the blocks' cells, and how many a block has along each axis. None if it does not cut.

    >>> blocked_axes((2, 3, 8, 6), (2, 3, 4, 2, 3, 2), (2, 3))
    ((2, 4), (2, 2))
    >>> blocked_axes((2, 3, 8, 6), (2, 3, 48), (2, 3)) is None
    True
    """
    source, target = _without_common_batch(source, target, axes)
    places: list[int] = []
    for axis in axes:
        before = _product(source[:axis])
        found = [
            i
            for i in range(len(target) - 1)
            if _product(target[:i]) == before and target[i] * target[i + 1] == source[axis] and target[i + 1] > 1
        ]
        if not found or (places and found[0] <= places[-1] + 1):
            return None
        places.append(found[0])
    # What is not cut must stay as it is.
    rest = [size for i, size in enumerate(source) if i not in axes]
    cut = {*places, *(place + 1 for place in places)}
    if [size for i, size in enumerate(target) if i not in cut] != rest:
        return None
    return tuple(places), tuple(target[place + 1] for place in places)


def joined_axes(
    source: Sequence[int], target: Sequence[int], axes: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return where a reshape to `target` joins each of the dimensions `axes` with the one after it: depth to space.

    That is, the positions of the joined dimensions, and how many cells each cell becomes. An axis that stays alone
    becomes 1. None if the reshape does anything else.

    >>> joined_axes((2, 3, 4, 2, 3, 2), (2, 3, 8, 6), (2, 4))
    ((2, 3), (2, 2))
    >>> joined_axes((2, 3, 4, 3), (2, 12, 3), (2, 3)) is None
    True
    """
    source, target = _without_common_batch(source, target, axes)
    shape: list[int] = []
    places: list[int] = []
    counts: list[int] = []
    i, count = 0, 1
    while i < len(source):
        if i in axes:
            is_followed = i + 1 < len(source) and i + 1 not in axes
            for count in (source[i + 1], 1) if is_followed else (1,):
                if len(shape) < len(target) and target[len(shape)] == source[i] * count:
                    break
            else:
                return None
            places.append(len(shape))
            counts.append(count)
            shape.append(source[i] * count)
            i += 1 + (is_followed and count == source[i + 1])
        else:
            shape.append(source[i])
            i += 1
    return (tuple(places), tuple(counts)) if shape == list(target) else None


def _without_common_batch(
    source: Sequence[int], target: Sequence[int], axes: Sequence[int] = ()
) -> tuple[Sequence[int], Sequence[int]]:
    """Return both shapes with 1 for a batch that they share: a program that leaves its size open never compares it."""
    if 0 in axes or not source or not target or source[0] != target[0]:
        return source, target
    return (1, *source[1:]), (1, *target[1:])


def _product(sizes: Sequence[int]) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result
