"""Compare predictions at several positions with those at the first one.

Shapes: logits (P, N, classes) at P positions, for N objects.
"""

from dataclasses import dataclass

import numpy as np

from borderless.measures.intervals import over_objects

# An object counts as confident if the network gives its class more than this probability at the middle.
CONFIDENT = 0.5


@dataclass(frozen=True)
class Share:
    """A share of predictions that change.

    Attributes:
        value: In [0, 1].
        low: Lower end of its 95 % interval over objects.
        high: Upper end.
        objects: The number of objects.
    """

    value: float
    low: float
    high: float
    objects: int


@dataclass(frozen=True)
class Effect:
    """Difference between predictions at some positions and those at the middle one.

    Attributes:
        flips: The share of (position, object) pairs whose largest logit is of another class, in [0, 1].
        low: Lower end of its 95 % interval over objects.
        high: Upper end.
        change: The largest difference of a logit, relative to the largest logit.
        drop: The mean fall of the probability of the class that is largest at the middle.
        places: The number of positions compared, besides the middle.
        objects: The number of objects.
        confident: The share for objects that are predicted with more than `CONFIDENT` probability at the middle; None
            without such objects.
        unsure: The share for the other objects.
    """

    flips: float
    low: float
    high: float
    change: float
    drop: float
    places: int
    objects: int
    confident: Share | None = None
    unsure: Share | None = None


@dataclass(frozen=True)
class OnPhotographs:
    """Predictions for objects at positions on photographs.

    Attributes:
        positions: (P, 2), the middle first.
        answers: (P, N), the predicted class.
        probability: (P, N), of the class that is predicted at the middle.
        effect: How predictions differ from those at the middle.
    """

    positions: np.ndarray
    answers: np.ndarray
    probability: np.ndarray
    effect: Effect


def share(flips: np.ndarray, seed: int = 0) -> Share:
    """Return the mean over objects of shares (N,), with its interval."""
    low, high = over_objects(flips, seed)
    return Share(float(flips.mean()), low, high, len(flips))


def effect(logits: np.ndarray, seed: int = 0) -> Effect:
    """Compare logits (positions, objects, classes) with those at the first position."""
    here, others = logits[:1], logits[1:]
    if not len(others):
        return Effect(0.0, 0.0, 0.0, 0.0, 0.0, 0, logits.shape[1])
    flipped = (others.argmax(2) != here.argmax(2)).mean(0)
    low, high = over_objects(flipped, seed)
    probability = _of_first_class(logits)
    is_confident = probability[0] > CONFIDENT
    largest = max(float(np.abs(here).max()), float(np.finfo(np.float64).tiny))
    return Effect(
        flips=float(flipped.mean()),
        low=low,
        high=high,
        change=float(np.abs(others - here).max()) / largest,
        drop=float((probability[:1] - probability[1:]).mean()),
        places=len(others),
        objects=logits.shape[1],
        confident=share(flipped[is_confident], seed) if is_confident.any() else None,
        unsure=share(flipped[~is_confident], seed) if not is_confident.all() else None,
    )


def placed(where: np.ndarray, logits: np.ndarray, seed: int = 0) -> OnPhotographs:
    """Return what logits (positions, objects, classes) at positions `where` say."""
    return OnPhotographs(where, logits.argmax(2), _of_first_class(logits), effect(logits, seed))


def _of_first_class(logits: np.ndarray) -> np.ndarray:
    """Return the probability (positions, objects) of the class that is largest at the first position."""
    return softmax(logits)[:, np.arange(logits.shape[1]), logits[0].argmax(1)]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities (P, N, classes)."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
