"""Numbers per pixel (heat maps, depth): (N, channels, h, w) or (N, h, w), compared relative to their spread."""

from typing import Any

import torch
from torch import Tensor

from borderless.auditing.tasks import Words, as_a_whole, as_it_is
from borderless.errors import ImageError
from borderless.measures.comparisons import Numbers, OutputComparison

NAME = "dense"
WORDS = Words(
    changes="the output at the object's pixels changes by {} of its spread",
    cases="the output at the pixels of the same object changes by {} of its spread",
    label="of its spread is how much the output at an object's pixels changes with the position",
    column="change of the output, % of its spread",
    none="the output does not",
    numbers="outputs",
)
SKIPS = ("decodability", "shifts")
ANNOTATIONS = ""
LEAST = 0.05
HAS_LABELS = False
adapter, body = as_it_is, as_a_whole


def fits(output: Any, images: Tensor, _: bool) -> bool:
    """Return whether the output is (N, channels, h, w) or (N, h, w) with cells."""
    return (
        isinstance(output, Tensor)
        and output.ndim in (3, 4)
        and len(output) == len(images)
        and output.is_floating_point()
        and min(output.shape[-2:]) > 1
    )


def summary(outputs: Tensor) -> Tensor:
    """Return each channel's mean and mean square over cells (N, 2, channels)."""
    cells = (outputs[:, None] if outputs.ndim == 3 else outputs).double().flatten(2)
    return torch.stack([cells.mean(2), cells.square().mean(2)], 1)


def comparison(summaries: Tensor) -> OutputComparison:
    """Return the comparison relative to the standard deviation over cells and images.

    Raises:
        ImageError: The output is the same everywhere.
    """
    mean, square = summaries.mean(0)
    deviation = (square - mean.square()).clamp(min=0).sqrt()
    if float(deviation.max()) <= 1e-6 * float(square.max().sqrt()):
        raise ImageError("Expected an output that varies over the images, but got the same number everywhere.")
    floor = deviation[deviation > 0].min()
    return Numbers(torch.maximum(deviation, floor).numpy())
