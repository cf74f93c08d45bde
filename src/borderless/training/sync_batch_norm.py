"""BatchNorm over all processes, on any device: PyTorch's own SyncBatchNorm runs on GPUs alone.

Each process sums its cells of a channel; the sums, added up, give the batch's mean and variance. Gradients flow
through them, so a step is that of one process with the whole batch.
"""

from typing import Any

import torch
from torch import Tensor, distributed, nn

from borderless.conversion import conversion_of
from borderless.engine.torch_internals import AnyBatchNorm
from borderless.errors import TrainingError
from borderless.runtime.distributed import process_group


class SynchronizedBatchNorm(AnyBatchNorm):
    """Replaces a BatchNorm of any dimension, with its parameters' and buffers' names."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"Expected an input (batch, channels, …) but got shape {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """Normalize `input` (batch, channels, …), in training by the statistics of all processes' batches."""
        if not self.training or process_group().size == 1:
            return super().forward(input)
        given = input.dtype
        input = input.to(torch.promote_types(given, torch.float32))
        axes = [axis for axis in range(input.ndim) if axis != 1]
        shape = [1, -1, *([1] * (input.ndim - 2))]
        cells = input.numel() // input.shape[1]
        count = float(process_group().all_reduce_sum(cells)[0])
        mean = _total(input.sum(axes)) / count
        deviation = input - mean.reshape(shape)
        variance = _total(deviation.square().sum(axes)) / count
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            with torch.no_grad():
                self.num_batches_tracked += 1
                share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
                self.running_var.lerp_((variance * (count / (count - 1))).to(self.running_var.dtype), share)
        scale = (variance + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        normalized = deviation * scale.reshape(shape)
        return (normalized if self.bias is None else normalized + self.bias.reshape(shape)).to(given)


def _total(value: Tensor) -> Tensor:
    return _Total.apply(value)


class _Total(torch.autograd.Function):
    """The sum over all processes. Every process's loss depends on it, so gradients are summed as well."""

    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        value = value.contiguous().clone()
        distributed.all_reduce(value)
        return value

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        gradient = gradient.contiguous().clone()
        distributed.all_reduce(gradient)
        return gradient


_KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def sync_batchnorm_(model: nn.Module) -> None:
    """Replace every BatchNorm by a SynchronizedBatchNorm.

    Raises:
        TrainingError: The model is converted, or a class adds something to BatchNorm.
    """
    if conversion_of(model) is not None:
        raise TrainingError(
            "Expected a model that is not converted with sync_batchnorm=True but got a converted "
            f"{type(model).__name__}, whose statistics are those of its content; leave sync_batchnorm out"
        )
    for name, norm in [*model.named_modules()]:
        if isinstance(norm, AnyBatchNorm) and not isinstance(norm, SynchronizedBatchNorm):
            if type(norm) not in _KINDS:
                raise TrainingError(
                    f"Expected BatchNorms of torch.nn with sync_batchnorm=True but got {type(norm).__name__} ({name}), "
                    "whose additions would be lost; leave sync_batchnorm out"
                )
            made = SynchronizedBatchNorm(
                norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
            )
            made.weight, made.bias = norm.weight, norm.bias
            made.running_mean, made.running_var = norm.running_mean, norm.running_var
            made.num_batches_tracked = norm.num_batches_tracked
            made.train(norm.training)
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, made)
