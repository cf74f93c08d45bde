"""The measures over positions, of predictions and logits that are known."""

import pytest
import torch

from borderless.data.digits import TRAINED_AT, all_positions
from borderless.measures.over_positions import accuracy_by_stride, accuracy_on_grid, changes_of_logits


def test_accuracy_on_a_grid() -> None:
    labels = torch.tensor([1, 2, 3, 4])
    predictions = labels.repeat(25, 1)
    predictions[0, :2] = 0  # a corner
    predictions[13, 0] = 0  # inside, in the right columns
    found = accuracy_on_grid(predictions, labels)
    assert found["accuracy"] == pytest.approx(97 / 100)
    assert found["worst"] == 0.5
    assert found["everywhere"] == 0.5
    assert found["edge"] == pytest.approx(1 - 0.5 / 16)
    assert found["inside"] == pytest.approx(1 - 0.25 / 9)
    assert found["left"] == pytest.approx(1 - 0.5 / 10)
    assert found["right"] == pytest.approx(1 - 0.25 / 15)
    assert found["changed"] == pytest.approx(3 / 100)


def test_accuracy_on_and_off_the_stride() -> None:
    labels = torch.tensor([1, 2])
    predictions = labels.repeat(361, 1)
    predictions[1] = torch.tensor([1, 0])  # row 0, column 1: not on the stride
    predictions[4] = torch.tensor([0, 0])  # row 0, column 4: on it
    found = accuracy_by_stride(predictions, labels, all_positions(), 4, TRAINED_AT)
    assert found["accuracy_where_trained"] == found["accuracy_max"] == 1
    assert found["accuracy_min"] == 0
    assert found["accuracy_mean"] == pytest.approx(1 - 3 / 722)
    assert found["accuracy_on_stride"] == pytest.approx(24 / 25)
    assert found["accuracy_off_stride"] == pytest.approx(1 - 0.5 / 336)
    assert found["changed_predictions"] == 3
    assert found["predictions"] == 722


def test_changes_of_logits() -> None:
    positions = torch.tensor([[0, 0], [32, 64], [0, 1]])
    logits = torch.tensor([[4.0, 0.0], [4.0, 0.4], [1.0, 2.0]])
    assert changes_of_logits(logits, positions, 0, 32) == {
        "distinct_predictions": 2,
        "change_whole_strides": pytest.approx(0.1),
        "change_between": pytest.approx(0.75),
    }
    assert changes_of_logits(logits[:2], positions[:2], 0, 32)["change_between"] is None
