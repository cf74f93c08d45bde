"""Sliding operations: convolutions and pools, and the strided slice, which is a pool of one cell.

Each one asks geometry which outputs the border keeps and which inputs those read, takes these inputs from the Signal
and runs without padding. A convolution whose inputs lie partly outside does not copy the map to pad it: what lies
outside is 0 after the background has been subtracted, and PyTorch's own zero padding costs nothing; the response to
the background alone then takes the place of the bias.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import gcd
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from borderless.cells import Shift, less, pad, periods, ranges_of, shifted_tile, take_shifted, thin, tile
from borderless.errors import ImageError
from borderless.geometry import Box, Interval, Keep, Slide, cover, intersection
from borderless.lattice import Lattice, Stride, settle
from borderless.rules.reductions import mean_over_space
from borderless.rules.registry import describe, rule
from borderless.signal import Signal


class Layout(NamedTuple):
    """The integers of a sliding operation: the frame of its result, the outputs that are kept, the inputs that they
    read (none where nothing is kept), and the receptive field of a cell of the result, in pixels.
    """

    frame: tuple[int, ...]
    outputs: Box
    needed: Box
    field: Stride


@lru_cache(8192)
def layout(
    slides: tuple[Slide, ...],
    box: Box,
    frame: tuple[int, ...],
    keep: Keep,
    reach: int | None,
    field: Stride,
    stride: Stride,
) -> Layout:
    """Where `slides` leave a map with these sizes; `field` and `stride` are those of its cells, in pixels."""
    outputs = tuple(s.kept(window, n, keep, reach) for s, window, n in zip(slides, box, frame, strict=True))
    kept = all(first < stop for first, stop in outputs)
    needed = tuple(s.needed(interval) for s, interval in zip(slides, outputs, strict=True)) if kept else ()
    after = tuple(s.frame(n) for s, n in zip(slides, frame, strict=True))
    wider = tuple(f + s.extent * step for f, s, step in zip(field, slides, stride, strict=True))
    return Layout(after, outputs, needed if min(after) > 0 else (), wider)


class Plan(NamedTuple):
    """A sliding operation on one Signal: what it keeps and what it reads.

    Under an adaptive phase the cells of the source are renumbered first: `box` is its window, `background` what is
    around it, in the new numbers. deviation: of the source from its background, in the old numbers, if it is known.
    """

    source: Signal
    slides: tuple[Slide, ...]
    shift: Shift | None
    deviation: Tensor | None
    box: Box
    background: Tensor | None
    lattice: Lattice
    layout: Layout

    @property
    def outputs(self) -> Box:
        return self.layout.outputs

    @property
    def needed(self) -> Box:
        return self.layout.needed

    def window(self) -> Tensor:
        """The source's cells on `box`."""
        return self.source.window if self.shift is None else self.source.take(ranges_of(self.box), self.shift)

    def cells(self) -> Tensor:
        """The source's cells on `needed`, whatever lies outside included."""
        return self.source.take(ranges_of(self.needed), self.shift)

    def response(self, run: Callable[[Tensor], Tensor]) -> Tensor:
        """The background of the result, where `run` is the operation without padding and the background is a tile."""
        assert self.background is not None
        counts = [
            p // gcd(p, s.stride) for p, s in zip(periods(self.background, self.source.axes), self.slides, strict=True)
        ]
        needed = tuple(s.needed((0, count)) for s, count in zip(self.slides, counts, strict=True))
        return run(tile(self.background, self.source.axes, ranges_of(needed), dense=True))

    @property
    def is_constant_around(self) -> bool:
        return self.background is None or set(periods(self.background, self.source.axes)) == {1}

    def result(self, window: Tensor, background: Tensor | None, axes: tuple[int, ...] | None = None) -> Signal:
        frame, outputs, _, field = self.layout
        return self.source.derive(
            window, background, box=outputs, frame=frame, axes=axes, lattice=self.lattice, field=field
        )


def plan(signal: Signal, slides: tuple[Slide, ...], function: Any) -> Plan:
    lattice, shift, deviation = settle(signal, slides)
    box, background, border = signal.box, signal.background, signal.border
    if shift is not None:
        box = signal.box_after(shift, describe(function))
        background = None if background is None else shifted_tile(background, signal.axes, shift)
    found = layout(slides, box, signal.frame, border.keeps, border.reach, signal.field, signal.lattice.stride)
    if not found.needed:
        kernel = tuple(s.kernel for s in slides)
        got = signal.frame if border.keeps != "inside" else tuple(b - a for a, b in signal.box)
        raise ImageError(
            f"got a map of {_times(got)} cells for {describe(function)} with a kernel of {_times(kernel)} in "
            f"{signal.scope.describe_module()} under {border!r}: no output is left; needed: a larger image"
            + (", or a border that pads (valid keeps only windows wholly inside)" if border.keeps == "inside" else "")
        )
    return Plan(signal, slides, shift, deviation, box, background, lattice, found)


def _times(sizes: Sequence[int]) -> str:
    return " × ".join(map(str, sizes))


def per_axis(value: Any, count: int) -> tuple[int, ...]:
    """PyTorch's "one number or one per axis" as one per axis."""
    if type(value) is tuple and len(value) == count:
        return value
    if isinstance(value, int):
        return (value,) * count
    values = tuple(int(v) for v in value)
    return values * count if len(values) == 1 else values


