"""Move objects over photographs and over an empty canvas.

Shapes: objects (M, C, h, w); photographs (M, C, H, W).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from borderless.auditing.figures import Example
from borderless.auditing.parts.layout import NetworkLayout
from borderless.auditing.subject import Subject
from borderless.errors import ImageError
from borderless.measures.comparisons import joined
from borderless.measures.fragility import Fragility, fragility, scene
from borderless.measures.object_outputs import on_photographs, snapped
from borderless.measures.position_sensitivity import Sensitivity, sensitivity
from borderless.measures.positions import middle_of, on_grid
from borderless.measures.prediction_changes import OnPhotographs, placed
from borderless.runtime.evaluation import evaluating

# Objects are added until half the width of the interval is this, in shares; the first are so many. The causes are told
# apart on the first objects: each costs several networks.
_HALF_WIDTH, _FIRST_OBJECTS, _CAUSE_OBJECTS = 0.10, 8, 8


def start_count(subject: Subject) -> int:
    """Return how many objects are moved at least."""
    return min(subject.object_count or _FIRST_OBJECTS, len(subject.objects))


def _canvas(subject: Subject) -> tuple[int, int]:
    """Return a canvas as large as the images, or larger, so that there are positions whole strides apart."""
    layout: NetworkLayout | None = subject.results.get("layout")
    if layout is None:
        raise ImageError("Needs the total stride of the network, which separates the border from the stride")
    sides = zip(subject.size, subject.objects.shape[2:], layout.total_stride_px, strict=True)
    height, width = (max(n, o + 2 * s) for n, o, s in sides)
    return height, width


def _photographs(subject: Subject, objects: Tensor) -> Tensor:
    """Return for each object an image that it is not cut from, if there are two."""
    order = (torch.arange(len(objects)) + 1) % len(subject.first)
    return subject.first[order]


def on_photographs_of(subject: Subject, tell: Callable[[float, float], Any]) -> OnPhotographs:
    """Move objects over photographs: a given number, or more and more until the interval is narrow.

    Raises:
        ImageError: The objects are as large as the images.
    """
    room = [n - o for n, o in zip(subject.size, subject.objects.shape[2:], strict=True)]
    if min(room) < 1:
        raise ImageError("Needs objects that are smaller than the images")
    comparison, shown = subject.predictions.comparison, subject.first[:1]
    with evaluating(subject.model):
        step = comparison.step(subject.model(shown.to(subject.device)), subject.size)
    where = snapped(on_grid(room, max(2, round(subject.position_count**0.5))), step)
    photographs = _photographs(subject, subject.objects)
    most = len(subject.objects) if subject.object_count is None else start_count(subject)
    parts, count = [], 0
    while True:
        start, count = count, min(most, max(start_count(subject), 2 * count))
        done, of = start, count
        parts.append(
            on_photographs(
                subject.model,
                subject.objects[start:count],
                where,
                photographs[start:count],
                comparison,
                subject.batch_size,
                lambda i, _, done=done, of=of: tell(done + i, max(of, most)),
            )
        )
        found = placed(where, subject.objects.shape[2:], joined(parts), subject.seed)
        if count == most or found.effect.high - found.effect.low <= 2 * _HALF_WIDTH:
            return found


def on_canvas(subject: Subject, objects: Tensor, tell: Callable[[float, float], Any]) -> Sensitivity:
    """Move objects over an empty canvas, and separate the causes on the first ones."""
    layout: NetworkLayout | None = subject.results.get("layout")
    canvas = _canvas(subject)
    assert layout is not None
    labels = subject.object_labels
    return sensitivity(
        subject.model,
        objects,
        canvas,
        layout.total_stride_px,
        labels=None if labels is None else labels[: len(objects)],
        background=subject.background,
        position_count=subject.position_count,
        seed=subject.seed,
        cause_objects=_CAUSE_OBJECTS,
        comparison=subject.predictions.comparison,
        body=subject.body,
        batch_size=subject.batch_size,
        progress=lambda share: tell(share, 1),
    )


def fragility_of(subject: Subject, objects: Tensor, tell: Callable[[float, float], Any]) -> Fragility:
    """Change objects in the middle of photographs a little."""
    row, column = middle_of([n - o for n, o in zip(subject.size, objects.shape[2:], strict=True)])
    photographs = _photographs(subject, objects)
    return fragility(
        subject.model,
        objects,
        (row, column),
        photographs,
        comparison=subject.predictions.comparison,
        batch_size=subject.batch_size,
        seed=subject.seed,
        progress=tell,
    )


def example_of(subject: Subject, moved: OnPhotographs) -> Example | None:
    """Return the object that is predicted with most confidence among those whose prediction changes, if there are.

    Without classes there is no example.
    """
    classes, probabilities = moved.classes, moved.probability
    if classes is None or probabilities is None:
        return None
    changed = classes != classes[:1]
    confidence = np.where(changed.any(0), probabilities[0] + 1, probabilities[0])
    i = int(confidence.argmax())
    probability = np.where(changed[:, i] | ~changed[:, i].any(), probabilities[:, i], np.inf)
    worst = int(probability.argmin())
    photograph = _photographs(subject, subject.objects)[i]
    positions = [(int(row), int(column)) for row, column in moved.positions[[0, worst]]]
    middle, other = (scene(subject.objects[i], photograph, position) for position in positions)
    height, width = subject.objects.shape[2:]
    return Example(
        (_picture(subject, middle), _picture(subject, other)),
        (_class_name(subject, classes[0, i]), _class_name(subject, classes[worst, i])),
        (float(probabilities[0, i]), float(probabilities[worst, i])),
        (positions[0], positions[1]),
        (int(height), int(width)),
    )


def _picture(subject: Subject, image: Tensor) -> np.ndarray:
    """Return an image (C, H, W) as 8-bit pixels: by its mean and deviation, or by its range if these are unknown."""
    origin, values = subject.origin, image[:3] if image.shape[0] >= 3 else image[:1].expand(3, -1, -1)
    if len(origin.mean) == len(values):
        deviation, mean = (torch.tensor(each).reshape(-1, 1, 1) for each in (origin.deviation, origin.mean))
        values = values * deviation + mean
    else:
        low, high = float(values.min()), float(values.max())
        values = (values - low) / max(high - low, 1e-30)
    return (values.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def _class_name(subject: Subject, index: int) -> str:
    names = subject.origin.class_names
    return names[index] if len(names) == subject.predictions.count else f"class {index}"
