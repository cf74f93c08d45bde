"""False positive rate of patch matching at a recall of 95 %. Winder and Brown, CVPR 2007."""

import math

import numpy as np

from borderless.errors import DataError


def fpr95(distances: np.ndarray, is_match: np.ndarray, recall: float = 0.95) -> float:
    """Compute the false positive rate at the smallest distance within which a share `recall` of the matches lies.

    Args:
        distances: One distance per pair, (pairs,).
        is_match: Whether each pair matches, (pairs,).
        recall: A share in [0, 1].

    Returns:
        A share in [0, 1]. Less is better; distances without information give `recall`.

    Raises:
        DataError: The shapes differ, a kind of pairs is missing, or distances are not finite.

    Example:
        >>> fpr95(np.array([0.1, 0.2, 0.3, 0.4]), np.array([True, True, False, False]))
        0.0
    """
    distances, is_match = np.asarray(distances), np.asarray(is_match, dtype=bool)
    if distances.shape != is_match.shape or distances.ndim != 1 or not is_match.any() or is_match.all():
        raise DataError(
            "Expected one distance per pair, and both matches and others, but got distances of shape "
            f"{distances.shape} for {is_match.sum()} matches of {is_match.size} pairs."
        )
    if not np.isfinite(distances).all():
        raise DataError("Expected finite distances but got others; check whether the network overflows.")
    matches = np.sort(distances[is_match])
    threshold = matches[math.ceil(recall * len(matches)) - 1]
    return float((distances[~is_match] <= threshold).mean())
