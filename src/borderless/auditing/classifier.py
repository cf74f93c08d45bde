"""Logits out of whatever a network returns: the first tensor (N, classes) of a dict, a tuple or a list."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from borderless.conversion import conversion_of
from borderless.errors import ImageError
from borderless.runtime.evaluation import evaluating


def as_classifier(model: nn.Module, images: Tensor) -> tuple[nn.Module, list[str]]:
    """`model`, or a module around it that returns logits (N, classes), and what was chosen, in words.

    One logit, of which the sign is the answer, becomes two. Raises ImageError for a model without such an answer.
    """
    try:
        with evaluating(model):
            answer = model(images.clone())
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ImageError(
            f"{type(model).__name__} cannot run on images of shape {tuple(images.shape)}, {images.dtype} ({error}); "
            "needed: images as it takes them"
        ) from error
    key, notes = None, []
    if not isinstance(answer, Tensor):
        key = next((key for key, found in _entries(answer) if _is_logits(found, len(images))), None)
        if key is None:
            raise ImageError(
                f"got {type(answer).__name__} without logits (images, classes) from {type(model).__name__}; needed: a "
                "classifier, or a module around the model that returns such a tensor"
            )
        notes.append(f"of the model's {type(answer).__name__}, the entry {key!r} is taken for its logits")
        answer = dict(_entries(answer))[key]
    if not _is_logits(answer, len(images)):
        raise ImageError(
            f"got answers of shape {tuple(answer.shape)} from {type(model).__name__}; needed: logits (images, classes) "
            "(for a dense model, put the mean over space after it)"
        )
    is_single = answer.shape[1] == 1
    if is_single:
        notes.append("of the model's one logit, the sign is taken for the answer")
    if key is None and not is_single:
        return model, notes
    if conversion_of(model) is not None:
        raise ImageError(
            f"got a converted {type(model).__name__} that returns {notes[0].split(',')[0]}; needed: a module around it "
            "that returns logits (images, classes), converted instead"
        )
    return _Logits(model, key, is_single), notes


class _Logits(nn.Module):
    def __init__(self, model: nn.Module, key: Any, is_single: bool) -> None:
        super().__init__()
        self.model, self.key, self.is_single = model, key, is_single

    def forward(self, images: Tensor) -> Tensor:
        answer = self.model(images)
        if self.key is not None:
            answer = answer[self.key]
        return torch.cat([torch.zeros_like(answer), answer], 1) if self.is_single else answer


def _entries(answer: Any) -> list[tuple[Any, Any]]:
    if isinstance(answer, Mapping):
        return list(answer.items())
    return list(enumerate(answer)) if isinstance(answer, list | tuple) else []


def _is_logits(answer: Any, count: int) -> bool:
    return isinstance(answer, Tensor) and answer.ndim == 2 and len(answer) == count and answer.is_floating_point()
