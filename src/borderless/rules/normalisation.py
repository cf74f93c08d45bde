"""Normalisations. Statistics are the window's; the background is normalised with the same ones.

Shapes: window (N, C, *space), background (1 or N, C, 1…), statistics (C) or (N, groups).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from borderless.cells import less
from borderless.rules.plan import check_axes
from borderless.rules.registry import rule
from borderless.signal import Signal
from borderless.torch_internals import batch_norm_update_stats, native_batch_norm_backward, verify_batch_size


@rule(torch.batch_norm)
def torch_batch_norm(
    function: Any,
    signal: Signal,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Signal:
    """The same as the one of torch.nn.functional, with its parameters in another order."""
    return batch_norm(function, signal, running_mean, running_var, weight, bias, training, momentum, eps)


@rule(F.batch_norm)
def batch_norm(
    function: Any,
    signal: Signal,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Signal:
    check_axes(signal, len(signal.axes), function)
    background = signal.background
    if training and background is not None:
        return _batch_norm_by_deviation(signal, background, running_mean, running_var, weight, bias, momentum, eps)
    window = signal.window
    if training:
        verify_batch_size(list(window.shape))
    numbers = (weight, bias, running_mean, running_var)
    cudnn = torch.backends.cudnn.enabled
    normalised = torch.batch_norm(window, *numbers, training, momentum, eps, cudnn)
    if background is not None:
        background = torch.batch_norm(background, *numbers, False, momentum, eps, cudnn)
    return signal.derive(normalised, background)


def _batch_norm_by_deviation(
    signal: Signal,
    background: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
) -> Signal:
    """Batch statistics of the window, taken over its deviation from the background.

    BatchNorm does not see a constant that is taken off a channel. Without it, cells of pure background are 0: sums do
    not depend on where the object stands, and these cells come out as the new background.
    """
    known = signal.known_deviation
    if known is not None and len(background) == 1:
        constant, deviation, around = background.detach(), known, torch.zeros_like(background)
    else:
        constant = background.detach().mean((0, *signal.axes), keepdim=True)
        deviation, around = less(signal.window, constant), less(background, constant)
    verify_batch_size(list(deviation.shape))
    dtype = deviation.dtype
    if dtype in (torch.float16, torch.bfloat16):
        deviation, around = deviation.float(), around.float()
    normalised, around, mean, var = _DeviationNorm.apply(  # pyright: ignore[reportGeneralTypeIssues]
        deviation, around.to(deviation.dtype), weight, bias, eps
    )
    if running_mean is not None and running_var is not None:
        count = deviation.numel() // deviation.shape[1]
        with torch.no_grad():
            running_mean.lerp_((mean + constant.flatten()).to(running_mean.dtype), momentum)
            running_var.lerp_((var * (count / (count - 1))).to(running_var.dtype), momentum)
    return signal.derive(normalised.to(dtype), around.to(dtype))


class _DeviationNorm(torch.autograd.Function):
    """A deviation and its background, normalised by the statistics of the former.

    One read for the statistics, one pass for the result, PyTorch's fused backward, and on top of it what the
    background's gradient says about the statistics. Also returns their values: mean and biased variance (C).
    """

    @staticmethod
    def forward(
        ctx: Any, deviation: Tensor, around: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean, var = _batch_statistics(deviation)
        invstd = (var + eps).rsqrt()
        scale = invstd if weight is None else invstd * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        per_channel = (1, -1, *[1] * (deviation.ndim - 2))
        scale, shift = scale.reshape(per_channel), shift.reshape(per_channel)
        ctx.save_for_backward(deviation, around, weight, mean, invstd)
        ctx.has_bias = bias is not None
        ctx.mark_non_differentiable(mean, var)
        return torch.addcmul(shift, deviation, scale), torch.addcmul(shift, around, scale), mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_window: Tensor, of_around: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        deviation, around, weight, mean, invstd = ctx.saved_tensors
        per_channel, over = (1, -1, *[1] * (deviation.ndim - 2)), (0, *range(2, deviation.ndim))
        scale = invstd if weight is None else invstd * weight
        of_weight, of_bias = _batch_gradients(of_window, deviation, mean, invstd)
        # The background's gradient joins before the sums are spread over the cells: the two nearly cancel.
        of_weight = of_weight + (of_around * (around - mean.reshape(per_channel))).sum(over) * invstd
        of_bias = of_bias + of_around.sum(over)
        count = deviation.numel() // deviation.shape[1]
        slope = -of_weight * scale * invstd / count
        offset = -of_bias * scale / count - slope * mean
        scale, slope, offset = (values.reshape(per_channel) for values in (scale, slope, offset))
        of_deviation = torch.addcmul(offset, deviation, slope).addcmul_(of_window, scale)
        of_weight = None if weight is None else of_weight
        return of_deviation, of_around * scale, of_weight, of_bias if ctx.has_bias else None, None


def _batch_statistics(cells: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance per channel (C).

    PyTorch's fused sums run in double for float32, but one by one; in float64, where nothing wider is at hand, summing
    pairwise keeps two digits more.
    """
    if cells.dtype != torch.float64:
        return batch_norm_update_stats(cells, None, None, 0.0)
    over = (0, *range(2, cells.ndim))
    mean = cells.mean(over, keepdim=True)
    return mean.flatten(), (cells - mean).square().mean(over)


