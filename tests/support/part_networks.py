"""Small networks with what large ones have."""

import random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def settled(model: nn.Module) -> nn.Module:
    """The model in double precision and evaluation mode, with statistics as after a training."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            shape = module.num_features
            module.running_mean = torch.randn(shape, generator=generator) / 10
            module.running_var = torch.rand(shape, generator=generator) + 0.5
    return model.double().eval()


class UNet(nn.Module):
    """Depth 2; `up` tells how maps are enlarged, `mode` what lies outside."""

    def __init__(self, up: str = "transposed", mode: str = "zeros", channels: int = 1) -> None:
        super().__init__()
        self.up = up
        widths = (4, 6, 8)
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, 3, padding=1, padding_mode=mode), nn.BatchNorm2d(o), nn.ReLU(inplace=True))
            for i, o in zip((channels, *widths), widths, strict=False)
        )
        shuffled = up == "shuffle"
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(i, o, 2, 2) if up == "transposed" else nn.Conv2d(i, 4 * o if shuffled else o, 1)
            for i, o in ((8, 6), (6, 4))
        )
        self.join = nn.ModuleList(nn.Conv2d(2 * o, o, 3, padding=1, padding_mode=mode) for o in (6, 4))
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for number, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if number else x)
            skips.append(x)
        skips.pop()
        for up, join in zip(self.ups, self.join, strict=True):
            skip = skips.pop()
            x = up(x)
            if self.up == "shuffle":
                x = F.pixel_shuffle(x, 2)
            elif self.up == "corners":
                x = F.interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=True)
            elif self.up != "transposed":
                x = F.interpolate(x, size=skip.shape[2:], mode=self.up)
            missing = [n - m for n, m in zip(skip.shape[2:], x.shape[2:], strict=True)]
            x = F.pad(x, [0, missing[1], 0, missing[0]])
            x = join(torch.cat([skip, x], 1)).relu()
        return self.head(x)


class Pyramid(nn.Module):
    """Two strides and a top-down path: a dict of maps, as torchvision's FPN."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, 2, 1)
        self.deeper = nn.Conv2d(4, 6, 3, 2, 1)
        self.side = nn.ModuleList([nn.Conv2d(4, 3, 1), nn.Conv2d(6, 3, 1)])
        self.out = nn.ModuleList([nn.Conv2d(3, 3, 3, padding=1) for _ in range(2)])

    def forward(self, x: Tensor) -> dict[str, Any]:
        fine = self.stem(x).relu()
        coarse = self.deeper(fine).relu()
        top = self.side[1](coarse)
        near = self.side[0](fine) + F.interpolate(top, size=fine.shape[2:], mode="nearest")
        return {"fine": self.out[0](near), "coarse": (self.out[1](top), coarse)}


class Residual(nn.Module):
    """A strided residual block, as in a ResNet."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
            nn.Conv2d(out, out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.short = nn.Conv2d(width, out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.short(x))


class Causal(nn.Module):
    """A convolution along rows that reads no row below, then one with an even kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, dilation=(2, 1))
        self.second = nn.Conv2d(4, 2, 4, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(F.pad(x, (1, 1, 4, 0))).tanh())


NETWORKS = {
    **{name: (lambda name=name: UNet(name)) for name in ("transposed", "nearest", "bilinear", "corners", "shuffle")},
    "reflect": lambda: UNet("transposed", "reflect"),
    "replicate": lambda: UNet("nearest", "replicate"),
    "circular": lambda: UNet("transposed", "circular"),
    "pyramid": Pyramid,
    "resnet": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 7, 2, 3), nn.MaxPool2d(3, 2, 1), Residual(4, 6, 2), Residual(6, 6, 1)
    ),
    "causal": Causal,
}


def random_network(rnd: random.Random) -> nn.Module:
    """A chain of strides, dilations, paddings, pools and enlargements along two axes."""
    layers: list[nn.Module] = []
    channels, scale = 1, 1
    for _ in range(rnd.randint(2, 5)):
        kind = rnd.choice(("conv", "conv", "conv", "pool", "up", "reflect"))
        kernel, padding = rnd.randint(1, 4), rnd.randint(0, 2)
        padding = min(padding, kernel // 2)
        if kind == "pool" and scale < 8:
            stride = rnd.choice((2, 3))
            layers.append(rnd.choice((nn.MaxPool2d, nn.AvgPool2d))(max(2, kernel), stride, padding=min(1, padding)))
            scale *= stride
        elif kind == "up" and scale > 1:
            layers.append(nn.ConvTranspose2d(channels, 2, rnd.randint(2, 4), 2, 1))
            channels = 2
        elif kind == "reflect":
            layers.append(nn.ReflectionPad2d((rnd.randint(0, 2), rnd.randint(0, 2), rnd.randint(0, 2), 1)))
        else:
            dilation = rnd.randint(1, 2)
            stride = rnd.choice((1, 1, 2)) if scale < 8 else 1
            layers += [nn.Conv2d(channels, 2, kernel, stride, padding, dilation), nn.Tanh()]
            channels, scale = 2, scale * stride
    return nn.Sequential(*layers)
