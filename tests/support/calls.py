"""What models call, each in a small network."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import borderless as bl

CHANNELS = 4
SIZES = ((12, 16), (13, 11))
BORDERS: list[Any] = [None, "infinite", "full", "reflect", "circular", "valid", ("infinite", "valid"), "causal"]


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def changed(change: Callable[[Tensor], Any]) -> Callable[[Tensor], Tensor]:
    """A function that changes its map in place."""

    def run(y: Tensor) -> Tensor:
        change(y)
        return y

    return run


def doubled(y: Tensor) -> Tensor:
    n, c, h, w = y.shape
    return y[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2).reshape(n, c, 2 * h, 2 * w)


def shuffled(y: Tensor) -> Tensor:
    return y.view(y.shape[0], 2, 2, *y.shape[2:]).transpose(1, 2).reshape(y.shape)


def split_by_cells(y: Tensor) -> Tensor:
    parts = (y[..., ::2, ::2], y[..., 1::2, ::2], y[..., ::2, 1::2], y[..., 1::2, 1::2])
    return torch.cat([part[..., : y.shape[2] // 2, : y.shape[3] // 2] for part in parts], 1)


def context(y: Tensor) -> Tensor:
    return y * y.mean(3, keepdim=True).sigmoid() * y.mean(2, keepdim=True).sigmoid()


CALLS: dict[str, Callable[[Tensor], Any]] = {
    "a channel set": changed(lambda y: y.__setitem__((slice(None), 1), 0.5)),
    "channels set": changed(lambda y: y.__setitem__((slice(None), slice(2)), y[:, 2:] * 2)),
    "where a mask": changed(lambda y: y.__setitem__(y < 0, 0.5)),
    "channels times": changed(lambda y: y[:, :2].mul_(2)),
    "a chunk": changed(lambda y: y.chunk(2, 1)[0].relu_()),
    "a view": changed(lambda y: y.view_as(y * 1).add_(1)),
    "rows plus": changed(lambda y: y[:, :, 1:-1].add_(2)),
    "first rows plus": changed(lambda y: y[:, :, :4].add_(2)),
    "a row set": changed(lambda y: y[:, :, 0].zero_()),
    "a transposed slice times": changed(lambda y: y.transpose(2, 3)[:, :, 1:].mul_(2)),
    "GeM": lambda y: F.avg_pool2d(y.clamp(min=0.1).pow(3), y.shape[-2:]).pow(1 / 3).flatten(1),
    "a pool as large as the map": lambda y: F.avg_pool2d(y, y.shape[-2:]),
    "the mean of a pool as large as the map": lambda y: F.avg_pool2d(y, y.shape[-2:]).relu().flatten(1),
    "a maximum as large as the map": lambda y: F.max_pool2d(y, y.shape[-2:]).flatten(1),
    "squeeze and excite": lambda y: y * F.avg_pool2d(y, y.shape[-2:]).sigmoid(),
    "a small map pooled": lambda y: F.avg_pool2d(F.max_pool2d(y, (6, 8)), (2, 2)),
    "mean": lambda y: y.mean((2, 3)),
    "sum": lambda y: y.sum((2, 3)),
    "less the mean": lambda y: y - F.adaptive_avg_pool2d(y, 1),
    "over the spread": lambda y: y / (y.var((2, 3), keepdim=True) + 0.1),
    "less the largest": lambda y: y - y.amax((2, 3), keepdim=True),
    "coordinate attention": context,
    "rows' means": lambda y: y.mean(3, keepdim=True).sigmoid() * y,
    "columns' maxima": lambda y: y * y.amax(2, keepdim=True),
    "plus its mirror": lambda y: y + y.flip(3),
    "nearest, half": lambda y: F.interpolate(y, scale_factor=0.5),
    "nearest-exact, half": lambda y: F.interpolate(y, scale_factor=0.5, mode="nearest-exact"),
    "bilinear, half": lambda y: F.interpolate(y, scale_factor=0.5, mode="bilinear"),
    "area, half": lambda y: F.interpolate(y, scale_factor=0.5, mode="area"),
    "bilinear, 1.5": lambda y: F.interpolate(y, scale_factor=1.5, mode="bilinear"),
    "nearest, twice": lambda y: F.interpolate(y, scale_factor=2),
    "down and up": lambda y: y + F.interpolate(F.max_pool2d(y, 2), size=y.shape[2:], mode="bilinear"),
    "each cell twice": doubled,
    "channels shuffled": shuffled,
    "cells to channels": split_by_cells,
    "cut": lambda y: y[:, :, :-1, 2:],
    "every other": lambda y: y[:, :, ::2, 1::2],
    "differences": lambda y: y[..., 1:] - y[..., :-1],
    "the first column before": lambda y: torch.cat([y[:, :, :, :1], y], 3),
    "padded": lambda y: F.pad(y, (1, 2, 0, 1), value=0.5),
    "cut and padded": lambda y: F.pad(y, (-1, 2, 1, -1)),
    "padded by a mirror": lambda y: F.pad(y, (2, 1, 1, 0), mode="reflect"),
    "max pool": lambda y: F.max_pool2d(y, 3, 2, 1),
    "even max pool": lambda y: F.max_pool2d(y, 2, 1, 1),
    "max pool, ceil": lambda y: F.max_pool2d(y, 2, 2, ceil_mode=True),
    "average, ceil": lambda y: F.avg_pool2d(y, 2, 2, ceil_mode=True),
    "average of own cells": lambda y: F.avg_pool2d(y, 3, 2, 1, count_include_pad=False),
    "a wide step": lambda y: F.conv2d(y, noise(CHANNELS, CHANNELS, 2, 2), stride=3, padding=1),
    "a transposed convolution": lambda y: F.conv_transpose2d(y, noise(CHANNELS, CHANNELS, 4, 4), stride=2, padding=1),
    "another channel": lambda y: torch.cat([y, y.new_zeros(y.shape[0], 1, *y.shape[2:])], 1),
    "over the width": lambda y: y / y.shape[3],
    "over the root of the width": lambda y: y * y.shape[3] ** -0.5,
    "over the root of the width, as a number": lambda y: y / math.sqrt(y.shape[3]),
    "by the width's parity": lambda y: y * (2 - y.shape[3] % 2),
    "along the width": lambda y: y * torch.linspace(-1, 1, y.shape[3], dtype=y.dtype),
    "gather": lambda y: y.gather(1, y.argmax(1, keepdim=True)),
    "take": lambda y: y.take(torch.tensor([0, 3])),
}


class Calls(nn.Module):
    """A convolution, a call, and a convolution of what it gives."""

    def __init__(self, call: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, CHANNELS, 3, padding=1, dtype=torch.float64)
        self.first.weight.data, self.first.bias.data = noise(CHANNELS, 1, 3, 3), noise(CHANNELS)  # pyright: ignore[reportOptionalMemberAccess]
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        y = self.call(self.first(x))
        return F.conv2d(y, noise(2, y.shape[1], 3, 3, seed=2), padding=1) if y.ndim == 4 else y


def calls_under(name: str) -> list[tuple[nn.Module, Tensor]]:
    """The network of a call, unmodified and under each border, and an image for it."""
    found = []
    for number, border in enumerate(BORDERS):
        model = Calls(CALLS[name]).eval()
        image = noise(1, 1, *SIZES[number % 2], seed=5)
        found.append((model if border is None else bl.convert(model, border), image))
    return found
