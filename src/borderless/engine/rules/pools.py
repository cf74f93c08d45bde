"""Pools: the largest, the mean or the norm of the cells under a kernel.

A pool that reads the whole frame at once may be meant for all of space: see `frame_pools`.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from borderless.engine.geometry import Slide
from borderless.engine.naming import describe
from borderless.engine.registry import rule
from borderless.engine.rules.frame_pools import FramePool
from borderless.engine.rules.plan import Plan, check_axes, per_axis, plan
from borderless.engine.rules.reductions import mean_over_space
from borderless.engine.signal import Signal


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
    count = _count_in_name(function)
    kernel, padding, dilation = (per_axis(v, count) for v in (kernel_size, padding, dilation))
    stride = kernel if stride is None or stride == [] else per_axis(stride, count)
    options = zip(kernel, stride, padding, padding, dilation, strict=True)
    return tuple(Slide(*numbers, ceil_mode) for numbers in options)


@rule(
    *(F.max_pool1d, F.max_pool2d, F.max_pool3d, torch.max_pool1d, torch.max_pool2d, torch.max_pool3d),
    needs=_read_by_max_pool,
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
) -> Signal:
    """Outside lies the border's answer under `full` (0) and `infinite`; other borders keep the pool's own -inf."""
    count = _count_in_name(function)
    check_axes(signal, count, function)
    if return_indices:
        raise signal.scope.unsupported(describe(function), "indices of maxima are absolute positions")
    slides = _read_by_max_pool(function, signal, kernel_size, stride, padding, dilation, ceil_mode)
    kernel, stride, dilation = ([getattr(s, name) for s in slides] for name in ("kernel", "stride", "dilation"))
    planned = plan(signal, slides, function)

    def run(cells: Tensor) -> Tensor:
        return function(cells, kernel, stride, 0, dilation)

    if signal.border.keeps == "frame":
        window = function(planned.window(), kernel, stride, [s.padding for s in slides], dilation, ceil_mode)
    else:
        window = run(planned.cells())
    result = planned.result(window, planned.background if planned.is_constant_around else planned.response(run))
    signal.scope.observe(function, result, 0, planned.slides, signal.frame)
    return result


@rule(F.max_pool1d_with_indices, F.max_pool2d_with_indices, F.max_pool3d_with_indices)
def max_pool_with_indices(function: Any, signal: Signal, *_: Any, **__: Any) -> Any:
    """Refuse indices, which are absolute positions."""
    raise signal.scope.unsupported(describe(function), "indices of maxima are absolute positions")


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


@rule(F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, needs=_read_by_average_pool, gathers="mean")
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
    count = _count_in_name(function)
    check_axes(signal, count, function)
    slides = _read_by_average_pool(function, signal, kernel_size, stride, padding, ceil_mode)
    kernel, stride, padding = ([getattr(s, name) for s in slides] for name in ("kernel", "stride", "padding"))
    override = {} if divisor_override is None else {"divisor_override": divisor_override}

    def run(cells: Tensor) -> Tensor:
        return function(cells, kernel, stride, 0, **override)

    def local(signal: Signal) -> Signal:
        planned = plan(signal, slides, function)
        if signal.border.is_own:
            window = function(planned.window(), kernel, stride, padding, ceil_mode, count_include_pad, **override)
        else:
            window = run(planned.cells())
            if signal.border.has_own_padding and not override:
                window = window * _model_divides(planned, count_include_pad, window)
        background = planned.background
        if background is not None and (override or not planned.is_constant_around):
            background = planned.response(run)
        result = planned.result(window, background)
        signal.scope.observe(function, result, 0, slides, signal.frame)
        return result

    may_be_global = signal.may_pool_frame and not signal.border.is_own and not override
    if may_be_global and _covers_frame(slides, signal.frame):
        whole = signal.untaped()
        return FramePool.of(whole, whole.window, lambda: mean_over_space(function, whole), lambda: local(whole))
    return local(signal)


def _model_divides(planned: Plan, count_include_pad: bool, like: Tensor) -> Tensor | float:
    """Return by what averages over whole kernels are to be multiplied, where the model's own count fewer cells."""
    factor: Tensor | float = 1.0
    source = planned.source
    for axis, slide, (first, stop), n in zip(source.axes, planned.slides, planned.outputs, source.frame, strict=True):
        low, high = (-slide.padding, n + slide.padding) if count_include_pad else (0, n)
        starts = range(slide.stride * first - slide.padding, slide.stride * stop - slide.padding, slide.stride)
        counts = [min(start + slide.kernel, high) - max(start, low) for start in starts]
        if any(count != slide.kernel for count in counts):
            shape = [-1 if i == axis else 1 for i in range(like.ndim)]
            factor = factor * (slide.kernel / torch.tensor(counts, dtype=like.dtype, device=like.device)).reshape(shape)
    return factor


def _covers_frame(slides: tuple[Slide, ...], frame: tuple[int, ...]) -> bool:
    """Whether a pool reads the whole frame at once, and so may be meant for all of space."""
    return all(s.kernel >= n and s.padding == 0 and s.frame(n) == 1 for s, n in zip(slides, frame, strict=True))


def _count_in_name(function: Any) -> int:
    return int(function.__name__[-2])
