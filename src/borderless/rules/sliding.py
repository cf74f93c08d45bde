"""Sliding operations: convolutions and pools, and the strided slice, which is a pool of one cell.

Each one asks geometry which outputs the border keeps and which inputs those read, takes these inputs from the Signal
and runs without padding. A convolution whose inputs lie partly outside does not copy the map to pad it: what lies
outside is 0 after the background has been subtracted, and PyTorch's own zero padding costs nothing; the response to
the background alone then takes the place of the bias.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from borderless.errors import ImageError
from borderless.geometry import Box, Slide, cover, intersection
from borderless.lattice import Lattice, enter
from borderless.rules.reductions import mean_over_space
from borderless.rules.registry import describe, rule
from borderless.signal import Signal, pad


class Plan(NamedTuple):
    """A sliding operation on one Signal: the input (re-based if the phase says so), what to keep and what to read."""

    source: Signal
    lattice: Lattice
    outputs: Box
    needed: Box
    frame: tuple[int, ...]
    field: tuple[int, ...]

    def result(self, window: Tensor, background: Tensor | None) -> Signal:
        return self.source.derive(
            window, background, box=self.outputs, frame=self.frame, lattice=self.lattice, field=self.field
        )


def plan(signal: Signal, slides: Sequence[Slide], operation: str) -> Plan:
    source, lattice = enter(signal, tuple(s.stride for s in slides))
    keep, reach = source.border.keeps, source.border.reach
    frame = tuple(s.frame(n) for s, n in zip(slides, source.frame, strict=True))
    outputs = tuple(
        s.kept(window, n, keep, reach) for s, window, n in zip(slides, source.box, source.frame, strict=True)
    )
    if min(frame) < 1 or any(first >= stop for first, stop in outputs):
        kernel = tuple(s.kernel for s in slides)
        got = signal.frame if keep != "inside" else tuple(b - a for a, b in source.box)
        raise ImageError(
            f"got a map of {_times(got)} cells for {operation} with a kernel of {_times(kernel)} in "
            f"{signal.scope.describe_module()} under the border {signal.border.name!r}: no output is left; "
            "needed: a larger image"
            + (", or a border that pads (valid keeps only windows wholly inside)" if keep == "inside" else "")
        )
    needed = tuple(s.needed(interval) for s, interval in zip(slides, outputs, strict=True))
    field = tuple(f + s.extent * step for f, s, step in zip(signal.field, slides, signal.lattice.stride, strict=True))
    return Plan(source, lattice, outputs, needed, frame, field)


def _times(sizes: Sequence[int]) -> str:
    return " × ".join(map(str, sizes))


def per_axis(value: Any, count: int) -> tuple[int, ...]:
    """PyTorch's "one number or one per axis" as one per axis."""
    if isinstance(value, int):
        return (value,) * count
    values = tuple(int(v) for v in value)
    return values * count if len(values) == 1 else values


def check_axes(signal: Any, count: int, operation: str) -> None:
    if not isinstance(signal, Signal):
        raise TypeError(f"{operation} got a map as a parameter; needed: the map as its input")
    if signal.axes != tuple(range(2, 2 + count)) or signal.ndim != 2 + count:
        raise ImageError(
            f"{operation} got a map of shape {tuple(signal.shape)} with its spatial axes at {signal.axes} in "
            f"{signal.scope.describe_module()}; needed: a batch, channels, then {count} spatial axes"
        )


@rule(torch.conv1d, torch.conv2d, torch.conv3d)
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
    count = weight.ndim - 2
    check_axes(signal, count, describe(function))
    kernel, stride, dilation = weight.shape[2:], per_axis(stride, count), per_axis(dilation, count)
    slides = [
        Slide(k, s, *amounts, d)
        for k, s, amounts, d in zip(kernel, stride, _conv_padding(padding, kernel, dilation), dilation, strict=True)
    ]
    planned = plan(signal, slides, describe(function))
    source = planned.source
    if source.border.is_own:
        window, background = function(source.window, weight, bias, stride, padding, dilation, groups), None
    elif source.border.outside in ("zero", "background"):
        window, background = _convolve_deviation(function, planned, weight, bias, stride, dilation, groups)
    else:
        cells = source.read(planned.needed)
        window, background = function(cells, weight, bias, stride, 0, dilation, groups), None
    result = planned.result(window, background)
    if signal.scope.observer is not None:
        signal.scope.observe(describe(function), result, window.numel() * weight[0].numel())
    return result


def _conv_padding(padding: Any, kernel: Sequence[int], dilation: Sequence[int]) -> list[tuple[int, int]]:
    if padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    if padding == "valid":
        return [(0, 0)] * len(kernel)
    return [(p, p) for p in per_axis(padding, len(kernel))]


