"""Hardest-in-batch triplets: the loss against its definition, pair by pair."""

from pathlib import Path

import pytest
import torch
from torch import nn

from borderless.errors import TrainingError
from borderless.training import Recipe, fit
from borderless.training.hardest_in_batch import HardestInBatch


class Given(nn.Module):
    """Descriptors as they come."""

    def forward(self, descriptors: torch.Tensor) -> torch.Tensor:
        return descriptors


def test_the_loss_takes_the_closest_wrong_match_of_either_patch() -> None:
    torch.manual_seed(2)
    anchors, positives = (nn.functional.normalize(torch.randn(6, 4, dtype=torch.float64)) for _ in range(2))
    expected, right = 0.0, 0
    for i in range(6):
        own = (anchors[i] - positives[i]).norm()
        wrong = [(anchors[i] - positives[j]).norm() for j in range(6) if j != i]
        wrong += [(anchors[j] - positives[i]).norm() for j in range(6) if j != i]
        expected += max(0.0, float(1 + own - min(wrong))) / 6
        right += int(own < min(wrong))
    loss, found = HardestInBatch().loss(Given(), [anchors, positives])
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert int(found) == right


def test_a_patch_that_comes_twice_is_no_wrong_match() -> None:
    descriptors = nn.functional.normalize(torch.eye(4)[[0, 0, 1, 2]])
    loss, right = HardestInBatch().loss(Given(), [descriptors, descriptors])
    assert float(loss) == 0 and int(right) == 4


def test_batches_cannot_be_parted(tmp_path: Path) -> None:
    parted = Recipe(batch_size=32, accumulation_steps=2)
    with pytest.raises(TrainingError, match="HardestInBatch, whose losses depend on all of a batch"):
        fit(Given(), [0] * 64, [], parted, tmp_path, 0, objective=HardestInBatch())
