"""The location probe, on features of which it is known what they tell."""

import numpy as np
import pytest

from borderless.errors import DataError
from borderless.measures.intervals import over_objects, over_seeds
from borderless.measures.location_probe import location_probe

Sets = tuple[np.ndarray, np.ndarray, np.ndarray]


def features(shift: float, objects: int = 120, width: int = 12, places: int = 2, noise: float = 0.0) -> Sets:
    """Each object has features of its own, to which a place adds `shift` along one direction."""
    draw = np.random.default_rng(3)
    direction = draw.normal(size=width)

    def one_set() -> np.ndarray:
        own = draw.normal(size=(objects, width))
        where = np.arange(places)[:, None, None] * shift * direction
        return (own + where + noise * draw.normal(size=(places, objects, width))).astype(np.float32)

    return one_set(), one_set(), one_set()


def test_equal_features_are_exactly_chance() -> None:
    """Whatever the probe answers, it is right for each object at one place and wrong at the other."""
    probe = location_probe(*features(0.0))
    assert (probe.score.accuracy, probe.score.low, probe.score.high) == (0.5, 0.5, 0.5)
    assert probe.score.is_chance
    assert probe.change == 0
    assert (probe.score.right.sum(0) == 1).all()


def test_noise_is_chance_and_a_large_shift_is_told() -> None:
    noise = location_probe(*features(0.0, noise=1.0))
    assert noise.score.is_chance
    assert noise.score.high - noise.score.low > 0.01
    told = location_probe(*features(3.0))
    assert told.score.accuracy == 1
    assert not told.score.is_chance
    assert told.score.has_converged
    assert told.control.is_chance
    assert told.change > 0.5


def test_a_faint_shift_lies_between_and_the_interval_shows_it() -> None:
    probe = location_probe(*features(0.15))
    assert 0.55 < probe.score.accuracy < 0.95
    assert probe.score.low < probe.score.accuracy < probe.score.high
    assert not probe.score.is_chance


def test_the_control_betrays_test_objects_seen_in_training() -> None:
    train, *_ = features(3.0, objects=20, width=60, noise=1.0)
    leaky = location_probe(train, train, train)
    assert leaky.control.accuracy == 1
    assert not leaky.control.is_chance


def test_more_places_than_two() -> None:
    probe = location_probe(*features(3.0, places=3))
    assert probe.score.accuracy > 0.9
    assert probe.score.right.shape == (3, 120)
    assert location_probe(*features(0.0, places=3)).score.accuracy == pytest.approx(1 / 3)


def test_a_feature_that_never_changes_does_no_harm() -> None:
    sets = features(3.0)
    for part in sets:
        part[..., 0] = 7
    assert location_probe(*sets).score.accuracy == 1


def test_the_same_seed_gives_the_same_numbers() -> None:
    first, second = (location_probe(*features(0.1), seed=5) for _ in range(2))
    assert (first.control.right == second.control.right).all()
    assert (first.score.low, first.score.high) == (second.score.low, second.score.high)


def test_wrong_features_are_refused() -> None:
    train, validation, test = features(1.0)
    with pytest.raises(DataError, match=r"but got test features of shape \(2, 120, 5\)"):
        location_probe(train, validation, test[..., :5])
    with pytest.raises(DataError, match="at least two positions"):
        location_probe(train[:1], validation[:1], test[:1])
    with pytest.raises(DataError, match="at least two positions"):
        location_probe(train[0], validation[0], test[0])
    test[0, 0, 0] = np.nan
    with pytest.raises(DataError, match="Expected finite features"):
        location_probe(train, validation, test)


def test_interval_over_seeds_is_students() -> None:
    # From a table: t(0.975, 2 degrees of freedom) = 4.303.
    assert over_seeds([1.0, 2.0, 3.0]) == pytest.approx(4.303 / np.sqrt(3), rel=1e-3)
    assert over_seeds([1.0]) is None


def test_interval_over_objects_is_about_the_normal_one() -> None:
    scores = (np.random.default_rng(1).random(1000) < 0.7).astype(float)
    low, high = over_objects(scores, seed=0)
    half = 1.96 * scores.std() / np.sqrt(1000)
    assert (low, high) == pytest.approx((scores.mean() - half, scores.mean() + half), abs=0.004)
