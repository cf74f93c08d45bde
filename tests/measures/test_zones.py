"""Zones are those of the paper; scores are those of pycocotools and scikit-learn on each zone by itself."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from borderless.errors import DataError
from borderless.measures.detection_zones import DetectedObjects, detection_zones
from borderless.measures.intervals import over_images
from borderless.measures.segmentation_zones import segmentation_zones
from borderless.measures.zones import COUNT, INNER, area_of, zone_of

SIZE = (100, 100)


def test_zones_are_frames_of_equal_width_and_cover_the_image() -> None:
    rows, columns = np.indices((200, 100)) + 0.5
    found = zone_of(rows, columns, (200, 100))
    for zone in range(COUNT):
        assert (found == zone).mean() == pytest.approx(area_of(zone))
    assert sum(area_of(zone) for zone in range(COUNT)[INNER]) == pytest.approx(area_of(0))
    assert found[0, 50] == found[100, 0] == 0 and found[100, 50] == COUNT - 1
    # The conditions of the authors' code, for zone i of 5: a center is in it if it is in neither of the others.
    for zone in range(COUNT):
        low, high = zone / 10, (zone + 1) / 10
        outer = (
            (rows <= high * 200) | (rows >= (1 - high) * 200) | (columns <= high * 100) | (columns >= (1 - high) * 100)
        )
        inner = (rows > low * 200) & (rows < (1 - low) * 200) & (columns > low * 100) & (columns < (1 - low) * 100)
        np.testing.assert_array_equal(found == zone, outer & inner)


def box(row: float, column: float, side: float = 10) -> list[float]:
    return [column - side / 2, row - side / 2, column + side / 2, row + side / 2]


def image(
    centers: list[tuple[float, float]], found: list[tuple[float, float, float]], label: int = 1
) -> DetectedObjects:
    """Objects at centers, detections at (row, column, score)."""
    rows = [[*box(row, column), score, label] for row, column, score in found]
    return DetectedObjects(
        SIZE,
        np.array([box(*center) for center in centers], float).reshape(-1, 4),
        np.full(len(centers), label),
        np.zeros(len(centers), bool),
        np.array(rows, float).reshape(-1, 6),
    )


def test_a_detector_that_misses_objects_along_the_border_is_found_there() -> None:
    images = [image([(6, 50), (50, 50)], [(50, 50, 0.9)]) for _ in range(6)]
    found = detection_zones(images)
    border, *others = found.zones
    assert (border.score.value, border.score.low, border.score.high) == (0, 0, 0)
    assert border.precision.value == 0 and border.count == 6 and border.share == 0.5
    assert found.inner.score.value == pytest.approx(others[-1].precision.value) == 1
    assert others[-1].mean_precision == pytest.approx(1)
    assert found.whole.score.value == 0.5
    assert np.isnan(others[0].score.value) and np.isnan(others[0].precision.value)
    assert found.grid[0, 2] == 0 and found.grid[2, 2] == 1 and found.counts.sum() == 12
    assert np.isnan(found.grid[0, 0])


def test_a_detection_that_lies_beyond_the_edge_of_the_zone_is_no_miss() -> None:
    """The authors' code drops it before it is matched: a recall of 0 in zone 0, for a box that is 1 px off."""
    found = detection_zones([image([(9.9, 50)], [(10.6, 50, 0.9)])])
    assert found.zones[0].score.value == pytest.approx(found.zones[0].precision.value) == 1
    assert found.zones[1].count == 0


