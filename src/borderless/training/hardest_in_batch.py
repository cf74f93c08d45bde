"""Learn descriptors from pairs: triplets whose wrong match is the closest of the batch (Mishchuk et al., NeurIPS 2017).

Shapes: patches n × 1 × height × width; descriptors n × numbers, of length 1.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from borderless.data.patches import Matches
from borderless.measures.fpr95 import fpr95
from borderless.runtime.distributed import ProcessGroup
from borderless.training.objective import Score

MARGIN = 1.0
# Patches of a batch that are closer than this are taken for the same spot, so not for a wrong match.
_SAME = 0.008
_FAR = 10.0


class HardestInBatch:
    """Triplet loss in which the wrong match of a pair is the closest one of its batch, to either of its patches."""

    needs_whole_batch = True

    def loss(self, model: nn.Module, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the mean loss of a batch of pairs, and how many pairs are closer than their wrong match."""
        anchors, positives = batch
        descriptors = model(torch.cat([anchors, positives]))
        distances = _distances(*descriptors.chunk(2))
        own = distances.diagonal()
        others = distances + _FAR * torch.eye(len(own), device=own.device) + _FAR * (distances.detach() < _SAME)
        closest = torch.minimum(others.amin(0), others.amin(1))
        return (MARGIN + own - closest).clamp(min=0).mean(), (own.detach() < closest.detach()).sum()

    def score(self, model: nn.Module, data: Matches, batch_size: int, group: ProcessGroup, workers: int) -> Score:
        """Return the false positive rate at 95 % recall, as a loss and as an accuracy."""
        del group, workers  # the test pairs are in memory, and every process measures all of them
        rate = fpr95(distances_of(model, data, batch_size), data.is_match)
        return Score(rate, 1 - rate)


def _distances(one: Tensor, other: Tensor) -> Tensor:
    """Return the distances between all descriptors of length 1: (n, n)."""
    return (2 - 2 * one @ other.T).clamp(min=0).add(1e-6).sqrt()


def distances_of(model: nn.Module, data: Matches, batch_size: int) -> np.ndarray:
    """Return the distances between the descriptors of the two patches of each pair."""
    device = next(model.parameters()).device
    found = [
        (model(first.to(device)) - model(second.to(device))).square().sum(1).sqrt().cpu()
        for first, second in zip(data.first.split(batch_size), data.second.split(batch_size), strict=True)
    ]
    return torch.cat(found).numpy()
