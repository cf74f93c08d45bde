"""Preprocessing of ImageNet: the middle of a picture, normalized by mean and deviation of its colors.

Shapes: pictures (3, H, W).
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch

# What networks of ImageNet are trained on and see.
PAPER_CROP_PX = 224
# Of red, green and blue, in units of [0, 1].
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Of the shorter side, what is seen.
_SEEN = 7 / 8


def transforms() -> ModuleType:
    """Return torchvision's transforms, whose import takes seconds that only image readers need to wait."""
    from torchvision.transforms import v2

    return v2


def middle(size_px: int) -> list[Any]:
    """Return the transforms that cut out the middle of a picture, size_px × size_px."""
    v2 = transforms()
    return [v2.Resize(round(size_px / _SEEN), antialias=True), v2.CenterCrop(size_px)]


def normalized(mean: Sequence[float] = MEAN, deviation: Sequence[float] = DEVIATION) -> list[Any]:
    """Return the transforms that scale to numbers from 0 to 1, subtract the mean, and divide by the deviation."""
    v2 = transforms()
    return [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(deviation))]


def training_crops(size_px: int) -> list[Any]:
    """Return the random crops and flips of training, size_px × size_px."""
    v2 = transforms()
    return [v2.RandomResizedCrop(size_px, antialias=True), v2.RandomHorizontalFlip()]


def shown_through(crops: Sequence[Any]) -> Any:
    """Return the transform from a photograph to a network's input, through `crops`."""
    v2 = transforms()
    return v2.Compose([v2.ToImage(), *crops, *normalized()])
