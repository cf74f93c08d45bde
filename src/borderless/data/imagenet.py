"""How a network of ImageNet is shown a picture: its middle, and its colours by mean and deviation.

Shapes: pictures (3, H, W).
"""

from collections.abc import Sequence

import torch
from torchvision.transforms import v2

# What networks of ImageNet are trained on and see.
PAPER_CROP_PX = 224
# Of red, green and blue, in units of [0, 1].
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Of the shorter side, what is seen.
_SEEN = 7 / 8


def middle(size_px: int) -> list[v2.Transform]:
    """The middle of a picture, size_px × size_px."""
    return [v2.Resize(round(size_px / _SEEN), antialias=True), v2.CenterCrop(size_px)]


def normalised(mean: Sequence[float] = MEAN, deviation: Sequence[float] = DEVIATION) -> list[v2.Transform]:
    """Numbers from 0 to 1, less the mean, divided by the deviation."""
    return [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(deviation))]


def training_crops(size_px: int) -> list[v2.Transform]:
    """Return the random crops and flips that are shown in training, size_px × size_px."""
    return [v2.RandomResizedCrop(size_px, antialias=True), v2.RandomHorizontalFlip()]


def shown_through(crops: Sequence[v2.Transform]) -> v2.Compose:
    """Return what turns a photograph into crops as the network takes them."""
    return v2.Compose([v2.ToImage(), *crops, *normalised()])
