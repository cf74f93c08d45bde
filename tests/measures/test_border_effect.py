"""What the border does to each map, against the unmodified model on a hugely padded image."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import borderless as bl
from borderless.errors import ImageError
from borderless.measures.border_effect import border_error, distances
from support.planted import network


def test_equals_the_difference_from_the_model_on_a_hugely_padded_image() -> None:
    model = network().double()
    images = torch.rand(5, 3, 24, 24, dtype=torch.float64)
    layers = border_error(model, images, batch_size=2).layers
    assert [layer.module for layer in layers] == ["0", "2"]
    margin = 16
    for depth, layer in zip((1, 3), layers, strict=True):
        part = model[:depth]
        own = part(images)
        stride = 2 ** (1 if depth == 1 else 2)
        around = part(F.pad(images, [margin] * 4))
        first = margin // stride
        endless = around[:, :, first : first + own.shape[2], first : first + own.shape[3]]
        variation = endless.var((0, 2, 3), correction=0).mean().sqrt()
        wanted = (own - endless).square().mean((0, 1)).sqrt() / variation
        np.testing.assert_allclose(layer.map, wanted.detach(), rtol=1e-9, atol=1e-12)
        rings = distances(tuple(own.shape[2:]))
        at_edge = np.sqrt((wanted.detach().numpy()[rings == 0] ** 2).mean())
        assert layer.at_edge == pytest.approx(at_edge)
        assert layer.stride_px == stride


def test_full_convolution_without_a_bias_leaves_nothing_and_with_one_it_does() -> None:
    images = torch.rand(2, 3, 20, 20)
    assert border_error(bl.convert(network(bias=False), "full"), images).largest < 1e-5
    assert border_error(bl.convert(network(), "full"), images).largest > 0.05
    assert border_error(bl.convert(network(), "infinite"), images).largest < 1e-5


def test_the_leak_ends_where_the_receptive_field_does() -> None:
    model = nn.Sequential(*(nn.Conv2d(3 if i == 0 else 4, 4, 3, padding=1) for i in range(3)))
    layers = border_error(model, torch.rand(2, 3, 24, 24)).layers
    # The first one pads with what is there anyway: nothing.
    assert [layer.leak_px() for layer in layers] == [0, 1, 2]
    assert layers[2].leak_px() <= layers[2].field_px / 2
    assert layers[2].leak_px(above=np.inf) == 0
    assert not layers[2].is_touched_throughout


def test_a_receptive_field_larger_than_the_image_is_touched_throughout() -> None:
    model = nn.Sequential(*(nn.Conv2d(3 if i == 0 else 4, 4, 3, padding=1) for i in range(12)))
    layers = border_error(model, torch.rand(2, 3, 12, 12)).layers
    # The first one pads with what is there anyway; each further one carries the border one pixel deeper.
    assert [layer.is_touched_throughout for layer in layers] == [False] * 6 + [True] * 6
    assert [layer.leak_px() for layer in layers[6:]] == [6.0] * 6


def test_batches_change_nothing() -> None:
    model, images = network(), torch.rand(6, 3, 20, 20)
    one, other = border_error(model, images, batch_size=6), border_error(model, images, batch_size=4)
    for first, second in zip(one.layers, other.layers, strict=True):
        np.testing.assert_allclose(first.map, second.map, rtol=1e-5, atol=1e-7)


def test_the_model_stays_as_it_was() -> None:
    model = network().train()
    before = copy.deepcopy(model.state_dict())
    border_error(model, torch.rand(1, 3, 12, 12))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def test_images_that_are_none_are_refused() -> None:
    with pytest.raises(ImageError, match="Expected a floating-point tensor"):
        border_error(network(), torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ImageError, match="0 images"):
        border_error(network(), torch.zeros(0, 3, 8, 8))
