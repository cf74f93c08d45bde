"""Anti-aliasing: every stride reads a blurred map, so that a shift of one pixel changes little (Zhang, ICML 2019).

BlurPool is a convolution or a max pool with stride 1, then a binomial filter that is read at every `stride`-th cell. A
convolution may as well read a blurred map, for both are linear and shift alike; that costs nothing but the blur, since
the convolution keeps its stride. At the edge the two differ, and with a nonlinearity between convolution and filter, as
in Zhang's networks, they are similar, not equal. Zhang also leaves a network's first convolution alone.
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from borderless.conversion import conversion_of
from borderless.engine.rules.plan import per_axis
from borderless.errors import ConversionError

_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
# Dimensions of a sliding module, and whether it is a pool.
_KINDS: dict[type[nn.Module], tuple[int, bool]] = {
    nn.Conv1d: (1, False),
    nn.Conv2d: (2, False),
    nn.Conv3d: (3, False),
    nn.MaxPool1d: (1, True),
    nn.MaxPool2d: (2, True),
    nn.MaxPool3d: (3, True),
}


def blur(model: nn.Module, taps: int = 3) -> nn.Module:
    """Return a copy of `model` in which strided convolutions and max pools read or return blurred feature maps.

    Parameters keep their names and values, feature maps their sizes (a max pool in ceil mode may lose a cell). Average
    pools are low-pass filters already and stay.

    Args:
        model: A model that is not converted: blur first, then convert.
        taps: Width of the binomial filter (3: 1 2 1 along each axis). It is padded by its half with zeros, and with the
            border's values once the model is converted.

    Returns:
        The blurred copy, of the same class.

    Raises:
        ConversionError: The model is converted or has no strides, or `taps` is even or less than 3.

    Example:
        >>> import torch, borderless as bl
        >>> model = bl.blur(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=2, padding=1), torch.nn.MaxPool2d(2)))
        >>> model(torch.rand(1, 3, 32, 32)).shape
        torch.Size([1, 8, 8, 8])
    """
    if conversion_of(model) is not None:
        raise ConversionError(
            f"Expected a model that is not converted but got a converted {type(model).__name__}; blur it first: "
            "bl.convert(bl.blur(model), border)."
        )
    if taps < 3 or taps % 2 == 0:
        raise ConversionError(f"Expected taps to be an odd number, 3 or more, but got {taps}.")
    model = deepcopy(model)
    changed = 0
    for name, module in [*model.named_modules()]:
        kind = next((kind for kind in _KINDS if isinstance(module, kind)), None)
        if kind is None:
            continue
        dimensions, is_pool = _KINDS[kind]
        stride = per_axis(module.stride, dimensions)
        if max(stride) == 1:
            continue
        changed += 1
        if not is_pool:
            hook = _BlurredInput(_filter(taps, stride))
            hook.handle = module.register_forward_pre_hook(hook)
            continue
        pool = _BlurredPool(module, _filter(taps, stride), stride)
        if module is model:
            return pool
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, pool)
    if not changed:
        raise ConversionError(
            "Expected a model with strided convolutions or max pools (as modules of torch.nn) but got a "
            f"{type(model).__name__} without; there is nothing to blur."
        )
    return model


def _filter(taps: int, strides: Sequence[int]) -> Tensor:
    """Return the binomial filter along axes with a stride, a single 1 along others: (1, 1, *kernel), of sum 1."""
    row = torch.tensor([float(math.comb(taps - 1, k)) for k in range(taps)]) / 2 ** (taps - 1)
    kernel = torch.ones(())
    for stride in strides:
        kernel = kernel[..., None] * (row if stride > 1 else torch.ones(1))
    return kernel[None, None]


def _blurred(maps: Tensor, kernel: Tensor, stride: Sequence[int]) -> Tensor:
    """Blur each channel by itself, padded by half the kernel."""
    dimensions = kernel.ndim - 2
    channels = maps.shape[-1 - dimensions]
    kernel = kernel.to(maps.device, maps.dtype).expand(channels, -1, *kernel.shape[2:])
    half = [size // 2 for size in kernel.shape[2:]]
    return _CONVOLVE[dimensions](maps, kernel, None, stride, half, 1, channels)


@dataclass
class _BlurredInput:
    """A hook, so that a convolution of any class keeps its own code and its parameters' names.

    handle: its own. Loaded in another process, that moves PyTorch's count of hooks past this one.
    """

    kernel: Tensor
    handle: RemovableHandle | None = None

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        maps, *others = inputs
        return (_blurred(maps, self.kernel, [1] * (self.kernel.ndim - 2)), *others)


class _BlurredPool(nn.Module):
    """A max pool with stride 1, blurred and read at every stride-th cell."""

    def __init__(self, pool: nn.Module, kernel: Tensor, stride: Sequence[int]) -> None:
        super().__init__()
        self.pool, self.stride = pool, stride
        self.pool.stride = 1  # pyright: ignore[reportArgumentType]
        self.register_buffer("kernel", kernel, persistent=False)
        self.train(pool.training)

    def forward(self, maps: Tensor) -> Tensor:
        return _blurred(self.pool(maps), self.kernel, self.stride)  # pyright: ignore[reportArgumentType]
