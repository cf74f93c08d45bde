"""What a part of an audit measures: the model, its images, and everything that was asked for.

Shapes: images (N, C, H, W); objects (M, C, h, w).
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from borderless.auditing.classifier import Predictions
from borderless.errors import ApproximatePhaseWarning, PositionDependentWarning
from borderless.runtime.blame import is_bug

T = TypeVar("T")
Background = float | tuple[float, ...]
Progress = Callable[[int, int, str], Any]

# Side of an object, of the image's: networks for 224 px still recognize a crop of 96 px.
OBJECT_SHARE = 3 / 7


@dataclass
class Subject:
    """A model and its images, with the results of the parts that have run already.

    Attributes:
        model: Returns logits (N, classes).
        images: All images: a tensor (N, C, H, W), or a data set of images or of (image, label) pairs.
        labels: The labels that were given beside the images; a data set may have its own.
        first: The first images, at most 64, on the CPU, for what needs them side by side.
        objects: What is set on canvases (M, C, h, w).
        object_labels: Their labels (M,); None where they are not known.
        predictions: The model's predictions for all images as they are.
        background: Of the canvases, in input units.
        places: About how many positions on a canvas.
        passes: Pairs of moved views of each image.
        batch_size: Images per pass.
        workers: Processes that load a data set's images.
        seed: Of everything that is drawn.
        steps: How many steps all parts have together.
        progress: Called with steps done, steps in all, and the next step's name.
        results: What the parts have measured, by name.
        missing: The steps that could not be measured, with the reason.
    """

    model: nn.Module
    images: Any
    labels: Tensor | None
    first: Tensor
    objects: Tensor
    object_labels: Tensor | None
    predictions: Predictions
    background: Background
    places: int
    passes: int
    batch_size: int
    workers: int
    seed: int
    steps: int
    progress: Progress | None = None
    results: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    done: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Of the images (height, width), in pixels."""
        return (int(self.first.shape[2]), int(self.first.shape[3]))

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next((parameter.device for parameter in self.model.parameters()), torch.device("cpu"))

    def step(self, name: str, measure: Callable[[], T]) -> T | None:
        """Return what `measure` returns, or None and note in `missing` what the model or its images made impossible.

        Raises:
            Exception: A fault of this package, which is not taken for a property of the model.
        """
        self.report(name)
        try:
            with warnings.catch_warnings():
                # What reads position, and a phase that is approximate, are findings.
                warnings.simplefilter("ignore", PositionDependentWarning)
                warnings.simplefilter("ignore", ApproximatePhaseWarning)
                return measure()
        except Exception as error:
            if is_bug(error):
                raise
            self.missing[name] = f"{type(error).__name__}: {error}"
            return None
        finally:
            self.done += 1

    def report(self, name: str) -> None:
        """Tell `progress` which step comes next, "" for none."""
        if self.progress is not None:
            self.progress(self.done, self.steps, name)


def middles(images: Tensor) -> Tensor:
    """Return the middle of each image, `OBJECT_SHARE` of its sides."""
    sides = [max(1, round(OBJECT_SHARE * n)) for n in images.shape[2:]]
    top, left = ((n - side) // 2 for n, side in zip(images.shape[2:], sides, strict=True))
    return images[:, :, top : top + sides[0], left : left + sides[1]]
