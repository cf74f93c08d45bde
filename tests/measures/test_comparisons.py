"""What counts as a change of an output, against SciPy, scikit-learn and torchvision."""

import numpy as np
import torch
from scipy.spatial.distance import cosine
from sklearn.metrics import jaccard_score
from torch import Tensor
from torchvision.ops import box_iou

from borderless.measures.comparisons import CLASSES, Directions, Labels, Numbers, Vectors, as_maps, joined
from borderless.measures.detections import MOST, Detections, as_tensor, overlaps

DRAW = np.random.default_rng(0)


def test_numbers_of_images_are_compared_in_their_standard_deviations() -> None:
    values, mean, deviation = DRAW.normal(size=(3, 2, 4)), DRAW.normal(size=4), np.array([1.0, 2.0, 4.0, 8.0])
    found = Vectors(mean, deviation).compare(values)
    wanted = np.linalg.norm((values[2, 1] - values[0, 1]) / deviation) / 2
    assert np.isclose(found.differs[2, 1], wanted)
    assert not found.differs[0].any()
    near_mean = Vectors(values[0, 0], deviation).compare(values[:, :1])
    assert near_mean.largest[0] == 1  # no smaller than a standard deviation


def test_embeddings_are_compared_by_their_angle() -> None:
    values = DRAW.normal(size=(3, 2, 5))
    found = Directions(between_images=0.5).compare(values * np.array([1.0, 3.0, 0.1])[:, None, None])
    assert np.isclose(found.differs[2, 1], cosine(values[2, 1], values[0, 1]) / 0.5)
    assert np.allclose(found.differs[0], 0)


def test_labels_of_pixels_are_counted_and_overlap_as_scikit_learn_has_it() -> None:
    values = DRAW.normal(size=(2, 1, 3, 6, 5))
    found = Labels().compare(values)
    first, other = values[0, 0].argmax(0).ravel(), values[1, 0].argmax(0).ravel()
    assert np.isclose(found.differs[1, 0], (first != other).mean())
    assert found.overlap is not None
    assert np.isclose(found.overlap[1, 0], jaccard_score(first, other, average="macro", labels=np.unique(first)))
    of_one_logit = Labels().compare(values[:, :, :1])
    assert np.isclose(of_one_logit.differs[1, 0], ((values[1, 0, 0] > 0) != (values[0, 0, 0] > 0)).mean())


def test_numbers_of_pixels_are_compared_in_their_standard_deviations() -> None:
    values, deviation = DRAW.normal(size=(2, 1, 2, 4, 3)), np.array([0.5, 2.0])
    found = Numbers(deviation).compare(values)
    difference = (values[1, 0] - values[0, 0]) / deviation[:, None, None]
    assert np.isclose(found.differs[1, 0], np.sqrt(np.square(difference).mean()))
    assert np.allclose(np.square(Numbers(deviation).per_cell(values[1], values[0])), np.square(difference).mean(0))


def test_an_object_is_read_where_it_is_at_the_outputs_own_stride() -> None:
    outputs = torch.arange(8 * 6.0).reshape(1, 1, 8, 6)
    canvas = (32, 24)
    assert Labels().step(outputs, canvas) == (4, 4)
    assert torch.equal(Labels().read(outputs, (8, 4), (8, 12), canvas), outputs[:, :, 2:4, 1:4])
    assert Labels().read(outputs, (8, 4), (2, 2), canvas).shape == (1, 1, 1, 1)  # never nothing
    odd = (30, 24)  # its users resize such an output to the image
    wanted = torch.nn.functional.interpolate(outputs, odd, mode="bilinear")
    assert torch.equal(as_maps(outputs[:, 0], odd), wanted)
    assert Labels().step(outputs, odd) == (1, 1)


def test_groups_of_objects_are_joined() -> None:
    values = DRAW.normal(size=(3, 4, 5))
    whole, parts = CLASSES.compare(values), joined([CLASSES.compare(values[:, :1]), CLASSES.compare(values[:, 1:])])
    assert whole.change == parts.change
    for name in ("differs", "classes", "probabilities", "score"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    assert parts.overlap is None
    labels = np.array([4, 0, 1, 2])
    probability = whole.probability(labels)
    assert probability is not None and whole.probabilities is not None
    np.testing.assert_array_equal(probability, whole.probabilities[:, range(4), labels])


def test_boxes_overlap_as_torchvision_has_it() -> None:
    corners = torch.rand(7, 2, 2, generator=torch.Generator().manual_seed(0)).sort(1).values.double().flatten(1)
    wanted = box_iou(corners, corners[:1])[:, 0]
    np.testing.assert_allclose(overlaps(corners.numpy(), corners[0].numpy()), wanted)


def detections(*rows: tuple[list[float], float, int]) -> dict[str, Tensor]:
    boxes = torch.tensor([box for box, _, _ in rows]).reshape(-1, 4)
    return {
        "boxes": boxes,
        "scores": torch.tensor([score for _, score, _ in rows]),
        "labels": torch.tensor([label for _, _, label in rows]),
    }


def test_an_object_is_missed_without_a_box_of_its_label_that_moves_along() -> None:
    far = ([40.0, 40.0, 50.0, 50.0], 0.99, 1)  # another thing on the canvas
    views = [
        ((10, 5), detections(([5.0, 10.0, 15.0, 20.0], 0.9, 1), far)),
        ((20, 15), detections(([15.0, 20.0, 25.0, 30.0], 0.8, 1), far)),  # moved along
        ((20, 15), detections(([5.0, 10.0, 15.0, 20.0], 0.9, 1), far)),  # stayed
        ((20, 15), detections(([15.0, 20.0, 25.0, 30.0], 0.8, 2), far)),  # another label
        ((20, 15), detections()),
    ]
    values = []
    for position, found in views:
        outputs = as_tensor([found])
        assert outputs.shape == (1, MOST, 6)
        values.append(Detections().read(outputs, position, (10, 10)))
    compared = Detections().compare(torch.stack(values).numpy())
    assert compared.differs[:, 0].tolist() == [0, 0, 1, 1, 1]
    assert compared.score is not None and compared.overlap is not None
    np.testing.assert_allclose(compared.score[:, 0], [0.9, 0.8, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(compared.overlap[:, 0], [1, 1, 0, 0, 0], atol=1e-6)
    assert compared.change == 1.0
