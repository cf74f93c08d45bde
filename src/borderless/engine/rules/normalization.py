"""Normalizations. Statistics are the window's (`statistics`); the background is normalized with the same ones.

Shapes: window (N, C, *space), background (1 or N, C, 1…), statistics (C) or (N, groups).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from borderless.engine.naming import describe
from borderless.engine.registry import Kind, rule
from borderless.engine.rules.plan import check_axes, has_other_dimensions
from borderless.engine.rules.statistics import cells_of_whole, moments, moments_of_whole
from borderless.engine.signal import Signal
from borderless.engine.tiles import is_constant, less
from borderless.engine.torch_internals import batch_norm_update_stats, native_batch_norm_backward, verify_batch_size


def _need_of_norm(function: Any, signal: Signal, *_: Any, **__: Any) -> Kind:
    is_constant_around = signal.background is None or is_constant(signal.background, signal.axes)
    return "gathered" if is_constant_around else "everything"


def _need_of_batch_norm(function: Any, signal: Any, *args: Any, **kwargs: Any) -> Kind:
    is_training = kwargs.get("training", args[4] if len(args) > 4 else False)
    return _need_of_norm(function, signal) if is_training else "cell"


@rule(torch.batch_norm, needs=_need_of_batch_norm)
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
    """Return the same as the one of torch.nn.functional, with its parameters in another order."""
    return batch_norm(function, signal, running_mean, running_var, weight, bias, training, momentum, eps)


@rule(F.batch_norm, needs=_need_of_batch_norm)
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
    """Normalize the background with the window's statistics, or with the running ones."""
    has_others = has_other_dimensions(signal, signal.ndim - 2)
    if not has_others or (training and any(signal.shape[d] > 1 for d in range(2, signal.ndim) if d not in signal.axes)):
        check_axes(signal, None, function, weight, bias, running_mean, running_var)
    background = signal.background
    if training and signal.scope.shares_passes:
        raise signal.scope.unsupported(
            describe(function),
            "it takes the statistics of its batch, and a placement runs objects at several positions in one batch",
        )
    if training and signal.is_gathered:
        over = (0, *signal.axes)
        mean, var = moments_of_whole(signal, signal.window, over)
        count = cells_of_whole(signal, over)
        _update_running(running_mean, running_var, mean.flatten(), var.flatten(), count, momentum)
        return _normalized_part(signal, mean, var, weight, bias, eps)
    if training and background is not None:
        return _batch_norm_by_deviation(signal, background, running_mean, running_var, weight, bias, momentum, eps)
    window = signal.window
    if training:
        verify_batch_size(list(window.shape))
    numbers = (weight, bias, running_mean, running_var)
    cudnn = torch.backends.cudnn.enabled
    normalized = torch.batch_norm(window, *numbers, training, momentum, eps, cudnn)
    if background is not None:
        background = torch.batch_norm(background, *numbers, False, momentum, eps, cudnn)
    return signal.derive(normalized, background)


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
    not depend on the object's position, and these cells come out as the new background.
    """
    verify_batch_size(list(signal._sizes))
    if not is_constant(background, signal.axes):  # how many cells of each kind of a tile the window holds is chance
        window = signal.window
        mean, var = moments(window, background, signal.axes, signal.box, (0, *signal.axes))
        _update_running(running_mean, running_var, mean.flatten(), var.flatten(), _cells_of(window), momentum)
        return signal.derive(*(_normalize(cells, mean, var, weight, bias, eps) for cells in (window, background)))
    known = signal.known_deviation
    if known is not None and len(background) == 1:
        constant, deviation, around = background.detach(), known, torch.zeros_like(background)
    else:
        constant = background.detach().mean((0, *signal.axes), keepdim=True)
        deviation, around = less(signal.window, constant), less(background, constant)
    dtype = deviation.dtype
    if dtype in (torch.float16, torch.bfloat16):
        deviation, around = deviation.float(), around.float()
    normalized, around, mean, var = _DeviationNorm.apply(  # pyright: ignore[reportGeneralTypeIssues]
        deviation, around.to(deviation.dtype), weight, bias, eps
    )
    _update_running(running_mean, running_var, mean + constant.flatten(), var, _cells_of(deviation), momentum)
    return signal.derive(normalized.to(dtype), around.to(dtype))


def _cells_of(window: Tensor) -> int:
    return window.numel() // window.shape[1]


@torch.no_grad()
def _update_running(
    running_mean: Tensor | None,
    running_var: Tensor | None,
    mean: Tensor,
    var: Tensor,
    count: int,
    momentum: float,
) -> None:
    """Move running statistics (C) towards those of a batch of `count` cells, whose variance is the biased one."""
    if running_mean is None or running_var is None:
        return
    running_mean.lerp_(mean.to(running_mean.dtype), momentum)
    running_var.lerp_((var * (count / (count - 1))).to(running_var.dtype), momentum)


class _DeviationNorm(torch.autograd.Function):
    """A deviation and its background, normalized by the statistics of the former.

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
        ctx.save_for_backward(deviation, around, weight, bias, mean, invstd)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, var)
        return torch.addcmul(shift, deviation, scale), torch.addcmul(shift, around, scale), mean, var

    @staticmethod
    def backward(ctx: Any, of_window: Tensor, of_around: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        deviation, around, weight, bias, mean, invstd = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _gradients_with_graph(ctx.saved_tensors[:4], ctx.eps, (of_window, of_around))
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
        return of_deviation, of_around * scale, of_weight, None if bias is None else of_bias, None


def _gradients_with_graph(
    inputs: Sequence[Tensor | None], eps: float, of_outputs: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """Return the gradients of `_DeviationNorm` such that they have gradients, as penalties on gradients need.

    inputs: deviation, background, weight, bias. of_outputs: the gradients of the first two, normalized.
    """
    deviation, around, weight, bias = inputs
    assert deviation is not None and around is not None
    var, mean = torch.var_mean(deviation, (0, *range(2, deviation.ndim)), correction=0, keepdim=True)
    normalized = [_normalize(cells, mean, var, weight, bias, eps) for cells in (deviation, around)]
    wanted = [one for one in inputs if one is not None and one.requires_grad]
    found = iter(torch.autograd.grad(normalized, wanted, of_outputs, create_graph=True, allow_unused=True))
    return (*(next(found) if one is not None and one.requires_grad else None for one in inputs), None)


def _batch_statistics(cells: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance per channel (C).

    On the CPU PyTorch's fused sums run in double for float32, but one by one; in float64, where nothing wider is at
    hand, summing pairwise keeps two digits more. A GPU sums pairwise.
    """
    if _sums_in_double(cells):
        return batch_norm_update_stats(cells, None, None, 0.0)
    over = (0, *range(2, cells.ndim))
    mean = cells.mean(over, keepdim=True)
    return mean.flatten(), (cells - mean).square().mean(over)


def _batch_gradients(of_cells: Tensor, cells: Tensor, mean: Tensor, invstd: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of scale and shift (C), of which the gradient of the cells is made; summed as the statistics are."""
    if _sums_in_double(cells):
        _, of_weight, of_bias = native_batch_norm_backward(
            of_cells, cells, None, None, None, mean, invstd, True, 0.0, [False, True, True]
        )
        return of_weight, of_bias
    over = (0, *range(2, cells.ndim))
    centered = cells - mean.reshape(1, -1, *[1] * (cells.ndim - 2))
    return (of_cells * centered).sum(over) * invstd, of_cells.sum(over)


def _sums_in_double(cells: Tensor) -> bool:
    return cells.device.type == "cpu" and cells.dtype != torch.float64


@rule(F.instance_norm, needs=_need_of_norm)
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
    """Normalize each channel of each sample by its own statistics."""
    check_axes(signal, None, function, weight, bias, running_mean, running_var)
    window, background = signal.window, signal.background
    numbers = (running_mean, running_var, weight, bias, use_input_stats, momentum, eps)
    if use_input_stats and signal.is_gathered:
        mean, var = moments_of_whole(signal, window, signal.axes)
        return _normalized_part(signal, mean, var, weight, bias, eps)
    if background is None:
        return signal.derive(function(window, *numbers), None)
    if not use_input_stats:
        return signal.derive(function(window, *numbers), function(background, *numbers))
    signal.scope.averages("window", function, signal)
    mean, var = moments(window, background, signal.axes, signal.box, signal.axes)
    around = _normalize(background, mean, var, weight, bias, eps)
    if is_constant(background, signal.axes):
        return signal.derive(function(window, *numbers), around)
    count = _cells_of(window[:1])
    _update_running(running_mean, running_var, mean.mean(0).flatten(), var.mean(0).flatten(), count, momentum)
    return signal.derive(_normalize(window, mean, var, weight, bias, eps), around)


@rule(F.group_norm, torch.group_norm, needs=_need_of_norm)
def group_norm(
    function: Any,
    signal: Signal,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Signal:
    """Normalize groups of channels of each sample by their statistics."""
    check_axes(signal, None, function, weight, bias)
    window, background = signal.window, signal.background
    axes = tuple(axis + 1 for axis in signal.axes)
    if signal.is_gathered:
        statistics = moments_of_whole(signal, window.unflatten(1, (num_groups, -1)), (2, *axes), axes)
        members = window.shape[1] // num_groups
        mean, var = (one.expand(-1, -1, members, *[-1] * len(axes)).flatten(1, 2) for one in statistics)
        return _normalized_part(signal, mean, var, weight, bias, eps)
    if background is None:
        return signal.derive(F.group_norm(window, num_groups, weight, bias, eps), None)
    signal.scope.averages("window", function, signal)
    groups, around = (cells.unflatten(1, (num_groups, -1)) for cells in (window, background))
    mean, var = moments(groups, around, axes, signal.box, (2, *axes))
    members = window.shape[1] // num_groups
    mean, var = (values.expand(-1, -1, members, *[-1] * len(axes)).flatten(1, 2) for values in (mean, var))
    around = _normalize(background, mean, var, weight, bias, eps)
    if is_constant(background, signal.axes):
        return signal.derive(F.group_norm(window, num_groups, weight, bias, eps), around)
    return signal.derive(_normalize(window, mean, var, weight, bias, eps), around)


def _normalized_part(
    signal: Signal, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Signal:
    """Normalize a part of a map, or a batch of unequal samples, by the statistics of whole maps."""
    around = signal.background
    around = None if around is None else _normalize(around, mean, var, weight, bias, eps)
    return signal.derive(_normalize(signal.window, mean, var, weight, bias, eps), around)


def _normalize(
    cells: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """(cells - mean) / sqrt(var + eps) · weight + bias, in the type of `cells`; statistics are (1 or N, C, 1…).

    Computed as cells · scale + shift, as PyTorch does, so that equal cells stay equal.
    """
    scale = 1 / torch.sqrt(var + eps)
    shift = -mean * scale
    if weight is not None:
        weight = weight.reshape(-1, *[1] * (cells.ndim - 2))
        scale, shift = scale * weight, shift * weight
    if bias is not None:
        shift = shift + bias.reshape(-1, *[1] * (cells.ndim - 2))
    return torch.addcmul(shift, cells, scale).to(cells.dtype)
