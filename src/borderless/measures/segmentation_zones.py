"""Accuracy and intersection over union of labels by zone, from the border of the image to its center.

Shapes: labels of pixels (H, W), -1 of a pixel that counts for nothing.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from borderless.errors import DataError
from borderless.measures.border_effect import distances
from borderless.measures.intervals import over_images
from borderless.measures.zones import COUNT, GRID, INNER, Zone, Zones, ZoneScore, area_of, cell_of, gridded, zone_of


def segmentation_zones(images: Iterable[tuple[np.ndarray, np.ndarray]], classes: int, seed: int = 0) -> Zones:
    """Score predicted labels by zone, with intervals over images.

    Args:
        images: Pairs of right and predicted labels (H, W).
        classes: How many labels the network has.
        seed: Seed of the resampling.

    Raises:
        DataError: There is no labeled pixel, or a label that the network does not have.
    """
    counts: list[np.ndarray] = []
    grid, of_grid = np.zeros((GRID, GRID)), np.zeros((GRID, GRID))
    at_distance: list[tuple[np.ndarray, np.ndarray]] = []
    for right, predicted in images:
        if int(right.max()) >= classes:
            raise DataError(
                f"Expected labels of pixels from 0 to {classes - 1}, the network's, but got {int(right.max())}; name "
                "the classes in the order of the network's labels (--class-names), or relabel the masks"
            )
        known = right >= 0
        rows, columns = (at + 0.5 for at in np.nonzero(known))
        labels, found = right[known], predicted[known]
        is_right = (labels == found) * 1.0
        counts.append(_counts(zone_of(rows, columns, right.shape), labels, found, classes))
        means, there = gridded(cell_of(rows, columns, right.shape), is_right)
        grid, of_grid = grid + np.nan_to_num(means) * there, of_grid + there
        depth = distances(right.shape)
        sums = np.bincount(depth[known], is_right, int(depth.max()) + 1)
        at_distance.append((sums, np.bincount(depth[known], minlength=len(sums))))
    every = np.array(counts).reshape(-1, COUNT, 3, classes)
    if not every.size or not every[:, :, 0].any():
        raise DataError("Expected pixels with labels but got none that count")
    total = every[:, :, 0].sum()

    def zone(found: np.ndarray, area: float) -> Zone:
        mine, others, both = found.transpose(1, 0, 2)  # (images, classes) each
        score = ZoneScore(*over_images(both.sum(1, keepdims=True), mine.sum(1, keepdims=True), seed))
        # A class counts where it is annotated or predicted.
        overlap = ZoneScore(*over_images(both, mine + others - both, seed))
        return Zone(area, int(mine.sum()), float(mine.sum() / total), score, overlap)

    there = every.sum((0, 1))
    with np.errstate(invalid="ignore"):
        by_position = grid / of_grid
    return Zones(
        images=len(every),
        zones=tuple(zone(every[:, i], area_of(i)) for i in range(COUNT)),
        inner=zone(every[:, INNER].sum(1), sum(area_of(i) for i in range(COUNT)[INNER])),
        whole=zone(every.sum(1), 1.0),
        grid=by_position,
        counts=of_grid.astype(int),
        by_distance=_by_distance(at_distance),
        unseen=tuple(int(i) for i in np.flatnonzero((there[0] > 0) & (there[1] == 0))),
    )


def _counts(zones: np.ndarray, labels: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
    """Return pixels by zone (COUNT, 3, classes): those with a label, those predicted to have it, both."""
    kinds: list[Any] = [labels, found, np.where(labels == found, labels, -1)]
    by_kind = [
        np.bincount(zones[kind >= 0] * classes + kind[kind >= 0], minlength=COUNT * classes).reshape(COUNT, classes)
        for kind in kinds
    ]
    return np.stack(by_kind, 1).astype(float)


def _by_distance(found: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return the mean at each distance that all images have."""
    shortest = min(len(sums) for sums, _ in found)
    sums, counts = (np.sum([pair[i][:shortest] for pair in found], 0) for i in range(2))
    with np.errstate(invalid="ignore"):
        return sums / counts
