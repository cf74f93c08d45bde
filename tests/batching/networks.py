"""Networks for batches of unequal images: small, with everything that reads beyond the cell or over all of space."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_POOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVERAGE = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}


class Sliding(nn.Module):
    """Biases, strides, ceil modes, averages that count fewer cells at the edge, a skip connection, changes in place."""

    def __init__(self, dims: int = 2, channels: int = 2) -> None:
        super().__init__()
        conv = _CONV[dims]
        self.stem = nn.Sequential(conv(channels, 6, 5, 2, 2), nn.ReLU(inplace=True), _POOL[dims](3, 2, 1))
        self.depthwise = conv(6, 6, 3, padding=2, dilation=2, groups=6)
        self.pool = _AVERAGE[dims](3, 2, 1, ceil_mode=True, count_include_pad=False)
        self.up = _TRANSPOSED[dims](6, 4, 4, 2, 1)
        self.head = conv(4, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        y = self.pool(F.silu(self.depthwise(y)) + y)
        return self.head(self.up(y))


class UNet(nn.Module):
    """GroupNorm, padding that mirrors, and skips that maps are resized for."""

    def __init__(self, dims: int = 2, mode: str | None = "bilinear", base: int = 4) -> None:
        super().__init__()
        conv, self.pool, self.mode = _CONV[dims], _POOL[dims](2), mode

        def block(before: int, after: int) -> nn.Sequential:
            mirrored = conv(after, after, 3, padding=1, padding_mode="reflect" if dims < 3 else "zeros")
            first = [conv(before, after, 3, padding=1), nn.GroupNorm(2, after), nn.SiLU()]
            return nn.Sequential(*first, mirrored, nn.GroupNorm(2, after), nn.ReLU(inplace=True))

        self.down = nn.ModuleList([block(2, base), block(base, 2 * base), block(2 * base, 4 * base)])
        self.grow = nn.ModuleList([_TRANSPOSED[dims](n * base, n * base, 2, 2) for n in (4, 2)])
        self.up = nn.ModuleList([block(6 * base, 2 * base), block(3 * base, base)])
        self.head = conv(base, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        skips = []
        for number, block in enumerate(self.down):
            x = block(self.pool(x) if number else x)
            skips.append(x)
        for skip, grow, block in zip(reversed(skips[:-1]), self.grow, self.up, strict=True):
            x = block(torch.cat([skip, self._as_large(x, skip, grow)], 1))
        return {"map": self.head(x), "mean": x.mean(tuple(range(2, x.ndim)))}

    def _as_large(self, x: Tensor, skip: Tensor, grow: nn.Module) -> Tensor:
        if self.mode is not None:
            return F.interpolate(x, size=skip.shape[2:], mode=self.mode)
        x = grow(x)
        missing = [skip.shape[axis] - x.shape[axis] for axis in reversed(range(2, x.ndim))]
        return F.pad(x, [amount for n in missing for amount in (n // 2, n - n // 2)])


class ConformerConvolution(nn.Module):
    """The convolution module of a Conformer (Gulati et al., 2020)."""

    def __init__(self, channels: int = 6, kernel: int = 7) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.expand, self.reduce = nn.Conv1d(channels, 2 * channels, 1), nn.Conv1d(channels, channels, 1)
        self.depthwise = nn.Conv1d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.batch_norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x.transpose(1, 2)).transpose(1, 2)
        return x + self.reduce(F.silu(self.batch_norm(self.depthwise(F.glu(self.expand(y), 1)))))


class WaveFrontEnd(nn.Module):
    """Strided convolutions without padding after a GroupNorm over time, as in wav2vec 2.0 (Baevski et al., 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv1d(1, 6, 10, 5, bias=False), nn.GroupNorm(6, 6)
        self.rest = nn.ModuleList([nn.Conv1d(6, 6, 3, 2, bias=False) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm(self.first(x)))
        for layer in self.rest:
            x = F.gelu(layer(x))
        return x.transpose(1, 2)


class Pyramid(nn.Module):
    """A ResNet with a feature pyramid."""

    def __init__(self, name: str = "test_resnet") -> None:
        super().__init__()
        self.body: Any = timm.create_model(name, features_only=True)
        self.fpn = torchvision.ops.FeaturePyramidNetwork(self.body.feature_info.channels(), 8)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        return self.fpn(OrderedDict((str(i), level) for i, level in enumerate(self.body(x))))


@dataclass
class Found:
    """What `Nested` returns."""

    dense: Tensor
    rest: tuple[Tensor, dict[str, Tensor]]
    name: str = "found"


class Nested(nn.Module):
    """Dense and global outputs in a dataclass, a tuple and a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(2, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Found:
        y = self.layer(x)
        return Found(y, (y.amax((2, 3)), {"std": y.std((2, 3)), "tokens": y.flatten(2).transpose(1, 2)}))


class Flattened(nn.Module):
    """A weight for each position."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.flat, self.fully = nn.Conv2d(2, 3, 3, padding=1), nn.Flatten(), nn.Linear(1200, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fully(self.flat(self.layer(x)))


class Attending(nn.Module):
    """Self-attention of all positions, without a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.attention = nn.Conv2d(2, 4, 4, 4), nn.MultiheadAttention(4, 1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.layer(x).flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens)[0]


class SizeDependent(nn.Module):
    """A path that depends on the size of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(2, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.shape[-1] > 20 else x


LIBRARY = {
    "ResNet": lambda: timm.create_model("test_resnet"),
    "MobileNetV3": lambda: torchvision.models.mobilenet_v3_small(width_mult=0.25),
    "EfficientNet": lambda: timm.create_model("test_efficientnet"),
    "ConvNeXt": lambda: timm.create_model("test_convnext"),
    "DenseNet": lambda: torchvision.models.DenseNet(8, (2, 2, 2, 2), 8),
    "FPN": Pyramid,
}
LARGE = {
    "ResNet-18": torchvision.models.resnet18,
    "ResNet-50": torchvision.models.resnet50,
    "MobileNetV3": torchvision.models.mobilenet_v3_large,
    "EfficientNet-B0": torchvision.models.efficientnet_b0,
    "ConvNeXt-T": torchvision.models.convnext_tiny,
    "DenseNet-121": torchvision.models.densenet121,
    "VGG-11": torchvision.models.vgg11_bn,
    "RegNetY": lambda: timm.create_model("regnety_002"),
    "ResNet-50-D": lambda: timm.create_model("resnet50d"),
    "TF-EfficientNet": lambda: timm.create_model("tf_efficientnet_b0"),
    "FPN": lambda: Pyramid("resnet18"),
}


def randomized(model: nn.Module, dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Module:
    """Return `model` in eval mode with random parameters and statistics, so that nothing is 0 or 1 by chance."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=generator) - 0.5
            is_scale = value.ndim < 2 and ("weight" in name or "var" in name)
            value.data = 1 + 0.5 * noise if is_scale else noise * (4 / max(1, value[0].numel())) ** 0.5
    return model.to(dtype).eval()
