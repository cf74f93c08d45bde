"""One class per image: logits (N, classes); a change is another class."""

from typing import Any

import torch
from torch import Tensor

from borderless.auditing.tasks import Adapter, Words, as_a_whole
from borderless.measures.comparisons import CLASSES, OutputComparison

NAME = "classification"
WORDS = Words(
    changes="{} of the predictions change",
    cases="its prediction for the same object changes in {} of cases",
    label="of predictions change with the position",
    column="predictions that change, %",
    none="no prediction does",
    numbers="logits",
    kept="keeps {kept} of its predictions",
    kept_axis="predictions kept, %",
)
SKIPS = ("margin",)
ANNOTATIONS = ""
LEAST = 0.0
HAS_LABELS = True
body = as_a_whole


def fits(output: Any, images: Tensor, _: bool) -> bool:
    """Return whether the output is (N, classes)."""
    return isinstance(output, Tensor) and output.ndim == 2 and len(output) == len(images) and output.is_floating_point()


def adapter(output: Any) -> tuple[Adapter | None, str]:
    """Return what makes two logits of one, whose sign is the prediction."""
    if output.shape[1] != 1:
        return None, ""
    return _two_logits, "of the model's one logit, the sign is taken for the prediction"


def _two_logits(logit: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(logit), logit], 1)


def summary(outputs: Tensor) -> Tensor:
    """Return the predicted classes (N,)."""
    return outputs.argmax(1)


def comparison(_: Tensor) -> OutputComparison:
    """Return the comparison of classes."""
    return CLASSES
