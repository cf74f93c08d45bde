"""Location probe: can a linear layer read an object's position from a network's features?

Every object is shown at every position, so only the position distinguishes the classes, and a prediction that ignores
it is right exactly as often as chance.

Shapes: features (positions, objects, features).
"""

# scikit-learn has no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownArgumentType=false

import warnings
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass

import numpy as np

from borderless.errors import DataError
from borderless.measures.intervals import over_objects

# Inverse strengths of the penalty, the strongest first; validation chooses.
STRENGTHS = tuple(10.0**power for power in range(-4, 3))
_MOST_STEPS = 5_000


@dataclass(frozen=True)
class ProbeScore:
    """Accuracy of a probe on the test objects.

    Attributes:
        accuracy: In [0, 1].
        low: Lower end of its 95 % interval over objects.
        high: Upper end.
        validation_accuracy: On the validation objects, in [0, 1].
        strength: The inverse strength of the penalty, the best one on the validation objects.
        has_converged: Whether the fit ended by itself.
        right: (positions, objects), whether the probe was right.
    """

    accuracy: float
    low: float
    high: float
    validation_accuracy: float
    strength: float
    has_converged: bool
    right: np.ndarray

    @property
    def is_chance(self) -> bool:
        """Whether chance lies in the interval."""
        return self.low <= 1 / len(self.right) <= self.high


@dataclass(frozen=True)
class Probe:
    """A probe and its control.

    Attributes:
        score: The score of positions read from the features.
        control: The same with the positions of each object shuffled: not better than chance, unless test objects were
            seen in training.
        change: The largest difference between an object's features at two positions, relative to the largest feature;
            0: the positions cannot be distinguished.
    """

    score: ProbeScore
    control: ProbeScore
    change: float


def location_probe(train: np.ndarray, validation: np.ndarray, test: np.ndarray, seed: int = 0) -> Probe:
    """Fit a logistic regression to convergence, and test it.

    Features are standardized over the training set. In the control, the positions of an object are permuted: of the
    i-th objects of the three sets alike, so that a probe that has seen the test objects in training is found out.

    Args:
        train: Features to fit, (positions, objects, features).
        validation: Features of other objects, on which the penalty is chosen; of equals the strongest.
        test: Features of yet other objects. The interval resamples objects, each with all its positions.
        seed: Of the permutations and the resampling.

    Raises:
        DataError: Features of wrong shape, or that are not finite.
    """
    sets = {"train": train, "validation": validation, "test": test}
    _check(sets)
    mean, deviation = train.mean((0, 1)), train.std((0, 1))
    deviation[deviation == 0] = 1
    scaled = {name: (features - mean) / deviation for name, features in sets.items()}
    positions = len(train)
    labels = {name: np.tile(np.arange(positions)[:, None], features.shape[1]) for name, features in sets.items()}
    shuffled = {
        name: np.random.default_rng(seed).permuted(np.tile(np.arange(positions), (features.shape[1], 1)), axis=1).T
        for name, features in sets.items()
    }
    largest = max(np.abs(test).max(), np.finfo(test.dtype).tiny)
    return Probe(
        _fitted(scaled, labels, seed), _fitted(scaled, shuffled, seed), float(np.abs(test - test[:1]).max() / largest)
    )


def _fitted(sets: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray], seed: int) -> ProbeScore:
    from sklearn.exceptions import ConvergenceWarning  # seconds to import: only who fits a probe pays
    from sklearn.linear_model import LogisticRegression

    flat = {name: (features.reshape(-1, features.shape[-1]), labels[name].ravel()) for name, features in sets.items()}
    best: tuple[float, float, LogisticRegression, bool] | None = None
    model = LogisticRegression(max_iter=_MOST_STEPS, warm_start=True)
    for strength in STRENGTHS:
        model.set_params(C=strength)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # reported as a value
            model.fit(*flat["train"])
        found = float(model.score(*flat["validation"]))
        if best is None or found > best[0]:
            best = found, strength, deepcopy(model), bool((model.n_iter_ < _MOST_STEPS).all())
    assert best is not None
    validation_accuracy, strength, kept, has_converged = best
    features, wanted = flat["test"]
    right = np.equal(kept.predict(features), wanted).reshape(labels["test"].shape)
    low, high = over_objects(right.mean(0), seed)
    return ProbeScore(float(right.mean()), low, high, validation_accuracy, strength, has_converged, right)


def _check(sets: Mapping[str, np.ndarray]) -> None:
    positions, _, width = shape = sets["train"].shape if sets["train"].ndim == 3 else (0, 0, 0)
    for name, features in sets.items():
        if features.ndim != 3 or features.shape[0] != positions or features.shape[2] != width or positions < 2:
            raise DataError(
                "Expected features (positions, objects, features) with at least two positions, and the same positions "
                f"and features in every set, but got {name} features of shape {features.shape}, and {shape} to train "
                "on."
            )
        if features.shape[1] == 0 or not np.isfinite(features).all():
            raise DataError(
                f"Expected finite features of at least one object but got {name} features of shape {features.shape}, "
                "not all finite, or none; check whether the network overflows."
            )
