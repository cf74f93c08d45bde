"""Indices of maxima over space: absolute positions, which an unlimited plane has no numbers for."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from borderless.engine.naming import describe
from borderless.engine.receptive_field import interpolated
from borderless.engine.registry import find_rule, rule, traits_of
from borderless.engine.relabeled import Relabeled
from borderless.engine.rules.joining import joint_box
from borderless.engine.rules.plan import Plan, check_axes, per_axis
from borderless.engine.rules.resampling import on_finer_lattice
from borderless.engine.signal import Signal
from borderless.engine.tiles import same_period
from borderless.engine.torch_internals import tree_leaves, tree_map


class Indices(Signal):
    """Indices that `maker` gave, of the shape that the unmodified model would see.

    kernel: of the pool within whose kernels the window counts cells, row by row; None: nothing is known of them.
    on_frame: of maxima over all of space, lets the map leave and returns where they are on its frame.
    """

    maker: Any
    kernel: tuple[int, ...] | None = None
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
            "indices of maxima over space are absolute positions. Write max_unpool, with a kernel as large as its "
            "stride, for what is to return to where it was, or go on with the values alone",
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
    """Return the indices of a max pool whose kernels tile the plane; of any other one nobody may read them."""
    kernel = tuple(slide.kernel for slide in planned.slides)
    if any(s.stride != s.kernel or s.padding or s.dilation != 1 or s.ceil_mode for s in planned.slides):
        return Indices.unknown(function, pooled, pooled.shape)

    def within(cells: Tensor) -> Tensor:
        """Return, for every kernel, which of its cells is the first of the largest ones."""
        rest: Tensor = function(cells, kernel, kernel, return_indices=True)[1]
        found = torch.zeros_like(rest)
        for i in reversed(range(len(kernel))):
            along, rest = rest % cells.shape[2 + i], rest // cells.shape[2 + i]
            first = kernel[i] * torch.arange(along.shape[2 + i], device=cells.device)
            step = 1
            for k in kernel[i + 1 :]:
                step *= k
            found = found + step * (along - first.reshape(-1, *[1] * (len(kernel) - 1 - i)))
        return found

    background = None if planned.background is None else planned.response(within)
    made = Indices.of(function, pooled, within(planned.cells()), background)
    made.kernel = kernel
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
    if indices.kernel != kernel or stride != kernel or any(padding):
        raise signal.scope.unsupported(
            describe(function),
            "only a max pool whose stride is its kernel, without padding, dilation or ceil_mode, can be undone by one "
            f"of the same kernel. Write both with equal kernels and strides in {describe(indices.maker)}",
        )
    box = joint_box([signal, indices], function)
    window = _spread(signal.read(box), indices.read(box), kernel)
    background = None
    if signal.background is not None:
        assert indices.background is not None
        around, places = same_period([signal.background, indices.background], [signal.axes] * 2)
        background = _spread(around, places, kernel)
    elif indices.background is not None:
        raise AssertionError("maps of one pass all have a background, or none has")
    grown = tuple((k * a, k * b) for k, (a, b) in zip(kernel, box, strict=True))
    return on_finer_lattice(signal, kernel, window, background, grown, frame, field)


def _spread(values: Tensor, places: Tensor, kernel: tuple[int, ...]) -> Tensor:
    """Return (N, C, *(cells · kernel)): each of the `values` (N, C, *cells) at its index within a kernel of zeros."""
    shape = torch.broadcast_shapes(values.shape, places.shape)
    values, places = values.expand(shape), places.expand(shape)
    size = 1
    for k in kernel:
        size *= k
    blocks = values.new_zeros((*shape, size)).scatter(-1, places.unsqueeze(-1), values.unsqueeze(-1))
    blocks = blocks.unflatten(-1, kernel)
    count = len(kernel)
    order = [0, 1, *(d for i in range(count) for d in (2 + i, 2 + count + i))]
    cells = [n * k for n, k in zip(shape[2:], kernel, strict=True)]
    return blocks.permute(order).reshape(*shape[:2], *cells)