def test_average_precision_is_that_of_pycocotools_on_each_zone_alone() -> None:
    """Where no detection matches an object of another zone, both definitions are the same: a zone by itself."""
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    draw = np.random.default_rng(0)
    images = []
    for _ in range(8):
        centers = [(6 + 0.1 * draw.random(), 30.0), (50.0, 50.0), (94.0, 70.0)]
        found = [(row + draw.normal(), column + draw.normal(), draw.random()) for row, column in centers]
        found += [(50.0 + draw.normal(), 70.0, draw.random()), (6.0, 60.0 + draw.normal(), draw.random())]
        images.append(image(centers, found))
    scores = detection_zones(images)
    for zone in (0, 4):
        listed: dict[str, list[Any]] = {"objects": [], "detections": []}
        for i, one in enumerate(images):
            for kind, rows in (("objects", one.boxes), ("detections", one.detections)):
                center = rows[:, [1, 3]].mean(1), rows[:, [0, 2]].mean(1)
                for row in rows[zone_of(*center, SIZE) == zone]:
                    left, top, right, bottom = row[:4].tolist()
                    entry = {"bbox": [left, top, right - left, bottom - top], "area": 100, "iscrowd": 0}
                    more = {"score": row[4]} if kind == "detections" else {}
                    number = len(listed[kind]) + 1
                    listed[kind].append(entry | more | {"id": number, "image_id": i, "category_id": 1})
        with contextlib.redirect_stdout(io.StringIO()):
            apis: list[Any] = [COCO(), COCO()]
            for api, entries in zip(apis, listed.values(), strict=True):
                api.dataset = {
                    "images": [{"id": i} for i in range(8)],
                    "categories": [{"id": 1}],
                    "annotations": entries,
                }
                api.createIndex()
            evaluator = COCOeval(apis[0], apis[1], "bbox")
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
        assert scores.zones[zone].mean_precision == pytest.approx(evaluator.stats[0])
        assert scores.zones[zone].precision.value == pytest.approx(evaluator.stats[1])
        assert scores.zones[zone].precision.low <= evaluator.stats[1] <= scores.zones[zone].precision.high


def test_labels_that_do_not_fit_are_refused_and_those_never_predicted_named() -> None:
    with pytest.raises(DataError, match=r"predictions of the annotated labels \(1\) but got others \(2\)"):
        detection_zones([image([(50, 50)], []), image([], [(50, 50, 0.9)], label=2)])
    with pytest.raises(DataError, match="Expected annotated objects but got none"):
        detection_zones([image([], [(50, 50, 0.9)])])
    assert detection_zones([image([(50, 50)], [(50, 50, 1)]), image([(50, 50)], [], label=2)]).unseen == (2,)
    assert detection_zones([image([(50, 50)], [])]).whole.score.value == 0


def test_pixels_are_scored_as_by_scikit_learn() -> None:
    from sklearn.metrics import jaccard_score

    draw = np.random.default_rng(0)
    right = draw.integers(0, 3, (4, 40, 60))
    predicted = np.where(draw.random(right.shape) < 0.3, draw.integers(0, 3, right.shape), right)
    right[:, 10:20, 10:20] = -1
    predicted[:, :4] = 0
    found = segmentation_zones(zip(right, predicted, strict=True), 3)
    rows, columns = np.indices((40, 60)) + 0.5
    zones = zone_of(rows, columns, (40, 60))
    for i, zone in enumerate(found.zones):
        known = (zones == i) & (right >= 0)
        assert zone.count == known.sum()
        assert zone.score.value == pytest.approx((right == predicted)[known].mean())
        expected = jaccard_score(right[known], predicted[known], average="macro")
        assert zone.precision.value == pytest.approx(expected)
        assert zone.precision.low < expected < zone.precision.high
    assert found.zones[0].score.high < found.inner.score.low
    assert found.by_distance[:4].max() < found.by_distance[4:].min()
    assert found.counts.sum() == (right >= 0).sum()
    with pytest.raises(DataError, match="Expected labels of pixels from 0 to 1, the network's, but got 2"):
        segmentation_zones(zip(right, predicted, strict=True), 2)


def test_the_interval_over_images_is_that_of_a_mean_of_ratios() -> None:
    draw = np.random.default_rng(0)
    totals = draw.integers(1, 9, (200, 1)).astype(float)
    sums = draw.binomial(totals.astype(int), 0.3).astype(float)
    value, low, high = over_images(sums, totals, seed=0)
    assert value == pytest.approx(sums.sum() / totals.sum())
    # The delta method: the deviation of sum - ratio * total, over the mean total.
    half = 1.96 * (sums - value * totals).std() / totals.mean() / len(sums) ** 0.5
    assert (value - low, high - value) == pytest.approx((half, half), rel=0.15)
