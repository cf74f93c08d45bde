"""95 % confidence intervals of a mean: over seeds, and over test objects."""

# SciPy has no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownArgumentType=false

from collections.abc import Sequence

import numpy as np

RESAMPLES = 2_000


def over_seeds(values: Sequence[float]) -> float | None:
    """Return half the width of the mean's interval, by Student's t; None for a single value.

    Example:
        >>> round(over_seeds([1.0, 2.0, 3.0]), 2)
        2.48
    """
    from scipy import stats  # scikit-learn stands on it; `import borderless` does without

    if len(values) < 2:
        return None
    return float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))


def seeds_to_settle(differences: Sequence[float], most: int = 1_000) -> int | None:
    """Return with how many seeds the interval of the mean difference would exclude 0, if mean and deviation stay.

    At most `most` seeds; None: more than that, or no telling from a single one.

    Example:
        >>> seeds_to_settle([1.0, 2.0, 3.0]), seeds_to_settle([3.0, -1.0, 1.0]), seeds_to_settle([1.0, -1.0])
        (4, 18, None)
    """
    from scipy import stats

    if len(differences) < 2:
        return None
    mean, deviation = abs(np.mean(differences)), np.std(differences, ddof=1)
    counts = np.arange(2, most + 1)
    is_settled = stats.t.ppf(0.975, counts - 1) * deviation / np.sqrt(counts) < mean
    return int(counts[is_settled.argmax()]) if is_settled.any() else None


def _at_once(count: int) -> int:
    """Return how many resamples are in memory together."""
    return max(1, min(RESAMPLES, 10_000_000 // count))


def over_objects(scores: np.ndarray, seed: int) -> tuple[float, float]:
    """Return both ends of the mean's interval, by a bootstrap with `RESAMPLES` resamples (percentiles).

    Example:
        >>> over_objects(np.array([0.5, 0.5, 0.5]), seed=0)
        (0.5, 0.5)
    """
    from scipy import stats

    if np.ptp(scores) == 0:
        return float(scores[0]), float(scores[0])
    found = stats.bootstrap(
        (scores,),
        np.mean,
        n_resamples=RESAMPLES,
        method="percentile",
        batch=_at_once(len(scores)),
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)
