"""Take logits out of whatever a network returns, and predict all images.

The logits are the first tensor (N, classes) of a dict, a tuple or a list.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from borderless.conversion import conversion_of
from borderless.errors import ImageError
from borderless.measures.batches import Batch, check_labels, of_each_batch
from borderless.runtime.distributed import process_group
from borderless.runtime.evaluation import evaluating


def as_classifier(model: nn.Module, images: Tensor) -> tuple[nn.Module, list[str]]:
    """Return `model`, or a module around it that returns logits (N, classes), and what was chosen, in words.

    One logit, whose sign is the prediction, becomes two.

    Raises:
        ImageError: The model cannot run on the images, or returns no logits.
    """
    try:
        with evaluating(model):
            output = model(images.clone())
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ImageError(
            f"Expected images that {type(model).__name__} takes but it cannot run on shape {tuple(images.shape)}, "
            f"{images.dtype} ({error}); pass images as it takes them."
        ) from error
    key, notes = None, []
    if not isinstance(output, Tensor):
        key = next((key for key, found in _entries(output) if _is_logits(found, len(images))), None)
        if key is None:
            raise ImageError(
                f"Expected logits (images, classes) from {type(model).__name__} but got {type(output).__name__} "
                "without them; pass a classifier, or a module around the model that returns such a tensor."
            )
        notes.append(f"of the model's {type(output).__name__}, the entry {key!r} is taken for its logits")
        output = dict(_entries(output))[key]
    if not _is_logits(output, len(images)):
        raise ImageError(
            f"Expected logits (images, classes) from {type(model).__name__} but got shape {tuple(output.shape)}; an "
            "audit is for classifiers: put the part that gives logits around the model. Of a model with an output per "
            "pixel, bl.equivariance_error measures how it depends on position."
        )
    is_single = output.shape[1] == 1
    if is_single:
        notes.append("of the model's one logit, the sign is taken for the prediction")
    if key is None and not is_single:
        return model, notes
    if conversion_of(model) is not None:
        raise ImageError(
            f"Expected a converted model that returns logits (images, classes) but got {type(model).__name__}, of "
            f"which {notes[0].split(',')[0].removeprefix('of ')} would have to be taken; convert a module around it "
            "that does so."
        )
    return _Logits(model, key, is_single), notes


class _Logits(nn.Module):
    def __init__(self, model: nn.Module, key: Any, is_single: bool) -> None:
        super().__init__()
        self.model, self.key, self.is_single = model, key, is_single

    def forward(self, images: Tensor) -> Tensor:
        output = self.model(images)
        if self.key is not None:
            output = output[self.key]
        return torch.cat([torch.zeros_like(output), output], 1) if self.is_single else output


def _entries(output: Any) -> list[tuple[Any, Any]]:
    if isinstance(output, Mapping):
        return list(output.items())
    return list(enumerate(output)) if isinstance(output, list | tuple) else []


def _is_logits(output: Any, count: int) -> bool:
    return isinstance(output, Tensor) and output.ndim == 2 and len(output) == count and output.is_floating_point()


@dataclass(frozen=True)
class Predictions:
    """A classifier's predictions for images as they are.

    Attributes:
        classes: The predicted class of each image (N,).
        labels: The right class of each image (N,), None if it is not known.
        count: How many classes there are.
        repeat: The relative difference of the logits between two runs on the same images.
    """

    classes: Tensor
    labels: Tensor | None
    count: int
    repeat: float


def predict(model: nn.Module, images: Any, labels: Tensor | None, batch_size: int, workers: int) -> Predictions:
    """Predict the class of all images, of which every process takes its share.

    Raises:
        ImageError: Labels that do not fit, or logits that are not finite.
    """
    if labels is not None:
        check_labels(labels, len(images))
    count, repeat = 0, 0.0

    def predicted(batch: Batch) -> Tensor:
        nonlocal count, repeat
        logits = model(batch.images.clone())
        if not torch.isfinite(logits).all():
            raise ImageError(
                f"Expected finite logits of {type(model).__name__} but got others; check that the images are "
                "normalized as it expects."
            )
        if batch.start == 0:
            again = model(batch.images)
            count = logits.shape[1]
            repeat = float((again - logits).abs().max() / logits.abs().max().clamp(min=1e-30))
        return logits.argmax(1).cpu()

    classes, own_labels = of_each_batch(images, batch_size, model, predicted, workers)
    count, repeat = process_group().broadcast((count, repeat))  # the first process has the first batch
    right = own_labels if labels is None else labels.cpu()
    if right is not None and not 0 <= int(right.min()) <= int(right.max()) < count:
        raise ImageError(
            f"Expected labels from 0 to {count - 1} for a model with {count} classes but got {int(right.min())} to "
            f"{int(right.max())}; check their order."
        )
    return Predictions(torch.cat(classes), right, count, repeat)
