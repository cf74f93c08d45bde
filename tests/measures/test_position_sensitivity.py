"""Answers over places, against canvases run whole one by one; and the causes told apart."""

import numpy as np
import pytest
import torch
from torch import nn

import borderless as bl
from borderless.errors import ImageError
from borderless.measures.position_sensitivity import sensitivity
from borderless.measures.prediction_changes import effect
from support.planted import network

OBJECTS = torch.rand(3, 3, 9, 9, generator=torch.Generator().manual_seed(1))
CANVAS = (30, 27)


def test_answers_are_those_of_canvases_run_one_by_one() -> None:
    model = network()
    found = sensitivity(model, OBJECTS, CANVAS, (4, 4), position_count=16)
    logits = []
    for row, column in found.positions.tolist():
        canvas = torch.zeros(3, 3, *CANVAS)
        canvas[:, :, row : row + 9, column : column + 9] = OBJECTS
        logits.append(model(canvas).detach())
    answers = torch.stack(logits)
    assert (found.classes == answers.argmax(2).numpy()).all()
    first = answers[0].argmax(1)
    wanted = answers.softmax(2)[:, torch.arange(3), first]
    np.testing.assert_allclose(found.probability, wanted, atol=1e-6)
    change = float((answers[1:] - answers[:1]).abs().max() / answers[0].abs().max())
    assert found.all_positions.change == pytest.approx(change, rel=1e-4)
    assert found.positions[0].tolist() == [10, 9]
    assert found.positions.min() == 0
    assert found.positions.max(0).tolist() == [21, 18]


def test_each_cause_goes_when_it_is_taken_away() -> None:
    found = sensitivity(network(), OBJECTS, CANVAS, (4, 4), position_count=16)
    assert found.border.change > 1e-3
    assert found.border_control.change < 1e-6
    assert found.stride.change > 1e-3
    assert found.stride_control.change < 1e-6
    assert found.bias.change > 1e-3


def test_without_a_bias_full_convolution_is_enough_and_without_a_stride_no_phase_matters() -> None:
    plain = sensitivity(network(bias=False), OBJECTS, CANVAS, (4, 4), position_count=16)
    assert plain.bias.change < 1e-6
    assert plain.border.change > 1e-3
    dense = sensitivity(network(stride=1), OBJECTS, CANVAS, (1, 1), position_count=16)
    assert dense.stride.positions == 0
    assert dense.stride.change == 0
    assert dense.border.change > 1e-3


def test_a_converted_model_is_taken_as_it_is() -> None:
    found = sensitivity(bl.convert(network(), "infinite", phase="adaptive"), OBJECTS, CANVAS, (4, 4), position_count=16)
    assert found.all_positions.change < 1e-6
    assert found.all_positions.flips == 0


def test_labels_choose_the_class_whose_probability_is_told() -> None:
    labels = torch.tensor([2, 0, 1])
    found = sensitivity(network(), OBJECTS, CANVAS, (4, 4), position_count=4, labels=labels)
    canvas = torch.zeros(3, 3, *CANVAS)
    canvas[:, :, 10:19, 9:18] = OBJECTS
    wanted = network()(canvas).softmax(1)[torch.arange(3), labels].detach()
    assert found.probability is not None
    np.testing.assert_allclose(found.probability[0], wanted, atol=1e-6)


def test_the_numbers_of_an_effect() -> None:
    answers = np.array([[[2.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 1.0]]])
    found = effect(answers)
    assert (found.flips, found.positions, found.change) == (0.25, 2, 1.0)
    first, other = np.exp(2) / (np.exp(2) + 1), 1 / (1 + np.e)
    assert found.drop == pytest.approx((first - other) / 4)
    assert effect(answers[:1]).positions == 0


def test_objects_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ImageError, match="Expected objects smaller"):
        sensitivity(network(), OBJECTS, (9, 30), (4, 4))
    dense = nn.Conv2d(3, 2, 3, padding=1)
    with pytest.raises(ImageError, match=r"Expected logits \(images, classes\) but got shape"):
        sensitivity(dense, OBJECTS, CANVAS, (1, 1))


def test_a_stride_larger_than_the_canvas_has_places_on_the_canvas_only() -> None:
    model = nn.Sequential(network(), nn.Identity())
    found = sensitivity(model, OBJECTS, (13, 16), (16, 16), position_count=100)
    assert found.stride.positions == 5 * 8 - 1
    assert found.border.positions == 0
