"""Compare a model's outputs for one object at several positions: what counts as a change depends on what they mean.

A comparison reads the part of an output that belongs to an object, and says how much it differs from the one at the
first position. A measure asks it, and never looks at the output itself.

Shapes: outputs (n, ...) for n canvases; values (P, N, ...), what is read of the outputs for N objects at P positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from borderless.errors import ImageError

Position = tuple[int, int]
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Compared:
    """Outputs for N objects at P positions, beside those at the first position.

    Attributes:
        differs: (P, N), how much each output differs, in the measure of the comparison; 0 at the first position.
        moved: (N,), the largest change of a number.
        largest: (N,), the largest number at the first position.
        classes: (P, N), the predicted classes; None where there is not one for an object.
        probabilities: (P, N, classes); None without classes.
        score: (P, N), the probability of what is predicted at the first position; None without classes and scores.
        overlap: (P, N), intersection over union with the first position, of the labels' pixels (the mean over classes),
            or of the boxes; None without either.
    """

    differs: np.ndarray
    moved: np.ndarray
    largest: np.ndarray
    classes: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    score: np.ndarray | None = None
    overlap: np.ndarray | None = None

    def probability(self, classes: np.ndarray | None = None) -> np.ndarray | None:
        """Return the probability (P, N) of `classes` (N,), by default `score`."""
        if classes is None or self.probabilities is None:
            return self.score
        return self.probabilities[:, np.arange(len(classes)), classes]

    @property
    def change(self) -> float:
        """The largest change of a number, relative to the largest number at the first position."""
        return float(self.moved.max()) / max(float(self.largest.max()), _TINY)


def joined(parts: Sequence[Compared]) -> Compared:
    """Return what several groups of objects give together."""

    def along(axis: int, found: list[np.ndarray | None]) -> np.ndarray | None:
        there = [one for one in found if one is not None]
        return np.concatenate(there, axis) if len(there) == len(parts) else None

    return Compared(
        np.concatenate([part.differs for part in parts], 1),
        np.concatenate([part.moved for part in parts]),
        np.concatenate([part.largest for part in parts]),
        along(1, [part.classes for part in parts]),
        along(1, [part.probabilities for part in parts]),
        along(1, [part.score for part in parts]),
        along(1, [part.overlap for part in parts]),
    )


class OutputComparison(Protocol):
    """Say what the outputs for an object at two positions have in common.

    Attributes:
        is_dense: Whether the output has a cell for each part of the image, so that it moves with the object. Such
            outputs are large: they are read canvas by canvas.
    """

    is_dense: bool

    def read(self, outputs: Tensor, position: Position, object_px: Sequence[int], canvas: Sequence[int], /) -> Tensor:
        """Return the part of `outputs` (n, ...) that belongs to an object at `position` of a canvas."""
        ...

    def step(self, outputs: Tensor, canvas: Sequence[int], /) -> tuple[int, int]:
        """Return the steps in pixels at which an object must be for its part of `outputs` to be read exactly."""
        ...

    def compare(self, values: np.ndarray) -> Compared:
        """Return how values (P, N, ...) differ from those at the first position."""
        ...


@dataclass(frozen=True)
class OfWholeImages:
    """Read outputs that belong to the image as a whole: all of it, wherever the object is."""

    is_dense = False

    def read(self, outputs: Tensor, *_: Any) -> Tensor:
        """Return `outputs`."""
        return outputs

    def step(self, *_: Any) -> tuple[int, int]:
        """Return single pixels."""
        return 1, 1


@dataclass(frozen=True)
class Classes(OfWholeImages):
    """Logits (classes,) of an image; a change is another predicted class."""

    def compare(self, values: np.ndarray) -> Compared:
        """Return for each position whether the class is another one, 0 or 1."""
        if values.ndim != 3:
            raise ImageError(
                f"Expected logits (images, classes) but got shape {values.shape[1:]}; put a module around the model "
                "that returns logits."
            )
        classes = values.argmax(2)
        probabilities = softmax(values)
        return replace(
            _numbers(values),
            differs=(classes != classes[:1]) * 1.0,
            classes=classes,
            probabilities=probabilities,
            score=probabilities[:, np.arange(values.shape[1]), classes[0]],
        )


# Of a classifier, which measures take unless told otherwise.
CLASSES = Classes()


@dataclass(frozen=True)
class Vectors(OfWholeImages):
    """Numbers (D,) of an image; a change is measured in standard deviations over images.

    Attributes:
        mean: (D,), over images.
        deviation: (D,), over images.
    """

    mean: np.ndarray
    deviation: np.ndarray

    def compare(self, values: np.ndarray) -> Compared:
        """Return the root mean square over D of the change, each in its standard deviation."""
        values = (values.reshape(*values.shape[:2], -1) - self.mean) / self.deviation
        numbers = _numbers(values)
        # No smaller than a standard deviation: an output that happens to be near the mean makes no change large.
        return replace(numbers, differs=_rms(values - values[:1], 2), largest=np.maximum(numbers.largest, 1.0))


@dataclass(frozen=True)
class Directions(OfWholeImages):
    """Embeddings (D,) of an image; a change is a cosine distance.

    Attributes:
        between_images: The mean cosine distance between two images, which distances are relative to.
    """

    between_images: float

    def compare(self, values: np.ndarray) -> Compared:
        """Return the cosine distance, relative to that between images."""
        values = values.reshape(*values.shape[:2], -1)
        return replace(_numbers(values), differs=cosine_distance(values, values[:1]) / self.between_images)


class Cells(Protocol):
    """Outputs (channels, h, w) with a cell for each part of the image; one without channels has one."""

    is_dense: bool = True

    def compare(self, values: np.ndarray) -> Compared:
        """Return how values (P, N, channels, h, w) differ from those at the first position."""
        ...

    def per_cell(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Return how much two outputs (n, channels, h, w) differ in each cell (n, h, w)."""
        ...

    def labels(self, maps: np.ndarray, /) -> np.ndarray | None:
        """Return the labels (n, h, w) of an output; None of numbers."""
        ...

    def read(self, outputs: Tensor, position: Position, object_px: Sequence[int], canvas: Sequence[int]) -> Tensor:
        """Return the cells (n, channels, h, w) that the object covers."""
        outputs = as_maps(outputs, canvas)
        spans: list[slice] = []
        for start, size, step in zip(position, object_px, _steps(outputs, canvas), strict=True):
            spans.append(slice(start // step, max(start // step + 1, (start + size) // step)))
        return outputs[:, :, spans[0], spans[1]]

    def step(self, outputs: Tensor, canvas: Sequence[int]) -> tuple[int, int]:
        """Return the pixels from cell to cell."""
        rows, columns = _steps(as_maps(outputs, canvas), canvas)
        return rows, columns


@dataclass(frozen=True)
class Labels(Cells):
    """Logits (classes, h, w) of an image's pixels, one logit for a yes or no; a change is another label."""

    def compare(self, values: np.ndarray) -> Compared:
        """Return the share of the object's pixels whose label is another one, and the labels' overlap."""
        labels = labels_of(values, 2)
        differs = (labels != labels[:1]).mean((2, 3))
        overlap = np.empty(differs.shape)
        for p, n in np.ndindex(*differs.shape):
            one, other = labels[0, n], labels[p, n]
            each = [((one == k) & (other == k)).sum() / ((one == k) | (other == k)).sum() for k in np.unique(one)]
            overlap[p, n] = np.mean(each)
        return replace(_numbers(values), differs=differs, overlap=overlap)

    def per_cell(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Return where labels differ, 0 or 1."""
        return (labels_of(one, 1) != labels_of(other, 1)) * 1.0

    def labels(self, maps: np.ndarray, /) -> np.ndarray | None:
        """Return the labels."""
        return labels_of(maps, 1)


@dataclass(frozen=True)
class Numbers(Cells):
    """Numbers (channels, h, w) of an image's pixels; a change is measured in standard deviations over pixels.

    Attributes:
        deviation: (channels,), over the cells of all images.
    """

    deviation: np.ndarray

    def compare(self, values: np.ndarray) -> Compared:
        """Return the root mean square of the change over the object's pixels and channels."""
        values = values / self.deviation[:, None, None]
        return replace(_numbers(values), differs=_rms(values - values[:1], (2, 3, 4)))

    def per_cell(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Return the root mean square over channels of the difference, each in its standard deviation."""
        return _rms((one - other) / self.deviation[:, None, None], 1)

    def labels(self, _: np.ndarray, /) -> np.ndarray | None:
        """Return None."""
        return None


def as_maps(outputs: Tensor, canvas: Sequence[int]) -> Tensor:
    """Return outputs with a cell per step as maps (n, channels, h, w), whose steps are whole pixels.

    Maps whose cells are not a whole number of pixels apart are resized to the canvas, as their users do.
    """
    outputs = outputs[:, None] if outputs.ndim == 3 else outputs
    if all(n % cells == 0 for n, cells in zip(canvas, outputs.shape[2:], strict=True)):
        return outputs
    size = [int(n) for n in canvas]
    return torch.nn.functional.interpolate(outputs, size=size, mode="bilinear", align_corners=False)


def labels_of(logits: np.ndarray, axis: int) -> np.ndarray:
    """Return the labels of logits with classes along `axis`; of a single logit, its sign."""
    return logits.argmax(axis) if logits.shape[axis] > 1 else (np.take(logits, 0, axis) > 0).astype(int)


def cosine_distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return 1 minus the cosine of the angle between vectors (..., D)."""
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return np.maximum(0.0, 1 - (one * other).sum(-1) / np.maximum(lengths, _TINY))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities (..., classes)."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _steps(maps: Tensor, canvas: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(n) // int(cells) for n, cells in zip(canvas, maps.shape[2:], strict=True))


def _numbers(values: np.ndarray) -> Compared:
    axes = tuple(range(2, values.ndim))
    moved = np.abs(values - values[:1]).max((0, *axes))
    largest = np.abs(values[0]).max(tuple(axis - 1 for axis in axes))
    return Compared(np.zeros(values.shape[:2]), moved, largest)


def _rms(values: np.ndarray, axes: int | tuple[int, ...]) -> np.ndarray:
    return np.sqrt(np.square(values).mean(axes))
