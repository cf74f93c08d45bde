"""Objectives: the loss of a training, and the score of its result; by default, classification."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

from borderless.runtime.distributed import ProcessGroup, process_group


@dataclass(frozen=True)
class Score:
    """The result of a model on data: its loss, and its accuracy in [0, 1]."""

    loss: float
    accuracy: float


class Objective(Protocol):
    """A loss and a score.

    Args:
        needs_whole_batch: Whether an item's loss depends on the rest of its batch.
    """

    needs_whole_batch: bool

    def loss(self, model: nn.Module, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the mean loss of a batch, and how many of its items are right."""
        ...

    def score(self, model: nn.Module, data: Any, batch_size: int, group: ProcessGroup, workers: int) -> Score:
        """Return the result of `model`, which is in eval mode, on all of `data`.

        Args:
            model: A model on the device where it runs.
            data: A data set of items.
            batch_size: Items per pass.
            group: Each of its processes may contribute; all of them return the result of the whole.
            workers: Number of processes per process that load the items.
        """
        ...


class Classification:
    """Cross-entropy on (images, labels); the right ones are those whose largest logit is the label's."""

    needs_whole_batch = False

    def loss(self, model: nn.Module, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the mean cross-entropy of a batch, and how many of its images are classified right."""
        images, labels = batch
        logits = model(images)
        return F.cross_entropy(logits, labels), (logits.detach().argmax(1) == labels).sum()

    def score(self, model: nn.Module, data: Any, batch_size: int, group: ProcessGroup, workers: int) -> Score:
        """Return the mean cross-entropy and the accuracy on all of `data`."""
        device = next(model.parameters()).device
        mine = Subset(data, range(group.rank, len(data), group.size)) if group.size > 1 else data
        loss = right = 0.0
        own_random_state = torch.Generator()  # else the caller's would move
        for images, labels in DataLoader(mine, batch_size, num_workers=workers, generator=own_random_state):
            logits, labels = model(images.to(device)), labels.to(device)
            loss += float(F.cross_entropy(logits.double(), labels, reduction="sum"))
            right += int((logits.argmax(1) == labels).sum())
        loss, right = group.all_reduce_sum(loss, right)
        return Score(loss / len(data), right / len(data))


@torch.no_grad()
def evaluate(
    model: nn.Module, data: Any, batch_size: int, objective: Objective | None = None, workers: int = 0
) -> Score:
    """Return loss and accuracy on `data`, in eval mode, over all processes; the model's mode is left as it was.

    Args:
        model: A model on the device where it runs.
        data: A data set of items.
        batch_size: Items per pass.
        objective: The objective of the training; by default classification.
        workers: Number of processes per process that load the items; 0: itself.
    """
    mode = model.training
    model.eval()
    try:
        return (objective or Classification()).score(model, data, batch_size, process_group(), workers)
    finally:
        model.train(mode)
