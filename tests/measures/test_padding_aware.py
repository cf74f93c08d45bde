"""Padding-aware filters: planted ones are counted, others are not; the distance is SciPy's."""

import numpy as np
import torch
from scipy import stats
from torch import nn

import borderless as bl
from borderless.measures.border_effect import border_error
from borderless.measures.padding_aware import ks_distance
from support.planted import network


def test_a_filter_that_answers_to_the_border_is_counted() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 4, 3, padding=1))
    for convolution in model:
        nn.init.zeros_(convolution.bias)
    nn.init.ones_(model[0].bias)  # what it says of emptiness is 1 everywhere
    nn.init.zeros_(model[1].weight)
    with torch.no_grad():
        model[1].weight[:2] = 1 / 9  # two filters average, so that a padded zero shows; two see their middle alone
        model[1].weight[2:, :, 1, 1] = 1
    found = border_error(model, 0.1 * torch.rand(4, 1, 16, 16) - 0.05)
    assert [layer.aware for layer in found.layers] == [0, 2]
    assert found.aware_share == 2 / 5
    assert border_error(bl.convert(model, "infinite"), torch.rand(4, 1, 16, 16)).aware_share == 0


def test_maps_too_small_to_have_an_inside_are_not_judged() -> None:
    found = border_error(nn.Conv2d(1, 2, 3, padding=1), torch.rand(2, 1, 4, 4))
    assert found.layers[0].aware is None
    assert found.aware_share is None


def test_ks_distance_is_scipys() -> None:
    draw = np.random.default_rng(0)
    one, other = draw.normal(size=(4, 30)), draw.normal(0.5, 2, size=(4, 17))
    one[0, :5] = other[0, :5]
    found = ks_distance(torch.as_tensor(one), torch.as_tensor(other))
    wanted = [stats.ks_2samp(a, b).statistic for a, b in zip(one, other, strict=True)]  # pyright: ignore[reportAttributeAccessIssue]
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_random_filters_without_a_border_are_never_counted() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1))
    for count, side in ((1, 32), (4, 12), (16, 8)):
        found = border_error(bl.convert(model, "infinite"), torch.randn(count, 1, side, side))
        assert found.aware_share in (0, None)


def test_filters_are_judged_by_the_first_images_alone() -> None:
    model, images = network(), torch.rand(40, 3, 16, 16)
    few, all_of_them = (border_error(model, images[:count], batch_size=4) for count in (32, 40))
    assert [layer.aware for layer in few.layers] == [layer.aware for layer in all_of_them.layers]
    assert few.layers[-1].map.max() != all_of_them.layers[-1].map.max()
