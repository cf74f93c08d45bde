"""Recall and average precision of a detector by zone, from the border of the image to its center.

pycocotools evaluates. It scores objects of a range of areas by ignoring the others, and the detections that match them
or that match nothing and lie out of range themselves. Here the zone of a box's center takes the place of its area. So,
unlike in the code of Zheng et al., which drops detections with a center out of the zone before they are matched, an
object is not missed because the center of its detection lies a pixel beyond the edge of the zone.

Shapes: boxes (n, 4), left, top, right, bottom in pixels; detections (n, 6), a box, a score and a label.
"""

# pycocotools has no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false
# pyright: reportUnknownArgumentType=false

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from borderless.errors import DataError, MissingPackage
from borderless.measures.intervals import over_images
from borderless.measures.zones import COUNT, INNER, Zone, Zones, ZoneScore, area_of, cell_of, gridded, zone_of

# Each costs an accumulation over classes and zones.
_RESAMPLES = 200
_OVERLAP = 0.5
# From which zone to which is scored: each, the inner ones, all.
_RANGES = (*((i, i) for i in range(COUNT)), (INNER.start, COUNT - 1), (0, COUNT - 1))


@dataclass(frozen=True)
class DetectedObjects:
    """The objects of one image, and what a detector found.

    Attributes:
        size: Height and width of the image.
        boxes: (n, 4), of its objects.
        labels: (n,).
        is_ignored: (n,), whether an object counts neither for nor against the detector.
        detections: (m, 6).
    """

    size: tuple[int, int]
    boxes: np.ndarray
    labels: np.ndarray
    is_ignored: np.ndarray
    detections: np.ndarray


def coco_api() -> Any:
    """Return the class COCO of pycocotools.

    Raises:
        MissingPackage: It is not installed.
    """
    try:
        from pycocotools.coco import COCO
    except ImportError as error:
        raise MissingPackage(
            'Expected the package pycocotools but got none; install it with: pip install "borderless[zones]"'
        ) from error
    return COCO


def detection_zones(
    images: Sequence[DetectedObjects], seed: int = 0, progress: Callable[[int, int], Any] | None = None
) -> Zones:
    """Score detections by zone, with intervals over images.

    Args:
        images: Annotated images.
        seed: Seed of the resampling.
        progress: Called with the number of resamples done, and of all.

    Raises:
        DataError: There is no object to find, or none of the predicted labels is annotated.
        MissingPackage: pycocotools is not installed.
    """
    known = {int(label) for one in images for label in one.labels[~one.is_ignored]}
    predicted = {int(label) for one in images for label in one.detections[:, 5]}
    if not known:
        raise DataError("Expected annotated objects but got none that count")
    if predicted and not known & predicted:
        raise DataError(
            f"Expected predictions of the annotated labels ({_listed(known)}) but got others ({_listed(predicted)}); "
            "name the classes in the order of the network's labels (--class-names)"
        )
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = _evaluator(images, sorted(known))
        evaluator.evaluate()
        evaluator.accumulate()
        means = [_mean(evaluator, area) for area in range(len(_RANGES))]
        image, rows, columns, zones, hits = _hits(evaluator)
        intervals = _intervals(images, sorted(known), seed, progress)

    def zone(chosen: np.ndarray, area: float, index: int) -> Zone:
        sums, totals = (np.bincount(image[chosen], weights, len(images))[:, None] for weights in (hits[chosen], None))
        score = ZoneScore(*over_images(sums, totals.astype(float), seed))
        count = int(chosen.sum())
        return Zone(area, count, count / len(hits), score, intervals[index], means[index])

    sizes = np.array([one.size for one in images], float)[image].T
    grid, counts = gridded(cell_of(rows, columns, sizes), hits)
    return Zones(
        images=len(images),
        zones=tuple(zone(zones == i, area_of(i), i) for i in range(COUNT)),
        inner=zone(zones >= INNER.start, sum(area_of(i) for i in range(COUNT)[INNER]), COUNT),
        whole=zone(np.ones(len(hits), bool), 1.0, COUNT + 1),
        grid=grid,
        counts=counts,
        by_distance=np.zeros(0),
        unseen=tuple(sorted(known - predicted)),
    )


def _listed(labels: set[int]) -> str:
    return ", ".join(map(str, sorted(labels)[:8])) + (" …" if len(labels) > 8 else "")


