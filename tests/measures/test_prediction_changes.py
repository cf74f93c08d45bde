"""Predictions at several positions: shares of changes, split by how confident the first prediction is."""

import numpy as np

from borderless.measures.comparisons import CLASSES
from borderless.measures.prediction_changes import Share, effect, placed

# Two classes, three positions, three objects: sure and kept, sure and changed once, unsure and changed twice.
LOGITS = np.array(
    [
        [[3.0, 0.0], [3.0, 0.0], [0.0, 0.0]],
        [[2.0, 0.0], [0.0, 1.0], [0.0, 1.0]],
        [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]],
    ]
)


def test_changes_are_split_by_confidence() -> None:
    found = effect(LOGITS)
    assert (found.flips, found.positions, found.objects) == (0.5, 2, 3)
    assert found.confident is not None and found.unsure is not None
    assert (found.confident.value, found.confident.objects) == (0.25, 2)
    assert found.unsure == Share(1.0, 1.0, 1.0, 1)
    assert found.change == 3 / 3


def test_without_unsure_objects_there_is_no_share_of_them() -> None:
    found = effect(LOGITS[:, :2])
    assert found.unsure is None
    assert found.confident is not None and found.confident.objects == 2


def test_the_probability_is_that_of_the_first_prediction() -> None:
    found = placed(np.zeros((3, 2), int), (8, 8), CLASSES.compare(LOGITS))
    assert found.classes is not None and found.probability is not None
    np.testing.assert_array_equal(found.classes, LOGITS.argmax(2))
    np.testing.assert_allclose(found.probability[1, 1], 1 / (1 + np.e))
