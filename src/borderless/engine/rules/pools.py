"""Pools: the largest, the mean or the norm of the cells under a kernel.

A pool that reads the whole frame at once may be meant for all of space: see `frame_pools`.
"""

from collections.abc import Callable
from functools import partial
from math import inf, prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from borderless.engine.geometry import Slide
from borderless.engine.naming import describe
from borderless.engine.registry import Declared, rule
from borderless.engine.rules.extremes import largest_over_space
from borderless.engine.rules.frame_pools import FramePool
from borderless.engine.rules.indices import indices_of
from borderless.engine.rules.plan import Plan, along_space, check_axes, has_other_dimensions, per_axis, plan
from borderless.engine.rules.reductions import mean_over_space
from borderless.engine.signal import Signal
from borderless.engine.torch_internals import HAS_LARGEST_NORM


def _read_by_max_pool(
    function: Any,
    signal: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Slide, ...]:
    slides = _slides_of_pool(function, kernel_size, stride, padding, dilation, ceil_mode)
    return along_space(signal, slides) if has_other_dimensions(signal, len(slides)) else slides


def _slides_of_pool(
    function: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple[Slide, ...]:
    count = _count_in_name(function)
    kernel, padding, dilation = (per_axis(v, count) for v in (kernel_size, padding, dilation))
    stride = kernel if stride is None or stride == [] else per_axis(stride, count)
    options = zip(kernel, stride, padding, padding, dilation, strict=True)
    return tuple(Slide(*numbers, ceil_mode) for numbers in options)


def _need_of_max_pool(function: Any, signal: Any, *args: Any, **kwargs: Any) -> Declared:
    has_indices = args[5] if len(args) > 5 else kwargs.get("return_indices", False)
    if has_indices or function in _WITH_INDICES:
        return "everything"
    slides = _read_by_max_pool(function, signal, *args, **kwargs)
    return "gathered" if _may_be_of_whole(signal, slides) else slides


_WITH_INDICES = (F.max_pool1d_with_indices, F.max_pool2d_with_indices, F.max_pool3d_with_indices)


@rule(
    *(F.max_pool1d, F.max_pool2d, F.max_pool3d, torch.max_pool1d, torch.max_pool2d, torch.max_pool3d, *_WITH_INDICES),
    needs=_need_of_max_pool,
    beyond=-torch.inf,
)
def max_pool(
    function: Any,
    signal: Signal,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Pool with what lies outside under `full` (0), `infinite` and `circular`; other borders keep the pool's -inf."""
    count = _count_in_name(function)
    slides = _slides_of_pool(function, kernel_size, stride, padding, dilation, ceil_mode)
    kernel, stride, padding, dilation = (
        [getattr(s, name) for s in slides] for name in ("kernel", "stride", "padding", "dilation")
    )
    run = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[count]
    has_indices = return_indices or function in _WITH_INDICES
    slides, around = _along_space(function, signal, slides, has_indices)

    def local(signal: Signal) -> Any:
        planned = plan(signal, slides, function)
        if any(e.is_causal and s.padding > s.extent for e, s in zip(signal.edges, planned.slides, strict=True)):
            raise signal.scope.unsupported(
                describe(function),
                "all its padding lies before the first cell and fills a whole window, which has no maximum. Use a "
                "larger kernel, or less padding",
            )
        numbers = None
        if has_indices and signal.border.is_own and not signal.border.is_adaptive:
            window, numbers = run(planned.window(), kernel, stride, padding, dilation, ceil_mode, return_indices=True)
        elif signal.keeps("frame") and all(e.around(-inf) == -inf and not e.is_causal for e in signal.edges):
            window = run(planned.window(), kernel, stride, padding, dilation, ceil_mode)
        else:
            window = run(planned.cells(-inf), kernel, stride, around, dilation)
        background = planned.background
        if background is not None and (len(around) > len(slides) or not planned.is_constant_around):
            background = planned.response(lambda cells: run(cells, kernel, stride, around, dilation))
        result = planned.result(window, background)
        signal.scope.observe(function, result, 0, planned.slides, signal.frame)
        if not has_indices:
            return result
        return result, indices_of(run, planned, result) if numbers is None else result.derive(numbers, None)

    if has_indices or signal.has_original_padding or len(around) > len(slides):
        return local(signal)
    again = partial(function, kernel_size=kernel, stride=stride, padding=padding, dilation=dilation)
    return _of_frame(signal, slides, largest_over_space, local, again)


def _along_space(
    function: Any, signal: Signal, slides: tuple[Slide, ...], has_indices: bool = False
) -> tuple[tuple[Slide, ...], list[int]]:
    """Return the slides along space, and the padding along the other dimensions, which is the model's own.

    Of maps without channels, (N, *space), PyTorch takes the samples for the channels of one: each is pooled alone.
    """
    count = len(slides)
    is_alone = isinstance(signal, Signal) and signal.axes == tuple(range(1, 1 + count)) and signal.ndim == 1 + count
    if is_alone and not has_indices:
        return slides, [0] * count
    if not has_other_dimensions(signal, count) or has_indices or any(s.ceil_mode for s in slides):
        check_axes(signal, count, function)
        return slides, [0] * count
    return along_space(signal, slides), [0 if 2 + i in signal.axes else s.padding for i, s in enumerate(slides)]


def _covers(slides: tuple[Slide, ...], frame: tuple[int, ...]) -> bool:
    """Return whether a pool reads the whole frame at once."""
    axes = zip(slides, frame, strict=True)
    return all(s.kernel >= n and s.padding == 0 and s.dilation == 1 and s.frame(n) == 1 for s, n in axes)


def _may_be_of_whole(signal: Signal, slides: tuple[Slide, ...]) -> bool:
    """Return whether a pool of a part of a map may be meant for all of space."""
    is_pooled_whole = signal.is_gathered and signal.may_pool_frame and not signal.has_original_padding
    return is_pooled_whole and len(slides) == len(signal.axes) and _covers(slides, signal.frame)


def _of_frame(
    signal: Signal,
    slides: tuple[Slide, ...],
    pooled: Callable[[Signal], Tensor],
    local: Callable[[Signal], Signal],
    again: Callable[[Signal], Any],
) -> Any:
    """Return what a pool gives that may be meant for all of space, where it reads the whole frame at once.

    again: the call of the pool, for a part of a map, where `local` needs cells of other parts.
    """
    covers = [_covers(slides, frame) for frame in signal.frames]
    if any(covers) and len(covers) > 1:
        raise signal.scope.unsupported(
            "a pool", "its kernel covers the whole of some feature maps of the batch. Write an adaptive pool"
        )
    if not (covers[0] and signal.may_pool_frame):
        return local(signal)
    whole = signal.untaped()
    if any(s.kernel > n for s, n in zip(slides, signal.frame, strict=True)):  # no local pool is larger than its map
        return pooled(whole)
    made = (lambda: whole.pool_locally(again)) if whole.is_gathered else lambda: local(whole)
    return FramePool.of(whole, whole.window, lambda: pooled(whole), made)


def _read_by_average_pool(
    function: Any,
    signal: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    *_: Any,
    **__: Any,
) -> tuple[Slide, ...]:
    return _read_by_max_pool(function, signal, kernel_size, stride, padding, 1, ceil_mode)


def _need_of_average_pool(function: Any, signal: Any, *args: Any, **kwargs: Any) -> Declared:
    slides = _read_by_average_pool(function, signal, *args, **kwargs)
    if any(s.kernel > n + 2 * s.padding for s, n in zip(slides, signal.frame, strict=True)):  # larger than the map
        return "everything"
    is_divided = (args[5] if len(args) > 5 else kwargs.get("divisor_override")) is not None
    return "gathered" if not is_divided and _may_be_of_whole(signal, slides) else slides


@rule(F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, needs=_need_of_average_pool, gathers="mean")
def average_pool(
    function: Any,
    signal: Signal,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """Averages over whole kernels: what lies outside counts like any cell."""
    slides = _slides_of_pool(function, kernel_size, stride, padding, 1, ceil_mode)
    kernel, stride, padding = ([getattr(s, name) for s in slides] for name in ("kernel", "stride", "padding"))
    override = {} if divisor_override is None else {"divisor_override": divisor_override}
    slides, around = _along_space(function, signal, slides)

    def run(cells: Tensor) -> Tensor:
        return function(cells, kernel, stride, around, False, count_include_pad, **override)

    def local(signal: Signal) -> Signal:
        planned = plan(signal, slides, function)
        if signal.border.is_own:
            window = function(planned.window(), kernel, stride, padding, ceil_mode, count_include_pad, **override)
        else:
            window = run(planned.cells())
            if not override and any(edge.outside == "original" for edge in signal.edges):
                window = window * _model_divides(planned, count_include_pad, window)
        background = planned.background
        if background is not None and (override or len(around) > len(slides) or not planned.is_constant_around):
            background = planned.response(run)
        result = planned.result(window, background)
        signal.scope.observe(function, result, 0, planned.slides, signal.frame)
        return result

    if signal.has_original_padding or override or len(around) > len(slides):
        return local(signal)
    again = partial(function, kernel_size=kernel, stride=stride, padding=padding, count_include_pad=count_include_pad)
    return _of_frame(signal, slides, lambda whole: mean_over_space(function, whole), local, again)


def _model_divides(planned: Plan, count_include_pad: bool, like: Tensor) -> Tensor | float:
    """Return by what averages over whole kernels are to be multiplied, where the model's own count fewer cells."""
    factor: Tensor | float = 1.0
    source = planned.source
    for i, (axis, slide, (first, stop)) in enumerate(zip(source.axes, planned.slides, planned.outputs, strict=True)):
        edge = source.edges[i]
        if edge.outside != "original":  # what lies outside counts like any cell
            continue
        after = 0 if edge.is_causal else slide.padding
        starts = range(slide.stride * first - slide.padding, slide.stride * stop - slide.padding, slide.stride)
        counts = []
        for frame in source.frames:
            low, high = (-slide.padding, frame[i] + after) if count_include_pad else (0, frame[i])
            counts.append([max(1, min(start + slide.kernel, high) - max(start, low)) for start in starts])
        if any(count != slide.kernel for along in counts for count in along):
            shape = [len(counts), *(-1 if d == axis else 1 for d in range(1, like.ndim))]
            factor = factor * (slide.kernel / torch.tensor(counts, dtype=like.dtype, device=like.device)).reshape(shape)
    return factor


def _need_of_norm_pool(
    function: Any, signal: Any, norm_type: Any, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Declared:
    if ceil_mode or norm_type in (torch.inf, -torch.inf):  # a kernel that sticks out counts fewer cells
        return "everything"
    slides = _read_by_average_pool(function, signal, kernel_size, stride)
    return "gathered" if _may_be_of_whole(signal, slides) else slides


@rule(F.lp_pool1d, F.lp_pool2d, F.lp_pool3d, needs=_need_of_norm_pool)
def norm_pool(
    function: Any, signal: Signal, norm_type: Any, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Any:
    """Return the p-norm of the cells under a kernel, p = norm_type."""
    count = _count_in_name(function)
    check_axes(signal, count, function)
    if norm_type in (torch.inf, -torch.inf) and HAS_LARGEST_NORM:
        largest = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[count]
        if norm_type > 0:
            return largest(signal.abs(), kernel_size, stride, 0, 1, ceil_mode)
        return -largest(-signal.abs(), kernel_size, stride, 0, 1, ceil_mode)
    if ceil_mode and not signal.border.is_own and any(edge.outside == "original" for edge in signal.edges):
        raise signal.scope.unsupported(
            describe(function), "with ceil_mode its last kernel counts fewer cells. Leave ceil_mode out"
        )
    slides = _read_by_max_pool(function, signal, kernel_size, stride, 0, 1, ceil_mode)
    kernel, stride = ([getattr(s, name) for s in slides] for name in ("kernel", "stride"))

    def run(cells: Tensor) -> Tensor:
        return function(cells, norm_type, kernel if count > 1 else kernel[0], stride if count > 1 else stride[0])

    def pooled(whole: Signal) -> Tensor:
        mean = mean_over_space(function, whole.pow(norm_type))  # pyright: ignore[reportArgumentType]
        return (mean.sign() * F.relu(mean.abs())).mul(prod(kernel)).pow(1.0 / norm_type)

    def local(signal: Signal) -> Signal:
        planned = plan(signal, slides, function)
        if signal.border.is_own:
            window = function(planned.window(), norm_type, kernel_size, stride if count > 1 else stride[0], ceil_mode)
        else:
            window = run(planned.cells())
        result = planned.result(window, None if planned.background is None else planned.response(run))
        signal.scope.observe(function, result, 0, planned.slides, signal.frame)
        return result

    again = partial(function, norm_type=norm_type, kernel_size=kernel_size, stride=stride)
    return local(signal) if signal.has_original_padding else _of_frame(signal, slides, pooled, local, again)


def _count_in_name(function: Any) -> int:
    return next(int(character) for character in function.__name__ if character.isdigit())