def _evaluator(images: Sequence[DetectedObjects], labels: Sequence[int], is_short: bool = False) -> Any:
    """Return pycocotools' evaluator of the zones in `_RANGES`; short: of one overlap."""
    from pycocotools.cocoeval import COCOeval

    listed = {"images": [{"id": i} for i in range(len(images))], "categories": [{"id": label} for label in labels]}
    objects, found = coco_api()(), coco_api()()
    objects.dataset = {**listed, "annotations": list(_objects(images, set(labels)))}
    found.dataset = {**listed, "annotations": list(_detections(images, set(labels)))}
    for api in (objects, found):
        api.createIndex()
    evaluator = COCOeval(objects, found, "bbox")
    params = evaluator.params
    params.areaRng = [[*one] for one in _RANGES]
    params.areaRngLbl = [*map(str, range(len(_RANGES) - 1)), "all"]
    params.maxDets = [max(100, *(len(one.detections) for one in images))]
    if is_short:
        params.iouThrs = np.array([_OVERLAP])
    return evaluator


def _objects(images: Sequence[DetectedObjects], labels: set[int]) -> Iterator[dict[str, Any]]:
    number = 1  # 0 means no match to pycocotools
    for i, one in enumerate(images):
        zones = _zones(one.boxes, one.size)
        for box, label, zone, is_ignored in zip(one.boxes, one.labels, zones, one.is_ignored, strict=True):
            if int(label) in labels:
                yield _entry(number, i, box, int(label), int(zone)) | {"iscrowd": int(is_ignored)}
                number += 1


def _detections(images: Sequence[DetectedObjects], labels: set[int]) -> Iterator[dict[str, Any]]:
    number = 1
    for i, one in enumerate(images):
        zones = _zones(one.detections[:, :4], one.size)
        for row, zone in zip(one.detections, zones, strict=True):
            if int(row[5]) in labels:
                yield _entry(number, i, row[:4], int(row[5]), int(zone)) | {"score": float(row[4])}
                number += 1


def _entry(number: int, image: int, box: np.ndarray, label: int, zone: int) -> dict[str, Any]:
    left, top, right, bottom = (float(at) for at in box)
    bbox = [left, top, right - left, bottom - top]
    return {"id": number, "image_id": image, "category_id": label, "bbox": bbox, "area": zone}


def _zones(boxes: np.ndarray, size: Sequence[float]) -> np.ndarray:
    return zone_of(*_centers(boxes), size)


def _centers(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the centers."""
    return boxes[:, [1, 3]].mean(1), boxes[:, [0, 2]].mean(1)


def _mean(evaluator: Any, area: int) -> float:
    """Return the average precision, the mean over overlaps, recalls and classes; NaN without objects."""
    values = evaluator.eval["precision"][:, :, :, area, -1]
    values = values[values > -1]
    return float(values.mean()) if values.size else float("nan")


def _hits(evaluator: Any) -> tuple[np.ndarray, ...]:
    """Return of each object its image, row, column and zone, and whether it is detected at an overlap of 50 %."""
    matched = {
        number: bool(match)
        for entry in evaluator.evalImgs
        if entry is not None and tuple(entry["aRng"]) == _RANGES[-1]
        for number, match, is_ignored in zip(entry["gtIds"], entry["gtMatches"][0], entry["gtIgnore"], strict=True)
        if not is_ignored
    }
    rows: list[tuple[float, ...]] = []
    for one in evaluator.cocoGt.dataset["annotations"]:
        if one["id"] in matched:
            left, top, width, height = one["bbox"]
            center = (top + height / 2, left + width / 2)
            rows.append((one["image_id"], *center, one["area"], matched[one["id"]]))
    image, row, column, zone, hit = np.array(rows, float).T
    return image.astype(int), row, column, zone.astype(int), hit


def _intervals(
    images: Sequence[DetectedObjects], labels: Sequence[int], seed: int, progress: Callable[[int, int], Any] | None
) -> list[ZoneScore]:
    """Return the average precision at an overlap of 50 % in `_RANGES` with its interval."""
    evaluator = _evaluator(images, labels, is_short=True)
    evaluator.evaluate()
    every = np.empty(len(evaluator.evalImgs), object)
    every[:] = evaluator.evalImgs
    by_image = every.reshape(len(labels), len(_RANGES), len(images))
    evaluator.accumulate()
    whole = [_mean(evaluator, area) for area in range(len(_RANGES))]
    draw, found = np.random.default_rng(seed), np.empty((_RESAMPLES, len(_RANGES)))
    for i in range(_RESAMPLES):
        drawn = draw.integers(len(images), size=len(images))
        evaluator.evalImgs = by_image[:, :, drawn].reshape(-1).tolist()
        evaluator.accumulate()
        found[i] = [_mean(evaluator, area) for area in range(len(_RANGES))]
        if progress is not None:
            progress(i + 1, _RESAMPLES)
    scores: list[ZoneScore] = []
    for value, column in zip(whole, found.T, strict=True):
        there = column[~np.isnan(column)]
        low, high = np.percentile(there, [2.5, 97.5]) if len(there) else (float("nan"), float("nan"))
        scores.append(ZoneScore(value, float(low), float(high)))
    return scores
