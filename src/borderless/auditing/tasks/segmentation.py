"""A label per pixel: logits (N, classes, h, w), or one logit per pixel for a yes or no; a change is another label."""

from typing import Any

from torch import Tensor

from borderless.auditing.tasks import Words, as_a_whole, as_it_is
from borderless.measures.comparisons import Labels, OutputComparison

NAME = "segmentation"
WORDS = Words(
    changes="{} of the object's pixels get another label",
    cases="{} of the pixels of the same object get another label",
    label="of an object's pixels get another label with the position",
    column="pixels with another label, %",
    none="no label does",
    numbers="logits",
    kept="keeps {kept} of the pixels' labels",
    kept_axis="labels kept, %",
)
SKIPS = ("decodability", "shifts")
ANNOTATIONS = "masks"
LEAST = 0.01
HAS_LABELS = False
adapter, body = as_it_is, as_a_whole


def fits(output: Any, images: Tensor, is_asked: bool) -> bool:
    """Return whether the output is (N, classes, h, w), with two classes or more unless the task is asked for."""
    return (
        isinstance(output, Tensor)
        and output.ndim == 4
        and len(output) == len(images)
        and output.is_floating_point()
        and (is_asked or output.shape[1] > 1)
        and min(output.shape[2:]) > 1
    )


def summary(outputs: Tensor) -> Tensor:
    """Return nothing (N, 0): labels need no spread."""
    return outputs.new_zeros(len(outputs), 0)


def comparison(_: Tensor) -> OutputComparison:
    """Return the comparison of labels."""
    return Labels()
