"""Networks of all kinds of joints for tests of parts: small, random, in float64."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def norm_of(kind: str, channels: int) -> nn.Module:
    """A norm by its name: batch, group, instance or none."""
    made: dict[str, Any] = {
        "batch": lambda: nn.BatchNorm2d(channels),
        "group": lambda: nn.GroupNorm(2, channels),
        "instance": lambda: nn.InstanceNorm2d(channels, affine=True),
        "none": nn.Identity,
    }
    return made[kind]()


def block(inputs: int, outputs: int, mode: str, norm: str) -> nn.Sequential:
    """Two convolutions of 3 x 3 cells, with norms and activations in place."""
    layers: list[nn.Module] = []
    for i in range(2):
        layers += [nn.Conv2d(outputs if i else inputs, outputs, 3, padding=1, padding_mode=mode)]
        layers += [norm_of(norm, outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """A U-Net that pools by 2, `depth` times. up: transposed, nearest, bilinear, corners, bicubic, area or shuffle."""

    def __init__(self, depth: int = 2, up: str = "transposed", mode: str = "zeros", norm: str = "batch") -> None:
        super().__init__()
        channels = [4 * 2**i for i in range(depth + 1)]
        self.up = up
        self.down = nn.ModuleList(
            block(3 if i == 0 else channels[i - 1], channels[i], mode, norm) for i in range(depth + 1)
        )
        self.ups, self.decoder = nn.ModuleList(), nn.ModuleList()
        for i in reversed(range(depth)):
            made: nn.Module = nn.Conv2d(channels[i + 1], channels[i], 1)
            if up == "transposed":
                made = nn.ConvTranspose2d(channels[i + 1], channels[i], 2, 2)
            elif up == "shuffle":
                made = nn.Sequential(nn.Conv2d(channels[i + 1], 4 * channels[i], 1), nn.PixelShuffle(2))
            self.ups.append(made)
            self.decoder.append(block(2 * channels[i], channels[i], mode, norm))
        self.head = nn.Conv2d(channels[0], 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for i, down in enumerate(self.down):
            x = down(x if i == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        skips.pop()
        for up, decoder in zip(self.ups, self.decoder, strict=True):
            skip, x = skips.pop(), up(x)
            if self.up in ("transposed", "shuffle"):
                rows, columns = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
                x = F.pad(x, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])
            elif self.up == "corners":
                x = F.interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=True)
            else:
                x = F.interpolate(x, size=skip.shape[2:], mode=self.up)
            x = decoder(torch.cat([skip, x], 1))
        return self.head(x)


class Residual(nn.Module):
    """A network of strides with skips, squeeze-excite and several outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 7, 2, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.first, self.skip = nn.Conv2d(8, 8, 3, 2, 1, groups=2), nn.Conv2d(8, 8, 1, 2)
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
        self.last = nn.Conv2d(8, 4, 3, padding=2, dilation=2)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> dict[str, Any]:
        x = self.stem(x)
        y = self.first(x)
        y += self.skip(x)
        y = y * self.squeeze(y)
        z = self.last(F.avg_pool2d(y, 3, 2, 1, ceil_mode=True, count_include_pad=False))
        return {"maps": (x, y), "last": z, "classes": self.head(z.mean((2, 3)))}


class Pyramid(nn.Module):
    """Pools to grids, spread over the map again, and a position embedding."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, 2, 1)
        self.parts = nn.ModuleList(nn.Conv2d(6, 2, 1) for _ in range(3))
        self.embedding = nn.Parameter(torch.zeros(6, (size[0] + 1) // 2, (size[1] + 1) // 2))
        self.last = nn.Conv2d(12, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        x = self.stem(x) + self.embedding
        grids = [
            F.interpolate(part(F.adaptive_avg_pool2d(x, k)), size=x.shape[2:], mode="bilinear", align_corners=True)
            for k, part in zip((1, 2, 3), self.parts, strict=True)
        ]
        return F.interpolate(self.last(torch.cat([x, *grids], 1)), size=size, mode="bilinear")


def randomized(model: nn.Module, seed: int = 0) -> nn.Module:
    """`model` in eval mode and float64, with random parameters and statistics."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator) * 0.1)
                module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)
    return model.eval().double()
