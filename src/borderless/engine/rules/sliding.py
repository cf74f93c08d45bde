"""Sliding operations: convolutions, and the strided slice.

Each one asks geometry which outputs the border keeps and which inputs those read, takes these inputs from the Signal
and runs without padding. A convolution whose inputs lie partly outside does not copy the map to pad it: what lies
outside is 0 after the background has been subtracted, and PyTorch's own zero padding costs nothing; the response to
the background alone then takes the place of the bias.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from borderless.engine.geometry import Interval, Slide, cover, intersection
from borderless.engine.naming import describe
from borderless.engine.padding import pad
from borderless.engine.reading import thin
from borderless.engine.registry import rule
from borderless.engine.rules.plan import Plan, check_axes, per_axis, plan, reduced_axes
from borderless.engine.shifting import take_shifted
from borderless.engine.signal import Signal
from borderless.engine.tiles import less, ranges_of, tile


def _read_by_convolution(
    function: Any,
    signal: Any,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Slide, ...]:
    count = weight.ndim - 2
    padding = padding if isinstance(padding, str) else per_axis(padding, count)
    return _conv_slides(tuple(weight.shape[2:]), per_axis(stride, count), padding, per_axis(dilation, count))


@rule(torch.conv1d, torch.conv2d, torch.conv3d, needs=_read_by_convolution)
def convolution(
    function: Any,
    signal: Signal,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Signal:
    """Convolve: under `zero` as the model does, elsewhere what the border says lies outside."""
    if lacking := reduced_axes(signal):
        return _convolve_line(function, signal, lacking, weight, bias, stride, padding, dilation, groups)
    check_axes(signal, weight.ndim - 2, function, weight, bias)
    slides = _read_by_convolution(function, signal, weight, bias, stride, padding, dilation, groups)
    stride, dilation = tuple([s.stride for s in slides]), tuple([s.dilation for s in slides])
    planned = plan(signal, slides, function)

    def run(cells: Tensor) -> Tensor:
        return function(cells, weight, bias, stride, 0, dilation, groups)

    if signal.border.is_own:
        result = planned.result(function(planned.window(), weight, bias, stride, padding, dilation, groups), None)
    elif signal.border.outside in ("zero", "background"):
        result = _convolve_deviation(function, planned, weight, bias, stride, dilation, groups)
    else:
        result = planned.result(run(planned.cells()), None)
    if signal.scope.observer is not None:
        macs = result.window.numel() * weight[0].numel()
        signal.scope.observe(function, result, macs, slides, signal.frame)
    return result


def _convolve_line(
    function: Any,
    signal: Signal,
    lacking: list[int],
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Signal:
    """Along a line, where the kernel has one cell along the axes that the line lacks."""
    slides = _read_by_convolution(function, signal, weight, bias, stride, padding, dilation, groups)
    left = [axis - 2 for axis in signal.axes]
    if weight.ndim != signal.ndim or any(slides[d - 2][:4] != (1, 1, 0, 0) for d in lacking):
        raise signal.scope.unsupported(
            describe(function),
            f"it slides over the axes {tuple(lacking)} of a map that was reduced along them. Write a kernel of one "
            "cell there, without stride and padding",
        )
    along = tuple(slides[i] for i in left)
    if signal.border.is_own:
        planned = plan(signal, along, function)
        return planned.result(function(planned.window(), weight, bias, stride, padding, dilation, groups), None)
    narrow: Any = {1: torch.conv1d, 2: torch.conv2d}[len(left)]
    padding = padding if isinstance(padding, str) else tuple(s.padding for s in along)
    numbers = (tuple(s.stride for s in along), padding, tuple(s.dilation for s in along), groups)
    result: Any = convolution(narrow, signal.squeeze(lacking), weight.squeeze(lacking), bias, *numbers)  # pyright: ignore[reportArgumentType, reportCallIssue]
    for d in lacking:
        result = result.unsqueeze(d)
    return result


@lru_cache(1024)
def _conv_slides(
    kernel: tuple[int, ...], stride: tuple[int, ...], padding: Any, dilation: tuple[int, ...]
) -> tuple[Slide, ...]:
    if padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        amounts = [(total // 2, total - total // 2) for total in totals]
    elif padding == "valid":
        amounts = [(0, 0)] * len(kernel)
    else:
        amounts = [(p, p) for p in padding]
    return tuple(Slide(k, s, *p, d) for k, s, p, d in zip(kernel, stride, amounts, dilation, strict=True))


def _convolve_deviation(
    function: Any,
    planned: Plan,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Signal:
    """By convolving the deviation from the background, which is 0 outside.

    A convolution without bias in training is most often followed by batch normalization, which needs no more than the
    deviation that is at hand.
    """
    response, vector, rest, is_deviation = None, bias, None, False
    if planned.background is not None and planned.is_constant_around:
        response = _response(planned.background, weight, bias, groups)
        is_deviation = bias is None and planned.source.scope.root.training
        if not is_deviation:
            vector, rest = (response.flatten(), None) if response.shape[0] == 1 else (None, response)
    elif planned.background is not None:
        response = planned.response(lambda cells: function(cells, weight, bias, stride, 0, dilation, groups))
        vector, rest = None, tile(response, planned.source.axes, ranges_of(planned.outputs))
    deviation, native = _deviation(planned, stride)
    if native is None:
        answer = function(deviation, weight, vector, 1, 0, dilation, groups)
    else:
        answer = function(deviation, weight, vector, stride, native, dilation, groups)
    return planned.result(answer if rest is None else answer + rest, response, is_deviation=is_deviation)


def _deviation(planned: Plan, stride: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...] | None]:
    """Return the deviations that a convolution reads, and the native zero padding that stands for those outside.

    Taken also where nothing outside is read: cells that hold just the background then come out bit for bit as its
    response, and sums over large windows of "no deviation" stay 0 instead of adding up roundings. The padding is None
    where a kernel of one cell with a stride has been given only the cells that it keeps.
    """
    source, axes, shift = planned.source, planned.source.axes, planned.shift
    thinned = max(s.kernel for s in planned.slides) == 1 and max(stride) > 1
    thinned = thinned and not (planned.background is None and shift is None)  # then the operation may skip by itself
    if thinned:
        wanted = tuple(range(a, b, s) for (a, b), s in zip(planned.needed, stride, strict=True))
        missing = [(0, 0)] * len(axes)
    else:
        inside, missing = [], []
        for stored, needed in zip(planned.box, planned.needed, strict=True):
            have, before, after = cover(stored, needed)
            inside.append(range(*have))
            missing.append((before, after))
        wanted = tuple(inside)
        if any(not cells for cells in wanted):  # nothing stored is needed: all that is read is background
            wanted, missing = ranges_of(planned.needed), [(0, 0)] * len(axes)
    if planned.deviation is not None and shift is not None:
        deviation = take_shifted(planned.deviation, axes, source.box, wanted, shift, None)
    else:
        deviation = source.take(wanted, shift)
        if planned.background is not None:
            deviation = less(deviation, tile(planned.background, axes, wanted))
    if thinned:
        return deviation, None
    native = tuple(
        before if _takes(slide, before, cells, outputs) else min(before, after)
        for slide, (before, after), cells, outputs in zip(
            planned.slides, missing, deviation.shape[axes[0] :], planned.outputs, strict=True
        )
    )
    rest = [(before - p, max(0, after - p)) for (before, after), p in zip(missing, native, strict=True)]
    return (pad(deviation, axes, rest) if any(before or after for before, after in rest) else deviation), native


def _takes(slide: Slide, padding: int, cells: int, outputs: Interval) -> bool:
    """Return whether as much padding at the end as at the start gives just these outputs."""
    return (cells + 2 * padding - slide.extent - 1) // slide.stride + 1 == outputs[1] - outputs[0]


def _response(background: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """Return the output of a convolution whose inputs all are `background` (1 or N, C, 1…): (1 or N, O, 1…)."""
    total = weight.flatten(2).sum(2) if weight[0, 0].numel() > 1 else weight.flatten(1)  # (O, C / groups)
    if groups == 1:
        answer = F.linear(background.flatten(1), total, bias)
    else:
        inputs = background.reshape(background.shape[0], groups, 1, -1)
        answer = (inputs * total.reshape(1, groups, -1, total.shape[1])).sum(-1).flatten(1)
        answer = answer if bias is None else answer + bias
    return answer.reshape(*answer.shape, *[1] * (background.ndim - 2))


def slides_of(slices: Sequence[tuple[int, int, int]], frame: Sequence[int]) -> tuple[Slide, ...]:
    """Return a strided slice as a sliding operation of one cell: for each axis (start, stop, step)."""
    return tuple(Slide(1, step, -start, min(stop - n, 0)) for (start, stop, step), n in zip(slices, frame, strict=True))


def strided_slice(signal: Signal, slices: Sequence[tuple[int, int, int]]) -> Signal:
    """`signal` at the frame indices start, start + step, … < stop of each axis: a strided operation of one cell."""
    slides = slides_of(slices, signal.frame)
    planned = plan(signal, slides, torch.Tensor.__getitem__)
    if signal.border.keeps == "inside":  # what the model cuts off is gone where maps may not grow
        outputs = intersection([planned.outputs, tuple((0, n) for n in planned.layout.frame)])
        needed = tuple(s.needed(interval) for s, interval in zip(slides, outputs, strict=True))
        planned = planned._replace(layout=planned.layout._replace(outputs=outputs, needed=needed))
    wanted = tuple(range(a, b, step) for (a, b), (_, _, step) in zip(planned.needed, slices, strict=True))
    window = signal.take(wanted, planned.shift)
    background = planned.background
    if not planned.is_constant_around:
        background = planned.response(lambda cells: thin(cells, signal.axes, [step for _, _, step in slices]))
    return planned.result(window, background)
