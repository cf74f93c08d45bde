"""Sum up how predictions at several positions differ from those at the first one, with intervals over objects.

Shapes: values (P, N, ...) at P positions, for N objects; of a classifier, logits (P, N, classes).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from borderless.errors import ImageError
from borderless.measures.comparisons import CLASSES, Compared, OutputComparison
from borderless.measures.intervals import over_objects

# An object counts as confident if the network gives its class more than this probability at the middle.
CONFIDENT = 0.5
NOTHING_DETECTED = (
    "Expected objects that are detected in the middle but got none whose box overlaps the object; give others with "
    "objects=, or images with what the detector knows in their middle"
)


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
        flips: The mean difference over (position, object) pairs, in the measure of the comparison: of a classifier, the
            share of pairs whose largest logit is of another class, in [0, 1].
        low: Lower end of its 95 % interval over objects.
        high: Upper end.
        change: The largest difference of an output, of a classifier a logit, relative to the largest one.
        drop: The mean fall of the probability of the class that is largest at the middle; 0 without classes.
        positions: The number of positions compared, besides the middle.
        objects: The number of objects.
        confident: The share for objects that are predicted with more than `CONFIDENT` probability at the middle; None
            without such objects.
        unsure: The share for the other objects.
        overlap: The mean intersection over union with the middle, of labels' pixels or of boxes; None without either.
    """

    flips: float
    low: float
    high: float
    change: float
    drop: float
    positions: int
    objects: int
    confident: Share | None = None
    unsure: Share | None = None
    overlap: float | None = None


@dataclass(frozen=True)
class OnPhotographs:
    """Predictions for objects at positions on photographs.

    Attributes:
        positions: (P, 2), the middle first.
        object_px: Height and width of the objects.
        differs: (P, N), how much each output differs from that in the middle.
        classes: (P, N), the predicted class; None of an output without classes.
        probability: (P, N), of the class that is predicted at the middle; None without classes.
        effect: How predictions differ from those at the middle.
    """

    positions: np.ndarray
    object_px: tuple[int, int]
    differs: np.ndarray
    classes: np.ndarray | None
    probability: np.ndarray | None
    effect: Effect


def share(flips: np.ndarray, seed: int = 0) -> Share:
    """Return the mean over objects of shares (N,), with its interval."""
    low, high = over_objects(flips, seed)
    return Share(float(flips.mean()), low, high, len(flips))


def effect(values: np.ndarray, seed: int = 0, comparison: OutputComparison = CLASSES) -> Effect:
    """Compare values (positions, objects, ...) with those at the first position."""
    return effect_of(comparison.compare(values), seed)


def effect_of(found: Compared, seed: int = 0) -> Effect:
    """Sum up outputs that have been compared with those at the first position.

    Raises:
        ImageError: There is nothing to compare, because a detector found none of the objects at the first position.
    """
    if not found.differs.shape[1]:
        raise ImageError(NOTHING_DETECTED)
    others = found.differs[1:]
    if not len(others):
        return Effect(0.0, 0.0, 0.0, 0.0, 0.0, 0, found.differs.shape[1])
    flipped = others.mean(0)
    low, high = over_objects(flipped, seed)
    probability, confident, unsure = found.probability(), None, None
    if probability is not None:
        is_confident = probability[0] > CONFIDENT
        confident = share(flipped[is_confident], seed) if is_confident.any() else None
        unsure = share(flipped[~is_confident], seed) if not is_confident.all() else None
    return Effect(
        flips=float(flipped.mean()),
        low=low,
        high=high,
        change=found.change,
        drop=0.0 if probability is None else float((probability[:1] - probability[1:]).mean()),
        positions=len(others),
        objects=others.shape[1],
        confident=confident,
        unsure=unsure,
        overlap=None if found.overlap is None else float(found.overlap[1:].mean()),
    )


def placed(where: np.ndarray, object_px: Sequence[int], found: Compared, seed: int = 0) -> OnPhotographs:
    """Return what outputs at positions `where` say, compared with those at the first."""
    size = (int(object_px[0]), int(object_px[1]))
    return OnPhotographs(where, size, found.differs, found.classes, found.probability(), effect_of(found, seed))
