"""How a network of ImageNet is shown a picture: its middle, and its colours by mean and deviation.

Shapes: pictures (3, H, W).
"""

from collections.abc import Sequence

import torch
from torchvision.transforms import v2

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