def check_axes(signal: Any, count: int, function: Any) -> None:
    if not isinstance(signal, Signal):
        raise TypeError(f"{describe(function)} got a map as a parameter; needed: the map as its input")
    if signal.ndim != 2 + count or signal.axes != _LAST_AXES[count]:
        raise ImageError(
            f"{describe(function)} got a map of shape {tuple(signal.shape)} with its spatial axes at {signal.axes} in "
            f"{signal.scope.describe_module()}; needed: a batch, channels, then {count} spatial axes"
        )


_LAST_AXES = {count: tuple(range(2, 2 + count)) for count in range(1, 4)}


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
    check_axes(signal, count, function)
    stride, dilation = per_axis(stride, count), per_axis(dilation, count)
    slides = _conv_slides(tuple(weight.shape[2:]), stride, padding, dilation)
    planned = plan(signal, slides, function)

    def run(cells: Tensor) -> Tensor:
        return function(cells, weight, bias, stride, 0, dilation, groups)

    if signal.border.is_own:
        window, background = function(planned.window(), weight, bias, stride, padding, dilation, groups), None
    elif signal.border.outside in ("zero", "background"):
        window, background = _convolve_deviation(function, planned, weight, bias, stride, dilation, groups)
    else:
        window, background = run(planned.cells()), None
    result = planned.result(window, background)
    if signal.scope.observer is not None:
        signal.scope.observe(function, result, window.numel() * weight[0].numel())
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
        amounts = [(p, p) for p in per_axis(padding, len(kernel))]
    return tuple(Slide(k, s, *p, d) for k, s, p, d in zip(kernel, stride, amounts, dilation, strict=True))


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
    response, vector, rest = None, bias, None
    if planned.background is not None and planned.is_constant_around:
        response = _response(planned.background, weight, bias, groups)
        vector, rest = (response.flatten(), None) if response.shape[0] == 1 else (None, response)
    elif planned.background is not None:
        response = planned.response(lambda cells: function(cells, weight, bias, stride, 0, dilation, groups))
        vector, rest = None, tile(response, planned.source.axes, ranges_of(planned.outputs))
    deviation, native = _deviation(planned, stride)
    if native is None:
        window = function(deviation, weight, vector, 1, 0, dilation, groups)
    else:
        window = function(deviation, weight, vector, stride, native, dilation, groups)
    return window if rest is None else window + rest, response


def _deviation(planned: Plan, stride: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...] | None]:
    """The deviations that a convolution reads, and the native zero padding that stands for those outside.

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
    """Whether as much padding at the end as at the start gives just these outputs."""
    return (cells + 2 * padding - slide.extent - 1) // slide.stride + 1 == outputs[1] - outputs[0]


def _response(background: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """What a convolution answers where all its inputs are `background` (1 or N, C, 1…): (1 or N, O, 1…)."""
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
    check_axes(signal, _count_in_name(function), function)
    if return_indices:
        raise signal.scope.unsupported(describe(function), "indices of maxima are absolute positions")
    kernel, padding, dilation = (per_axis(v, count) for v in (kernel_size, padding, dilation))
    stride = kernel if stride is None or stride == [] else per_axis(stride, count)
    options = zip(kernel, stride, padding, padding, dilation, strict=True)
    planned = plan(signal, tuple(Slide(*numbers, ceil_mode) for numbers in options), function)

    def run(cells: Tensor) -> Tensor:
        return function(cells, kernel, stride, 0, dilation)

    if signal.border.keeps == "frame":
        window = function(planned.window(), kernel, stride, padding, dilation, ceil_mode)
    else:
        window = run(planned.cells())
    result = planned.result(window, planned.background if planned.is_constant_around else planned.response(run))
    signal.scope.observe(function, result, 0)
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
    check_axes(signal, _count_in_name(function), function)
    kernel, padding = per_axis(kernel_size, count), per_axis(padding, count)
    stride = kernel if stride is None or stride == [] else per_axis(stride, count)
    override = {} if divisor_override is None else {"divisor_override": divisor_override}
    if kernel == signal.frame and not any(padding) and not override and not signal.border.is_own:
        return mean_over_space(signal)
    options = zip(kernel, stride, padding, padding, strict=True)
    planned = plan(signal, tuple(Slide(*numbers, 1, ceil_mode) for numbers in options), function)

    def run(cells: Tensor) -> Tensor:
        return function(cells, kernel, stride, 0, **override)

    if signal.border.is_own:
        window = function(planned.window(), kernel, stride, padding, ceil_mode, count_include_pad, **override)
    else:
        window = run(planned.cells())
    background = planned.background
    if background is not None and (override or not planned.is_constant_around):
        background = planned.response(run)
    result = planned.result(window, background)
    signal.scope.observe(function, result, 0)
    return result


def _count_in_name(function: Any) -> int:
    return int(function.__name__[-2])


def strided_slice(signal: Signal, slices: Sequence[tuple[int, int, int]]) -> Signal:
    """`signal` at the frame indices start, start + step, … < stop of each axis: a strided operation of one cell."""
    slides = tuple(
        Slide(1, step, -start, min(stop - n, 0)) for (start, stop, step), n in zip(slices, signal.frame, strict=True)
    )
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
