"""FPR95. Oracle: the ROC curve of scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from borderless.errors import DataError
from borderless.measures.fpr95 import fpr95


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_first_point_of_the_roc_curve_with_that_recall(seed: int) -> None:
    draw = np.random.default_rng(seed)
    is_match = draw.random(400) < 0.4
    distances = draw.normal(size=400) - is_match
    false, true, _ = roc_curve(is_match, -distances, drop_intermediate=False)
    assert fpr95(distances, is_match) == pytest.approx(false[np.argmax(true >= 0.95)])


def test_distances_without_information_give_95_percent() -> None:
    draw = np.random.default_rng(0)
    assert fpr95(draw.random(20_000), np.arange(20_000) % 2 == 0) == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize(
    ("distances", "is_match", "text"),
    [
        ([0.1, 0.2], [True, True], "for 2 matches of 2 pairs"),
        ([0.1, 0.2], [False, False], "for 0 matches of 2 pairs"),
        ([0.1], [True, False], "one distance per pair"),
        ([0.1, np.nan], [True, False], "Expected finite distances"),
    ],
)
def test_what_cannot_be_scored_is_refused(distances: list[float], is_match: list[bool], text: str) -> None:
    with pytest.raises(DataError, match=text):
        fpr95(np.array(distances), np.array(is_match))
