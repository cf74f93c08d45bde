"""Normalisations. Statistics are the window's; the background is normalised with the same ones.

Shapes: window (N, C, *space), background (1 or N, C, 1…), statistics (C) or (N, groups).
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from borderless.rules.registry import describe, rule
from borderless.rules.sliding import check_axes
from borderless.signal import Signal


@rule(F.batch_norm, torch.batch_norm)
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
    *_: Any,
) -> Signal:
    check_axes(signal, len(signal.axes), describe(function))
    window, background = signal.window, signal.background
    if training and background is not None:
        return _batch_norm_by_deviation(signal, background, running_mean, running_var, weight, bias, momentum, eps)
    normalised = F.batch_norm(window, running_mean, running_var, weight, bias, training, momentum, eps)
    if background is not None:
        background = F.batch_norm(background, running_mean, running_var, weight, bias, False, momentum, eps)
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
    """Batch statistics of the window, summed over its deviation from the background.

    BatchNorm does not see a constant that is taken off a channel. Without it, cells of pure background are 0: sums do
    not depend on where the object stands, and these cells come out bit for bit as the new background.
    """
    window = signal.window
    F._verify_batch_size(list(window.shape))  # pyright: ignore[reportAttributeAccessIssue]
    dtype = torch.float32 if window.dtype in (torch.float16, torch.bfloat16) else window.dtype
    constant = background.detach().to(dtype).mean(0, keepdim=True)
    axes = (0, *signal.axes)
    deviation = window.to(dtype) - constant
    mean = deviation.mean(axes, keepdim=True)
    var = (deviation - mean).square().mean(axes, keepdim=True)
    if running_mean is not None and running_var is not None:
        count = window.numel() // window.shape[1]
        with torch.no_grad():
            running_mean.lerp_((mean + constant).flatten().to(running_mean.dtype), momentum)
            running_var.lerp_((var * (count / (count - 1))).flatten().to(running_var.dtype), momentum)
    per_channel = (1, -1, *[1] * len(signal.axes))
    scale = (var + eps).rsqrt() if weight is None else (var + eps).rsqrt() * weight.reshape(per_channel)
    shift = -mean * scale if bias is None else bias.reshape(per_channel) - mean * scale
    normalised, background = ((cells * scale + shift).to(window.dtype) for cells in (deviation, background - constant))
    return signal.derive(normalised, background)


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
    check_axes(signal, len(signal.axes), describe(function))
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
    check_axes(signal, len(signal.axes), describe(function))
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
