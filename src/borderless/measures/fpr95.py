"""Patch matching: how many wrong matches must be taken to find 95 % of the right ones?"""

import math

import numpy as np

from borderless.errors import DataError


def fpr95(distances: np.ndarray, is_match: np.ndarray, recall: float = 0.95) -> float:
    """The false positive rate in [0, 1] at the smallest distance within which a share `recall` of the matches lies.

    distances, is_match: (pairs). Less is better; 0.95 is what distances without information give. Winder and Brown,
    CVPR 2007.

    >>> fpr95(np.array([0.1, 0.2, 0.3, 0.4]), np.array([True, True, False, False]))
    0.0
    """
    distances, is_match = np.asarray(distances), np.asarray(is_match, dtype=bool)
    if distances.shape != is_match.shape or distances.ndim != 1 or not is_match.any() or is_match.all():
        raise DataError(
            f"got distances of shape {distances.shape} for {is_match.sum()} matches of {is_match.size} pairs; needed: "
            "a distance for every pair, and both matches and others"
        )
    if not np.isfinite(distances).all():
        raise DataError("got distances that are not finite; needed: numbers; does the network overflow?")
    matches = np.sort(distances[is_match])
    threshold = matches[math.ceil(recall * len(matches)) - 1]
    return float((distances[~is_match] <= threshold).mean())
