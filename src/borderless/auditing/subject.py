"""Hold what a part of an audit measures: the model, its images, and everything that was asked for.

Shapes: images (N, C, H, W); objects (M, C, h, w).
"""

import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from borderless.auditing.outputs import Predictions
from borderless.auditing.result import Origin
from borderless.data.annotated import AnnotatedPictures
from borderless.errors import ApproximatePhaseWarning, BorderlessError, PositionDependentWarning
from borderless.measures.programs import NEEDS_LAYERS
from borderless.runtime.blame import is_bug
from borderless.runtime.evaluation import evaluating

T = TypeVar("T")
Background = float | tuple[float, ...]
Progress = Callable[[float, int, str], Any]

# Side of an object, of the image's: networks for 224 px still recognize a crop of 96 px.
OBJECT_SHARE = 3 / 7


@dataclass
class Subject:
    """A model and its images, with the results of the parts that have run already.

    Attributes:
        model: Returns one tensor, for example logits (N, classes).
        body: The part of the model that is converted and explained, mostly all of it.
        images: All images: a tensor (N, C, H, W), or a data set of images or of (image, label) pairs.
        labels: The labels that were given beside the images; a data set may have its own.
        first: The first images, at most 64, on the CPU, for what needs them side by side.
        objects: What may be placed on canvases and photographs (M, C, h, w).
        annotated: Pictures with boxes or labels of pixels; None without.
        object_count: How many of them to place; None for as many as the interval needs.
        object_labels: Their labels (M,); None where they are not known.
        predictions: The model's predictions for all images as they are, and how its outputs are compared.
        background: Of the canvases, in input units.
        position_count: About how many positions on a canvas.
        passes: Pairs of moved views of each image.
        batch_size: Images per batch.
        workers: Processes that load a data set's images.
        seed: The random seed.
        closed: Steps that need the network's layers, of a network that does not show them.
        steps: All steps of all parts, with about how long each takes relative to the others.
        origin: Where model and images come from.
        progress: Called with the steps that are done, weighted by how long they take, their number, and the name of
            the step.
        results: What the parts have measured, by name.
        missing: The steps that could not be measured, with the reason.
        done: The steps that are over.
    """

    model: nn.Module
    body: nn.Module
    images: Any
    labels: Tensor | None
    first: Tensor
    objects: Tensor
    annotated: AnnotatedPictures | None
    object_count: int | None
    object_labels: Tensor | None
    predictions: Predictions
    background: Background
    position_count: int
    passes: int
    batch_size: int
    workers: int
    seed: int
    closed: Collection[str]
    steps: Mapping[str, float]
    origin: Origin = field(default_factory=Origin)
    progress: Progress | None = None
    results: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images, in pixels."""
        return (int(self.first.shape[2]), int(self.first.shape[3]))

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next((parameter.device for parameter in self.model.parameters()), torch.device("cpu"))

    def step(self, name: str, measure: Callable[[Callable[[float, float], Any]], T]) -> T | None:
        """Return what `measure` returns, or None and note in `missing` what the model or its images made impossible.

        Args:
            name: One of `steps`.
            measure: Takes a function that it may call with how much is done, and how much there is.

        Raises:
            Exception: A fault of this package, which is not taken for a property of the model.
        """
        if name in self.closed:
            self.missing[name] = NEEDS_LAYERS
            self.done.append(name)
            return None
        self.report(name)
        try:
            with warnings.catch_warnings():
                # What reads position, and a phase that is approximate, are findings.
                warnings.simplefilter("ignore", PositionDependentWarning)
                warnings.simplefilter("ignore", ApproximatePhaseWarning)
                return measure(lambda done, of: self.report(name, done / of))
        except Exception as error:
            if is_bug(error):
                raise
            kind = "" if isinstance(error, BorderlessError) else f"{type(error).__name__}: "
            self.missing[name] = f"{kind}{error}"
            return None
        finally:
            self.done.append(name)

    def outputs(self, images: Tensor, model: nn.Module | None = None) -> np.ndarray:
        """Return what the comparison reads of the outputs (N, ...) for whole images, of `model` or the audited one."""
        model, comparison = self.model if model is None else model, self.predictions.comparison
        with evaluating(model):
            found = [
                comparison.read(model(some.to(self.device)), (0, 0), self.size, self.size).double().cpu()
                for some in images.split(self.batch_size)
            ]
        return torch.cat(found).numpy()

    def report(self, name: str, share: float = 0.0) -> None:
        """Tell `progress` how much is done, with a `share` of the step `name`; "" at the end."""
        if self.progress is not None:
            passed = sum(self.steps[step] for step in self.done) + share * self.steps.get(name, 0.0)
            total = sum(self.steps.values())
            count = len(self.steps)
            detail = f"{name} ({100 * share:.0f} %)" if 0 < share < 1 else name
            self.progress(round(count * passed / total, 2) if total else 0.0, count, detail)


def middles(images: Tensor) -> Tensor:
    """Return the middle of each image, `OBJECT_SHARE` of its sides."""
    sides = [max(1, round(OBJECT_SHARE * n)) for n in images.shape[2:]]
    top, left = ((n - side) // 2 for n, side in zip(images.shape[2:], sides, strict=True))
    return images[:, :, top : top + sides[0], left : left + sides[1]]
