"""95 % confidence intervals of a mean: over seeds, also in words, over objects, and over images of several each."""

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


def mean_in_words(values: Sequence[float], sign: str = "") -> str:
    """Return the mean over seeds and half its 95 % interval, to one decimal.

    Args:
        values: One number per seed.
        sign: "+" for differences.

    Example:
        >>> mean_in_words([1.0, 2.0, 3.0]), mean_in_words([1.5], "+")
        ('2.0 ± 2.5', '+1.5')
    """
    half = over_seeds(values)
    return f"{np.mean(values):{sign}.1f}" + ("" if half is None else f" ± {half:.1f}")


def difference_in_words(values: Sequence[float], reference: Sequence[float]) -> str:
    """Return the mean difference of paired numbers with its interval, and what would settle an unsettled sign.

    Args:
        values: One number per seed.
        reference: The number of the same seed that it is compared with.

    Example:
        >>> difference_in_words([3.0, 3.5, 4.0], [1.0, 1.0, 1.0])
        '+2.5 ± 1.2'
        >>> difference_in_words([4.0, 0.0, 2.0], [1.0, 1.0, 1.0])
        '+1.0 ± 5.0 (open; about 18 seeds would settle it)'
    """
    differences = list(np.subtract(values, reference))
    half, words = over_seeds(differences), mean_in_words(differences, "+")
    if half is None or abs(np.mean(differences)) > half or not np.any(differences):
        return words
    needed = seeds_to_settle(differences)
    return f"{words} (open; {f'about {needed}' if needed else 'more than 1,000'} seeds would settle it)"


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


def over_images(sums: np.ndarray, totals: np.ndarray, seed: int) -> tuple[float, float, float]:
    """Return the mean over kinds of sum / total and both ends of its interval, by a bootstrap over images.

    Args:
        sums: (N, K), of each image and kind, such as the objects of a class that are detected.
        totals: (N, K), what they are parts of. Kinds whose total is 0 in a resample are left out of it.
        seed: The random seed.

    Returns:
        Three NaNs where every total is 0.

    Example:
        >>> over_images(np.array([[1.0], [1.0]]), np.array([[2.0], [2.0]]), seed=0)
        (0.5, 0.5, 0.5)
    """
    if not totals.any():
        return float("nan"), float("nan"), float("nan")
    draw, count = np.random.default_rng(seed), len(sums)
    weights = draw.multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(float)
    with np.errstate(invalid="ignore"):
        ratios = (weights @ sums) / (weights @ totals)
        whole = sums.sum(0) / totals.sum(0)
    ratios = ratios[~np.isnan(ratios).all(1)]
    low, high = np.percentile(np.nanmean(ratios, 1), [2.5, 97.5])
    return float(np.nanmean(whole)), float(low), float(high)
