"""Boxes with labels and scores, a dict per image, as torchvision's detectors return; a change is a missed object."""

from typing import Any

from torch import Tensor, nn

from borderless.auditing.tasks import Adapter, Words
from borderless.measures.comparisons import OutputComparison
from borderless.measures.detections import Detections, as_tensor, is_detection

NAME = "detection"
WORDS = Words(
    changes="{} of the objects that are detected in the middle are missed",
    cases="the same object is missed in {} of cases",
    label="of the objects that are detected in the middle are missed at other positions",
    column="objects that are missed, %",
    none="no object is missed",
    numbers="scores and boxes",
    kept="keeps {kept} of its detections",
    kept_axis="detections kept, %",
)
SKIPS = ("margin", "decodability", "shifts", "reach")
ANNOTATIONS = "boxes"
LEAST = 0.0
HAS_LABELS = False


def fits(output: Any, images: Tensor, _: bool) -> bool:
    """Return whether the output is a list of dicts with boxes, scores and labels."""
    return is_detection(output) and len(output) == len(images)


def adapter(_: Any) -> tuple[Adapter | None, str]:
    """Return what puts the dicts into one tensor."""
    return as_tensor, ""


def body(model: nn.Module) -> nn.Module:
    """Return the detector's backbone, which is what can be converted; without one, the model."""
    found = getattr(getattr(model, "model", model), "backbone", None)
    return found if isinstance(found, nn.Module) else model


def summary(outputs: Tensor) -> Tensor:
    """Return nothing (N, 0): detections need no spread."""
    return outputs.new_zeros(len(outputs), 0)


def comparison(_: Tensor) -> OutputComparison:
    """Return the comparison of detections."""
    return Detections()
