"""Numbers per image: (N,) or (N, D); a change is measured in standard deviations over the images."""

from typing import Any

import torch
from torch import Tensor

from borderless.auditing.tasks import Words, as_a_whole, as_it_is
from borderless.errors import ImageError
from borderless.measures.comparisons import OutputComparison, Vectors

NAME = "regression"
WORDS = Words(
    changes="the output changes by {} of its spread over images",
    cases="its output for the same object changes by {} of the spread over images",
    label="of the spread over images is how much the output changes with the position",
    column="change of the output, % of its spread over images",
    none="the output does not",
    numbers="standardized outputs",
)
SKIPS = ("margin", "shifts")
ANNOTATIONS = ""
LEAST = 0.05
HAS_LABELS = False
adapter, body = as_it_is, as_a_whole


def fits(output: Any, images: Tensor, _: bool) -> bool:
    """Return whether the output is (N,) or (N, D)."""
    return (
        isinstance(output, Tensor)
        and output.ndim in (1, 2)
        and len(output) == len(images)
        and output.is_floating_point()
    )


def summary(outputs: Tensor) -> Tensor:
    """Return the outputs (N, D)."""
    return outputs.double().flatten(1) if outputs.ndim > 1 else outputs.double()[:, None]


def comparison(summaries: Tensor) -> OutputComparison:
    """Return the comparison relative to the standard deviation over images.

    Raises:
        ImageError: All images have the same output, so that there is no spread.
    """
    deviation = summaries.std(0, correction=0)
    if len(summaries) < 2 or float(deviation.max()) <= 0:
        raise ImageError(
            f"Expected images with different outputs, whose spread changes are relative to, but got {len(summaries)} "
            "with the same output; give more images."
        )
    # An output that is the same for all images is no yardstick: it counts with the smallest spread of the others.
    floor = deviation[deviation > 0].min()
    return Vectors(summaries.mean(0).numpy(), torch.maximum(deviation, floor).numpy())
