"""Sliding operations: convolutions, and the strided slice.

Each one asks geometry which outputs the border keeps and which inputs those read, takes these inputs from the Signal
and runs without padding. A convolution whose inputs lie partly outside does not copy the map to pad it: what lies
outside is 0 after the background has been subtracted, and PyTorch's own zero padding costs nothing; the response to
the background alone then takes the place of the bias.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from borderless.engine.geometry import Interval, Slide, cover
from borderless.engine.padding import pad
from borderless.engine.reading import thin
from borderless.engine.registry import rule
from borderless.engine.rules.plan import (
    Plan,
    along_space,
    check_axes,
    has_other_dimensions,
    padding_beside_space,
    per_axis,
    plan,
)
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
    slides = _slides_of_convolution(weight, stride, padding, dilation)
    return along_space(signal, slides) if has_other_dimensions(signal, len(slides)) else slides


def _slides_of_convolution(weight: Tensor, stride: Any, padding: Any, dilation: Any) -> tuple[Slide, ...]:
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
    slides = _slides_of_convolution(weight, stride, padding, dilation)
    stride, dilation = tuple([s.stride for s in slides]), tuple([s.dilation for s in slides])
    has_others = has_other_dimensions(signal, len(slides))
    if not has_others:
        check_axes(signal, weight.ndim - 2, function, weight, bias)
    beside = padding_beside_space(signal, slides)
    slides = along_space(signal, slides)
    planned = plan(signal, slides, function)

    def run(cells: Tensor, bias: Tensor | None = bias) -> Tensor:
        cells = F.pad(cells, beside) if any(beside) else cells
        return function(cells, weight, bias, stride, 0, dilation, groups)

    if signal.border.is_own:
        result = planned.result(function(planned.window(), weight, bias, stride, padding, dilation, groups), None)
    elif has_others:
        result = _convolve_beside_space(planned, run)
    elif any(edge.ends_in_zeros for edge in signal.edges):
        result = _convolve_deviation(function, planned, weight, bias, stride, dilation, groups)
    else:
        result = planned.result(run(planned.cells()), None)
    if signal.scope.observer is not None:
        macs = result.window.numel() * weight[0].numel()
        signal.scope.observe(function, result, macs, planned.slides, signal.frame)
    return result


def _convolve_beside_space(planned: Plan, run: Callable[..., Tensor]) -> Signal:
    """Slide over dimensions that are not space too, as the unmodified model does: `run` pads them with zeros."""
    if planned.background is None:
        return planned.result(run(planned.cells()), None)
    response, axes = planned.response(run), planned.source.axes
    deviation = less(planned.cells(), tile(planned.background, axes, ranges_of(planned.needed)))
    window = run(deviation, None) + tile(response, axes, ranges_of(planned.outputs))
    return planned.result(window, response)


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
    where a kernel of one cell with a stride has been given only the cells that it keeps. Mirrored and wrapped cells are
    read with the deviations.
    """
    source, axes, shift = planned.source, planned.source.axes, planned.shift
    is_mirrored = any(edge.is_mirrored for edge in source.edges)
    thinned = max(s.kernel for s in planned.slides) == 1 and max(stride) > 1
    thinned = thinned and not (planned.background is None and shift is None)  # then the operation may skip by itself
    if thinned:
        wanted = tuple(range(a, b, s) for (a, b), s in zip(planned.needed, stride, strict=True))
        missing = [(0, 0)] * len(axes)
    else:
        inside, missing = [], []
        for edge, stored, needed in zip(source.edges, planned.box, planned.needed, strict=True):
            have, before, after = (needed, 0, 0) if edge.is_mirrored else cover(stored, needed)
            inside.append(range(*have))
            missing.append((before, after))
        wanted = tuple(inside)
        if any(not cells for cells in wanted):  # nothing stored is needed: all that is read is background
            wanted, missing = ranges_of(planned.needed), [(0, 0)] * len(axes)
    if planned.deviation is not None and shift is not None and not is_mirrored:
        deviation = take_shifted(planned.deviation, axes, source.box, wanted, shift, None)
    else:
        deviation = source.read_ranges(wanted, shift)
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
    wanted = tuple(range(a, b, step) for (a, b), (_, _, step) in zip(planned.needed, slices, strict=True))
    window = signal.read_ranges(wanted, planned.shift)
    background = planned.background
    if not planned.is_constant_around:
        background = planned.response(lambda cells: thin(cells, signal.axes, [step for _, _, step in slices]))
    return planned.result(window, background)