def _batch_gradients(of_cells: Tensor, cells: Tensor, mean: Tensor, invstd: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of scale and shift (C), of which the gradient of the cells is made; summed as the statistics are."""
    if cells.dtype != torch.float64:
        _, of_weight, of_bias = native_batch_norm_backward(
            of_cells, cells, None, None, None, mean, invstd, True, 0.0, [False, True, True]
        )
        return of_weight, of_bias
    over = (0, *range(2, cells.ndim))
    centred = cells - mean.reshape(1, -1, *[1] * (cells.ndim - 2))
    return (of_cells * centred).sum(over) * invstd, of_cells.sum(over)


@rule(F.instance_norm)
def instance_norm(
    function: Any,
    signal: Signal,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Signal:
    check_axes(signal, len(signal.axes), function)
    window, background = signal.window, signal.background
    normalised = function(window, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)
    if background is not None:
        if use_input_stats:
            mean, var = _statistics(window, signal.axes)
            background = _normalise(background, mean, var, weight, bias, eps).to(normalised.dtype)
        else:
            background = function(background, running_mean, running_var, weight, bias, False, momentum, eps)
    return signal.derive(normalised, background)


@rule(F.group_norm, torch.group_norm)
def group_norm(
    function: Any,
    signal: Signal,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Signal:
    check_axes(signal, len(signal.axes), function)
    window, background = signal.window, signal.background
    normalised = F.group_norm(window, num_groups, weight, bias, eps)
    if background is not None:
        n, channels = window.shape[:2]
        grouped = window.reshape(n, num_groups, channels // num_groups, -1)
        mean, var = (s.repeat_interleave(channels // num_groups, 1) for s in _statistics(grouped, (2, 3)))
        background = _normalise(background, mean, var, weight, bias, eps).to(normalised.dtype)
    return signal.derive(normalised, background)


def _statistics(cells: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over `dims`, in float32 at least."""
    if cells.dtype in (torch.float16, torch.bfloat16):
        cells = cells.float()
    var, mean = torch.var_mean(cells, dims, correction=0)
    return mean, var


def _normalise(
    background: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """(background - mean) / sqrt(var + eps) · weight + bias, channel by channel; statistics are (C) or (N, C).

    Computed as background · scale + shift, as PyTorch does for the window, so that equal cells stay equal.
    """

    def along_channels(values: Tensor) -> Tensor:
        return values.reshape(*(values.shape if values.ndim == 2 else (1, -1)), *[1] * (background.ndim - 2))

    scale = 1 / torch.sqrt(var + eps)
    scale = scale if weight is None else scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    return background * along_channels(scale) + along_channels(shift)
