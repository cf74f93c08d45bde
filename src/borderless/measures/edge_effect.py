"""Edge effect: how much a dense output changes with the distance of a pixel from the edge of the image.

Two comparisons, by that distance:

- views: the same pixel in two crops of the same image, whole strides apart, so that strides sample it alike. A pixel
  near the edge of one crop is deep inside the other. What differs is what its users see at the edges of images and of
  tiles: the padding takes the place of what lies beyond the edge, or the model reads position by itself.
- padding: the model as it is, and under `infinite`, on the same images. Both see the same pixels, so the padding alone
  makes the difference.

Shapes: images (N, C, H, W); rings (N, D), one number per image and distance from the edge, the edge first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from borderless.conversion import bordered, conversion_of
from borderless.errors import ImageError
from borderless.measures.batches import Batch, of_each_batch
from borderless.measures.border_effect import distances
from borderless.measures.comparisons import Cells, as_maps
from borderless.measures.intervals import over_objects


@dataclass(frozen=True)
class Rings:
    """Differences by the distance from the edge.

    Attributes:
        step_px: Pixels from ring to ring.
        sums: (N, D), over the cells of each image at each distance.
        cells: (N, D), how many these are.
    """

    step_px: int
    sums: np.ndarray
    cells: np.ndarray

    @property
    def by_distance(self) -> np.ndarray:
        """The mean difference (D,) at each distance; NaN where there is no cell."""
        with np.errstate(invalid="ignore"):
            return self.sums.sum(0) / self.cells.sum(0)

    def depth_px(self, above: float) -> int:
        """Return up to how many pixels from the edge the mean difference exceeds `above`; 0 if nowhere."""
        touched = np.flatnonzero(self.by_distance > above)
        return int(touched[-1] + 1) * self.step_px if len(touched) else 0

    def between(self, start_px: float, stop_px: float, seed: int = 0) -> tuple[float, float, float]:
        """Return the mean from one distance to another with its 95 % interval over images; NaN without cells."""
        chosen = slice(int(start_px // self.step_px), int(-(-stop_px // self.step_px)))
        sums, cells = self.sums[:, chosen].sum(1), self.cells[:, chosen].sum(1)
        if not cells.all():
            return float("nan"), float("nan"), float("nan")
        return float(sums.sum() / cells.sum()), *over_objects(sums / cells, seed)


@dataclass(frozen=True)
class OfClass:
    """Labels of one class in two views of the same pixels.

    Attributes:
        index: The class.
        share: The share of pixels that have it in the view in which they are deeper inside.
        flips: The share of these that have another label in the other view.
        overlap: Intersection over union of the pixels that have it in either view.
    """

    index: int
    share: float
    flips: float
    overlap: float


@dataclass(frozen=True)
class Views:
    """The same pixels in two crops of the same image.

    Attributes:
        rings: Differences by the distance from the nearer edge.
        shift_px: How far apart the crops are, (rows, columns).
        classes: The labels by class, the most frequent first; () of numbers.
    """

    rings: Rings
    shift_px: tuple[int, int]
    classes: tuple[OfClass, ...]


def padding_effect(
    model: nn.Module,
    images: Any,
    comparison: Cells,
    *,
    background: float | tuple[float, ...] = 0.0,
    batch_size: int = 8,
    workers: int = 0,
    progress: Callable[[int, int], Any] | None = None,
) -> Rings:
    """Compare a model's output with that of the same model under `infinite`, by the distance from the edge.

    Args:
        model: Returns maps (N, channels, h, w).
        images: A tensor (N, C, H, W), or a data set of images or of (image, label) pairs.
        comparison: Says how two cells differ.
        background: Value around the images without a border, in input units.
        batch_size: Images per pass.
        workers: Processes that load the images of a data set.
        progress: Called with the number of images that are done, and their total.
    """
    own = conversion_of(model)
    phase = "fixed" if own is None else own.border.phase
    steps: set[int] = set()

    def compared(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        size = batch.images.shape[2:]
        one = _maps(model, batch.images, size)
        with bordered(model, "infinite", phase=phase, background=background):
            other = _maps(model, batch.images, size)
        steps.add(size[0] // one.shape[2])
        if progress is not None:
            progress(batch.start + len(batch.images), len(images))
        return _ring_sums(comparison.per_cell(one, other), distances(one.shape[2:]))

    found, _ = of_each_batch(images, batch_size, model, compared, workers)
    return _rings(found, max(steps, default=1))


def views(
    model: nn.Module,
    images: Any,
    comparison: Cells,
    stride_px: Sequence[int],
    *,
    batch_size: int = 8,
    workers: int = 0,
    progress: Callable[[int, int], Any] | None = None,
) -> Views:
    """Compare the output for the same pixels in two crops, about a quarter of the image apart.

    Args:
        model: Returns maps (N, channels, h, w).
        images: A tensor (N, C, H, W), or a data set of images or of (image, label) pairs.
        comparison: Says how two cells differ.
        stride_px: The model's total stride along each axis; the crops are a multiple of it apart.
        batch_size: Images per pass.
        workers: Processes that load the images of a data set.
        progress: Called with the number of images that are done, and their total.

    Raises:
        ImageError: The images are too small for two crops whole strides apart.
    """
    shifts: list[tuple[int, int]] = []
    steps: set[int] = set()

    def compared(batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        height, width = batch.images.shape[2:]
        shift = _shift((height, width), stride_px)
        shifts.append(shift)
        size = (height - shift[0], width - shift[1])
        sums, cells, counts = 0.0, 0.0, np.zeros((3, 0))
        for offsets in (((0, 0), shift), ((0, shift[1]), (shift[0], 0))):
            crops = [batch.images[:, :, y : y + size[0], x : x + size[1]] for y, x in offsets]
            maps = [_maps(model, crop, size) for crop in crops]
            step = size[0] // maps[0].shape[2]
            steps.add(step)
            one, other, nearer, deeper = _overlap(maps, offsets, step)
            is_first_deeper = deeper == 0
            more, of = _ring_sums(comparison.per_cell(one, other), nearer, deeper >= 0)
            sums, cells = sums + more, cells + of
            labels = comparison.labels(one), comparison.labels(other)
            if labels[0] is not None and labels[1] is not None:
                inner = np.where(is_first_deeper, labels[0], labels[1])[:, deeper >= 0]
                outer = np.where(is_first_deeper, labels[1], labels[0])[:, deeper >= 0]
                counts = _added(counts, _class_counts(inner, outer, one.shape[1]))
        if progress is not None:
            progress(batch.start + len(batch.images), len(images))
        return np.asarray(sums), np.asarray(cells), counts

    found, _ = of_each_batch(images, batch_size, model, compared, workers)
    counts = np.sum([counts for _, _, counts in found], 0)
    shift = shifts[0] if shifts else _shift(images[0][0].shape[-2:], stride_px)
    return Views(_rings([(a, b) for a, b, _ in found], max(steps, default=1)), shift, _classes(counts))


def _shift(size: tuple[int, int], stride_px: Sequence[int]) -> tuple[int, int]:
    """Return about a quarter of each side, a multiple of the total stride."""
    rows, columns = (max(1, round(n / 4 / s)) * s for n, s in zip(size, stride_px, strict=True))
    if 2 * rows >= size[0] or 2 * columns >= size[1]:
        raise ImageError(
            f"Needs images of more than two total strides, {2 * stride_px[0]} × {2 * stride_px[1]} px, for two crops "
            f"that are whole strides apart, but got {size[0]} × {size[1]} px (--size)"
        )
    return rows, columns


def _maps(model: nn.Module, images: Tensor, size: Sequence[int]) -> np.ndarray:
    with torch.no_grad():
        return as_maps(model(images.clone()), size).float().cpu().numpy()


def _overlap(
    maps: Sequence[np.ndarray], offsets: Sequence[tuple[int, int]], step: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the cells that both crops have, and which crop has them nearer to its edge.

    Returns:
        The cells in the first crop and in the second (n, channels, h, w); the distance in cells (h, w) from the nearer
        edge; the crop in which a cell is deeper inside, 0 or 1, or -1 where both are alike.
    """
    far = distances(maps[0].shape[2:])
    spans: list[tuple[slice, slice]] = []
    for mine, others in (offsets, offsets[::-1]):
        axes: list[slice] = []
        for a, b, size in zip(mine, others, maps[0].shape[2:], strict=True):
            start, stop = max(0, (b - a) // step), size + min(0, (b - a) // step)
            axes.append(slice(start, stop))
        spans.append((axes[0], axes[1]))
    one, other = (found[:, :, rows, columns] for found, (rows, columns) in zip(maps, spans, strict=True))
    far_one, far_other = (far[rows, columns] for rows, columns in spans)
    deeper = np.where(far_one == far_other, -1, np.where(far_one > far_other, 0, 1))
    return one, other, np.minimum(far_one, far_other), deeper


def _ring_sums(
    values: np.ndarray, distance: np.ndarray, chosen: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums of values (n, h, w) at each distance (n, D), and how many they are."""
    inside = np.ones(distance.shape, bool) if chosen is None else chosen
    rings = int(distance.max()) + 1
    where = distance[inside]
    sums = np.stack([np.bincount(where, one[inside], rings) for one in values.astype(np.float64)])
    return sums, np.tile(np.bincount(where, minlength=rings), (len(values), 1))


def _class_counts(inner: np.ndarray, outer: np.ndarray, count: int) -> np.ndarray:
    """Return for each class its pixels inside, those of them that keep their label, and those of either view."""
    count = max(count, 2)
    kept = np.bincount(inner[inner == outer], minlength=count)
    mine, others = (np.bincount(labels.ravel(), minlength=count) for labels in (inner, outer))
    return np.stack([mine, kept, mine + others - kept]).astype(float)


def _added(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return one + other if one.size else other


def _classes(counts: np.ndarray) -> tuple[OfClass, ...]:
    if not counts.size:
        return ()
    mine, kept, either = counts
    there = [int(i) for i in np.argsort(-mine, kind="stable") if mine[i] > 0]
    return tuple(
        OfClass(i, float(mine[i] / mine.sum()), float(1 - kept[i] / mine[i]), float(kept[i] / either[i])) for i in there
    )


def _rings(found: Sequence[tuple[np.ndarray, np.ndarray]], step_px: int) -> Rings:
    sums, cells = (np.concatenate([part[i] for part in found]) for i in range(2))
    last = np.flatnonzero(cells.sum(0))[-1]
    return Rings(step_px, sums[:, : last + 1], cells[:, : last + 1])
