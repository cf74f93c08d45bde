"""Compare what a detector finds of one object at several positions: its box, its label and its score.

Shapes: detections (n, `MOST`, 6), the best of each image first: box (left, top, right, bottom), score, label; rows of
zeros after the last. Values have boxes relative to the object, and a seventh number, the overlap with the object.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from borderless.measures.comparisons import Compared, Position

MOST = 100
# Two boxes are of the same object if they overlap by this (intersection over union), as COCO's AP50 has it.
SAME = 0.5
# The first position's detection is looked for among boxes that overlap the object by this.
_NEAR = 0.1


def is_detection(output: Any) -> bool:
    """Return whether an output is a list of dicts with boxes, scores and labels, one for each image."""
    if not isinstance(output, list | tuple) or not output:
        return False
    return all(
        isinstance(one, Mapping) and {"boxes", "scores", "labels"} <= set(cast(Mapping[Any, Any], one))
        for one in cast(Sequence[Any], output)
    )


def as_tensor(output: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """Return detections (n, `MOST`, 6) of a list of dicts with boxes, scores and labels."""
    found: list[Tensor] = []
    for one in output:
        rows = torch.cat([one["boxes"], one["scores"][:, None], one["labels"][:, None].to(one["boxes"])], 1)
        rows = rows[rows[:, 4].argsort(descending=True, stable=True)][:MOST]
        found.append(torch.nn.functional.pad(rows, (0, 0, 0, MOST - len(rows))))
    return torch.stack(found)


@dataclass(frozen=True)
class Detections:
    """Detections of images; a change is that the detection of the object is missed."""

    is_dense = True

    def read(self, outputs: Tensor, position: Position, object_px: Sequence[int], *_: Any) -> Tensor:
        """Return the detections (n, `MOST`, 7) relative to the object."""
        boxes = outputs[..., :4] - outputs.new_tensor([position[1], position[0]] * 2)
        boxes = torch.where(outputs[..., 4:5] > 0, boxes, torch.zeros_like(boxes))
        whole = outputs.new_tensor([0.0, 0.0, object_px[1], object_px[0]])
        overlap = torch.as_tensor(overlaps(boxes.double().cpu().numpy(), whole.double().cpu().numpy()))
        return torch.cat([boxes, outputs[..., 4:], overlap[..., None].to(outputs)], -1)

    def step(self, *_: Any) -> tuple[int, int]:
        """Return single pixels."""
        return 1, 1

    def compare(self, values: np.ndarray) -> Compared:
        """Return where the best detection of the object at the first position is missed, its scores and box overlaps.

        Objects that are not detected at the first position are left out.
        """
        values = values.astype(np.float64)
        near = (values[0, :, :, 6] >= _NEAR) & (values[0, :, :, 4] > 0)
        best = np.where(near, values[0, :, :, 4], -1).argmax(1)
        objects = np.flatnonzero(near.any(1))
        shape = (len(values), len(objects))
        score, overlap, moved = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        for column, n in enumerate(objects):
            wanted = values[0, n, best[n]]
            side = max(float((wanted[2:4] - wanted[:2]).max()), 1.0)
            for p, found in enumerate(values[:, n]):
                same = overlaps(found[:, :4], wanted[:4])
                fits = (found[:, 5] == wanted[5]) & (found[:, 4] > 0) & (same >= SAME)
                i = int(np.where(fits, found[:, 4], -1).argmax())
                if not fits[i]:
                    moved[p, column] = 1.0
                    continue
                score[p, column], overlap[p, column] = found[i, 4], same[i]
                box = np.abs(found[i, :4] - wanted[:4]).max() / side
                moved[p, column] = max(abs(found[i, 4] - wanted[4]), box)
        differs = (overlap == 0) * 1.0
        return Compared(differs, moved.max(0), np.ones(len(objects)), score=score, overlap=overlap)


def overlaps(boxes: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the intersection over union of boxes (..., 4) with one box (4,).

    >>> overlaps(np.array([[0.0, 0.0, 2.0, 2.0]]), np.array([1.0, 0.0, 3.0, 2.0])).round(3).tolist()
    [0.333]
    """
    low, high = np.maximum(boxes[..., :2], other[:2]), np.minimum(boxes[..., 2:], other[2:])
    both = np.prod(np.maximum(high - low, 0), -1)
    either = np.prod(boxes[..., 2:] - boxes[..., :2], -1) + np.prod(other[2:] - other[:2]) - both
    return both / np.maximum(either, 1e-12)