def _convolve_deviation(
    function: Any,
    planned: Plan,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> tuple[Tensor, Tensor | None]:
    """The window and the new background, by convolving the deviation from the background, which is 0 outside."""
    source = planned.source
    response = None
    if source.background is not None:
        response = _response(source.background, weight, bias, groups)
    inside, missing = source.window, []
    for axis, stored, wanted in zip(source.axes, source.box, planned.needed, strict=True):
        (a, b), before, after = cover(stored, wanted)
        if (a, b) != stored:
            inside = inside.narrow(axis, a - stored[0], b - a)
        missing.append((before, after))
    if 0 in inside.shape:  # nothing stored is needed: all background
        return function(source.read(planned.needed), weight, bias, stride, 0, dilation, groups), response
    # Also where nothing outside is read: cells that hold just the background then come out bit for bit as the response,
    # and sums over large windows of "no deviation" stay 0 instead of adding up roundings.
    deviation = inside if source.background is None else inside - source.background
    native = tuple(min(amounts) for amounts in missing)
    rest = [(before - p, after - p) for (before, after), p in zip(missing, native, strict=True)]
    if any(before or after for before, after in rest):
        deviation = pad(deviation, source.axes, rest)
    if response is not None and response.shape[0] > 1:
        return function(deviation, weight, None, stride, native, dilation, groups) + response, response
    shift = bias if response is None else response.flatten()
    return function(deviation, weight, shift, stride, native, dilation, groups), response


def _response(background: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """What the convolution answers where all its inputs are `background` (1 or N, C, 1…): (1 or N, O, 1…)."""
    total = weight.flatten(2).sum(2) if weight[0, 0].numel() > 1 else weight.flatten(1)  # (O, C / groups)
    if groups == 1:
        answer = F.linear(background.flatten(1), total, bias)
    else:
        inputs = background.reshape(background.shape[0], groups, 1, -1)
        answer = (inputs * total.reshape(1, groups, -1, total.shape[1])).sum(-1).flatten(1)
        answer = answer if bias is None else answer + bias
    return answer.reshape(*answer.shape, *[1] * (background.ndim - 2))


@rule(F.max_pool1d, F.max_pool2d, F.max_pool3d, torch.max_pool1d, torch.max_pool2d, torch.max_pool3d)
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
    count = len(signal.axes)
    check_axes(signal, _count_in_name(function), describe(function))
    if return_indices:
        raise signal.scope.unsupported(describe(function), "indices of maxima are absolute positions")
    kernel, padding, dilation = (per_axis(v, count) for v in (kernel_size, padding, dilation))
    stride = kernel if stride is None or stride == [] else per_axis(stride, count)
    slides = [Slide(k, s, p, p, d, ceil_mode) for k, s, p, d in zip(kernel, stride, padding, dilation, strict=True)]
    planned = plan(signal, slides, describe(function))
    if signal.border.keeps == "frame":
        window = function(planned.source.window, kernel, stride, padding, dilation, ceil_mode)
    else:
        window = function(planned.source.read(planned.needed), kernel, stride, 0, dilation)
    result = planned.result(window, signal.background)
    signal.scope.observe(describe(function), result, 0)
    return result


@rule(F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
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
    """Averages over whole kernels: what lies outside counts like any cell. A pool over the whole frame is global."""
    count = len(signal.axes)
    check_axes(signal, _count_in_name(function), describe(function))
    kernel, padding = per_axis(kernel_size, count), per_axis(padding, count)
    stride = kernel if stride is None or stride == [] else per_axis(stride, count)
    override = {} if divisor_override is None else {"divisor_override": divisor_override}
    if kernel == signal.frame and not any(padding) and not override and not signal.border.is_own:
        return mean_over_space(signal)
    slides = [Slide(k, s, p, p, 1, ceil_mode) for k, s, p in zip(kernel, stride, padding, strict=True)]
    planned = plan(signal, slides, describe(function))
    background = signal.background
    if signal.border.is_own:
        window = function(planned.source.window, kernel, stride, padding, ceil_mode, count_include_pad, **override)
    else:
        window = function(planned.source.read(planned.needed), kernel, stride, 0, **override)
        if background is not None and override:
            background = background * (_product(kernel) / divisor_override)  # pyright: ignore[reportOperatorIssue]
    result = planned.result(window, background)
    signal.scope.observe(describe(function), result, 0)
    return result


def _product(values: Sequence[int]) -> int:
    result = 1
    for value in values:
        result *= value
    return result


def _count_in_name(function: Any) -> int:
    return int(function.__name__[-2])


def strided_slice(signal: Signal, slices: Sequence[tuple[int, int, int]]) -> Signal:
    """`signal` at the frame indices start, start + step, … < stop of each axis: a strided operation of one cell."""
    slides = [
        Slide(1, step, -start, min(stop - n, 0)) for (start, stop, step), n in zip(slices, signal.frame, strict=True)
    ]
    planned = plan(signal, slides, "a strided slice")
    if signal.border.keeps == "inside":  # what the model cuts off is gone where maps may not grow
        outputs = intersection([planned.outputs, tuple((0, n) for n in planned.frame)])
        needed = tuple(s.needed(interval) for s, interval in zip(slides, outputs, strict=True))
        planned = planned._replace(outputs=outputs, needed=needed)
    window = planned.source.read(planned.needed)
    for axis, (_, _, step) in zip(signal.axes, slices, strict=True):
        window = window[(slice(None),) * axis + (slice(None, None, step),)]
    return planned.result(window, signal.background)
