"""Indices of maxima over space: absolute positions, which an unlimited plane has no numbers for."""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from borderless.engine.geometry import Box, Slide
from borderless.engine.naming import describe
from borderless.engine.receptive_field import interpolated
from borderless.engine.registry import find_rule, rule, traits_of
from borderless.engine.relabeled import Relabeled
from borderless.engine.rules.joining import joint_box
from borderless.engine.rules.plan import Plan, check_axes, per_axis
from borderless.engine.rules.resampling import on_finer_lattice
from borderless.engine.signal import Signal
from borderless.engine.tiles import ranges_of, same_period, tile
from borderless.engine.torch_internals import tree_leaves, tree_map

# Cells that differ by less, in units of rounding of a map's largest value, are equal: all background is, and where a
# maximum is among equal cells must not depend on how each was rounded.
_TIES = 256


class Indices(Signal):
    """Indices that `maker` gave, of the shape that the unmodified model would see.

    slides: of the pool within whose kernels the window counts cells, row by row; None: nothing is known of them.
    source: the frame of the map that was pooled, whose cells the unmodified model counts. on_frame: of maxima over all
    of space, lets the map leave and returns where they are on its frame.
    """

    maker: Any
    slides: tuple[Slide, ...] | None = None
    source: tuple[int, ...] = ()
    on_frame: Callable[[], Tensor] | None = None

    @classmethod
    def of(cls, maker: Any, like: Signal, window: Tensor, background: Tensor | None = None) -> "Indices":
        """Return indices on the cells of `like`."""
        made = cls(  # pyright: ignore[reportCallIssue]
            window, like.start, like.frame, like.axes, background, like.lattice, like.scope, like.field
        )
        made.maker = maker
        return made

    @classmethod
    def unknown(cls, maker: Any, signal: Signal, shape: Sequence[int]) -> "Indices":
        """Return indices of `shape` that nobody may read, of a reduction of `signal`."""
        stored = torch.zeros((), dtype=torch.int64, device=signal.device).expand(tuple(shape))
        made = cls(stored, (), (), (), None, signal.lattice, signal.scope, ())  # pyright: ignore[reportCallIssue]
        made.maker = maker
        return made

    @classmethod
    def over_space(
        cls, maker: Any, signal: Signal, shape: Sequence[int], find: Callable[[Tensor], Tensor]
    ) -> "Indices":
        """Return indices of `shape` of the extremes over all of space, which `find` finds on the frame."""
        seen = signal if isinstance(signal, Relabeled) else None
        call, frame = signal.scope.call_of(maker), signal.frame
        if seen is not None:
            call, frame = seen.flattened_by or call, seen.map.frame

        @cache
        def on_frame() -> Tensor:
            signal.scope.leaves(call, frame, tuple(shape))
            return find(signal.crop())

        made = cls.unknown(maker, signal, shape)
        made.on_frame = on_frame
        return made

    def crop(self) -> Tensor:
        """Return where the largest cells of a frame are; refuse other indices, which would leave the model."""
        if self.on_frame is not None:
            return self.on_frame()
        raise self._refusal("the output, or an attribute, of the model")

    def _refusal(self, reader: str) -> Exception:
        return self.scope.unsupported(
            f"{reader}, which reads the indices of {describe(self.maker)},",
            "indices of maxima over space are absolute positions. Write max_unpool for what is to return to where it "
            "was, or go on with the values alone",
        )

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = find_rule(func)
        if found is max_unpool or traits_of(found).needs == "nothing":
            return super().__torch_function__(func, types, args, kwargs)
        unread = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, cls) and leaf.on_frame is None]
        if unread:
            raise unread[0]._refusal(describe(func))
        read = tree_map(lambda leaf: leaf.crop() if isinstance(leaf, cls) else leaf, (args, kwargs or {}))
        return func(*read[0], **read[1])


def indices_of(function: Any, planned: Plan, pooled: Signal) -> Indices:
    """Return the indices of a max pool within its kernels; of cells equal up to rounding the first is the largest."""
    slides = planned.slides
    if any(
        s.dilation != 1 or (s.ceil_mode and s.frame(n) != s._replace(ceil_mode=False).frame(n))
        for s, n in zip(slides, planned.source.frame, strict=True)
    ):
        return Indices.unknown(function, pooled, pooled.shape)
    kernel, stride = tuple(s.kernel for s in slides), tuple(s.stride for s in slides)

    def within(cells: Tensor) -> Tensor:
        """Return, for every kernel, which of its cells is the first of the largest ones."""
        scale = cells.abs().amax(planned.source.axes, keepdim=True)
        largest = function(cells, kernel, stride) - _TIES * torch.finfo(cells.dtype).eps * scale
        found = torch.zeros(largest.shape, dtype=torch.int64, device=cells.device)
        for number, offsets in reversed(list(enumerate(product(*map(range, kernel))))):
            seen = cells
            for axis, (first, step) in enumerate(zip(offsets, stride, strict=True), 2):
                count = largest.shape[axis]
                seen = seen.narrow(axis, first, (count - 1) * step + 1)
                seen = seen[(slice(None),) * axis + (slice(None, None, step),)]
            found = torch.where(seen >= largest, number, found)
        return found

    background = None if planned.background is None else planned.response(within)
    made = Indices.of(function, pooled, within(planned.cells()), background)
    made.slides, made.source = slides, planned.source.frame
    return made


