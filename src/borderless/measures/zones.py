"""Zones of an image from its border to its center, and what is measured in each.

The zones are those of Zheng et al., "Zone Evaluation: Revealing Spatial Bias in Object Detection" (TPAMI 2024): frames
of equal width relative to the image, the first along the border, the last a rectangle in the center.

Shapes: positions in pixels, of any shape; a grid (rows, columns) over the image, of cells of equal size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

COUNT = 5
# Together as large as the zone along the border: 36 % of the image.
INNER = slice(2, COUNT)
# Rows and columns of heat maps over the image.
GRID = 5


@dataclass(frozen=True)
class ZoneScore:
    """A score and its 95 % interval over images; NaN where there is nothing to score."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Zone:
    """Scores in one zone.

    Attributes:
        area: Its share of the image.
        count: How many objects or pixels are in it.
        share: Of all objects or pixels, how many are in it.
        score: The recall at an overlap of 50 %; of pixels, the share with the right label.
        precision: The average precision at an overlap of 50 %, the mean over classes; of pixels, the intersection over
            union, the mean over classes.
        mean_precision: The average precision over overlaps from 50 to 95 %, as COCO has it; NaN of pixels.
    """

    area: float
    count: int
    share: float
    score: ZoneScore
    precision: ZoneScore
    mean_precision: float = float("nan")


@dataclass(frozen=True)
class Zones:
    """Scores by zone, on annotated images.

    Attributes:
        images: How many.
        zones: The one along the border first.
        inner: The same of the `INNER` zones together, which are as large as the one along the border.
        whole: The same of the whole image.
        grid: (GRID, GRID), the score by position; NaN where there is no object.
        counts: (GRID, GRID), how many objects or pixels it rests on.
        by_distance: (D,), the score of pixels by the distance from the edge, in pixels; empty of objects.
        unseen: Annotated labels that are never predicted.
    """

    images: int
    zones: tuple[Zone, ...]
    inner: Zone
    whole: Zone
    grid: np.ndarray
    counts: np.ndarray
    by_distance: np.ndarray
    unseen: tuple[int, ...]

    @property
    def border(self) -> Zone:
        """The outermost zone that has objects; centers of large ones are not near the border."""
        return next((zone for zone in self.zones if zone.count), self.zones[0])


def zone_of(rows: np.ndarray, columns: np.ndarray, size: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the zones of positions, 0 along the border to `COUNT` - 1 in the center.

    Args:
        rows: In pixels from the upper edge; of a pixel, its middle.
        columns: In pixels from the left edge.
        size: Height and width of the image.

    Example:
        >>> zone_of(np.array([9.0, 11.0, 50.0, 95.0]), np.array([50.0, 50.0, 50.0, 50.0]), (100, 100)).tolist()
        [0, 1, 4, 0]
    """
    rows, columns = (np.minimum(at, n - at) / n for at, n in zip((rows, columns), size, strict=True))
    # An edge between two zones belongs to the outer one, as in the authors' code; 1e-9 is for rounding.
    found = np.ceil(np.minimum(rows, columns) * 2 * COUNT - 1e-9) - 1
    return np.clip(found, 0, COUNT - 1).astype(int)


def area_of(zone: int) -> float:
    """Return the share of the image that a zone has.

    >>> [round(area_of(zone), 2) for zone in range(COUNT)]
    [0.36, 0.28, 0.2, 0.12, 0.04]
    """
    outer, inner = (1 - (zone + i) / COUNT for i in range(2))
    return outer**2 - inner**2


def cell_of(rows: np.ndarray, columns: np.ndarray, size: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the cells of a grid of `GRID` × `GRID` that positions are in, counted row by row."""
    row, column = (
        np.clip((at / n * GRID).astype(int), 0, GRID - 1) for at, n in zip((rows, columns), size, strict=True)
    )
    return row * GRID + column


def gridded(cells: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of `values` in each cell of the grid, and how many there are."""
    counts = np.bincount(cells, minlength=GRID**2)
    with np.errstate(invalid="ignore"):
        means = np.bincount(cells, values, GRID**2) / counts
    return means.reshape(GRID, GRID), counts.reshape(GRID, GRID)