@rule(F.max_unpool1d, F.max_unpool2d, F.max_unpool3d)
def max_unpool(
    function: Any,
    signal: Signal,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Signal:
    """Put each cell where the maximum of its kernel was, zeros elsewhere."""
    count = int(function.__name__[-2])
    check_axes(signal, count, function)
    kernel, padding = per_axis(kernel_size, count), per_axis(padding, count)
    stride = kernel if stride is None or stride == [] else per_axis(stride, count)
    sizes = zip(signal.frame, kernel, stride, padding, strict=True)
    frame = tuple((n - 1) * s - 2 * p + k for n, k, s, p in sizes)
    frame = frame if output_size is None else tuple(output_size)[-count:]
    field = tuple(interpolated(*pair, 0) for pair in zip(signal.field, stride, strict=True))
    if not isinstance(indices, Indices):
        if not signal.border.is_own:
            raise signal.scope.unsupported(
                describe(function), "its indices come from no max pool of this pass: give those of max_pool, unchanged"
            )
        numbers = indices.window if isinstance(indices, Signal) else indices
        window = function(signal.window, numbers, kernel, stride, padding, output_size)
        box = tuple((0, n) for n in frame)
        return on_finer_lattice(signal, stride, window, None, box, frame, field)
    if indices.slides is None or indices.source != frame:
        raise signal.scope.unsupported(
            describe(function),
            f"it puts cells on a map of {frame}, and their indices count the cells of {indices.source or 'a map'} of "
            f"{describe(indices.maker)}. Write both with equal kernels, strides and paddings, without dilation, for "
            "sizes that the stride divides, or give output_size the size before the pool",
        )
    slides = indices.slides
    box = joint_box([signal, indices], function)
    has_neighbors = [edge.outside == "background" for edge in signal.edges]
    spread = _Spread(slides, box, has_neighbors, [edge.keeps == "inside" for edge in signal.edges])
    window = spread.of(signal.read(spread.read), indices.read(spread.read), spread.read, spread.made)
    background = None
    if signal.background is not None:
        assert indices.background is not None
        around, positions = same_period([signal.background, indices.background], [signal.axes] * 2, dense=True)
        cells = tuple((0, around.shape[axis]) for axis in signal.axes)
        count = len(slides)
        tiled = _Spread(slides, tuple((a - 1, b + 1) for a, b in cells), [True] * count, [False] * count)
        around, positions = (tile(part, signal.axes, ranges_of(tiled.read), dense=True) for part in (around, positions))
        pattern = tuple((0, s.stride * b) for s, (_, b) in zip(slides, cells, strict=True))
        background = tiled.of(around, positions, tiled.read, pattern)
    elif indices.background is not None:
        raise AssertionError("maps of one pass all have a background, or none has")
    stride = tuple(s.stride for s in slides)
    field = tuple(interpolated(*pair, 0) for pair in zip(signal.field, stride, strict=True))
    return on_finer_lattice(signal, stride, window, background, spread.made, frame, field)


class _Spread:
    """Put cells where the maxima of their kernels were; where kernels overlap, the last one in row-major order wins.

    box: of the cells. read: with their neighbors, whose kernels reach as far. made: the finer cells that come of it.
    """

    def __init__(
        self, slides: tuple[Slide, ...], box: Box, has_neighbors: Sequence[bool], is_inside: Sequence[bool]
    ) -> None:
        self.slides = slides
        beyond = [-(-s.kernel // s.stride) - 1 for s in slides]  # how many further kernels a finer cell may lie in
        axes = zip(beyond, box, has_neighbors, strict=True)
        self.read = tuple((a - k, b + k) if has else (a, b) for k, (a, b), has in axes)
        ends = [
            (s.stride * a - s.padding, s.stride * (b - 1) - s.padding + s.kernel)
            for s, (a, b) in zip(slides, box, strict=True)
        ]
        lost = [s.kernel - s.stride if inside else 0 for s, inside in zip(slides, is_inside, strict=True)]
        self.made = tuple((first + k, stop - k) for k, (first, stop) in zip(lost, ends, strict=True))

    def of(self, values: Tensor, positions: Tensor, box: Box, made: Box) -> Tensor:
        """Return (N, C, *made): each of the `values` (N, C, *box) at its position within a kernel, zeros elsewhere."""
        shape = torch.broadcast_shapes(values.shape, positions.shape)
        values, positions = values.expand(shape), positions.expand(shape)
        target, is_there, rest = torch.zeros_like(positions), torch.ones_like(positions, dtype=torch.bool), positions
        step = 1
        for i in reversed(range(len(self.slides))):
            slide, (a, b), (first, stop) = self.slides[i], box[i], made[i]
            starts = slide.stride * torch.arange(a, b, device=positions.device) - slide.padding - first
            along = rest % slide.kernel + starts.reshape(-1, *[1] * (len(self.slides) - 1 - i))
            rest = rest // slide.kernel
            is_there = is_there & (along >= 0) & (along < stop - first)
            target = target + step * along
            step *= stop - first
        target = torch.where(is_there, target, step).flatten(2)  # what lies outside goes to a cell of its own
        order = torch.arange(target.shape[2], device=target.device).expand(target.shape)
        last = target.new_full((*shape[:2], step + 1), -1).scatter_reduce(2, target, order, "amax")[..., :step]
        found = values.flatten(2).gather(2, last.clamp_min(0))
        return torch.where(last < 0, found.new_zeros(()), found).unflatten(2, [stop - first for first, stop in made])
