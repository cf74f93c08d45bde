"""Anti-aliasing. Oracles: the filter written out, scipy, and BlurPool as Zhang describes it where no edge is near."""

import copy
import pickle

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import nn
from torch.nn import functional as F

import borderless as bl
from borderless.errors import ConversionError
from borderless.models import load

TRIANGLE = torch.outer(torch.tensor([1.0, 2.0, 1.0]), torch.tensor([1.0, 2.0, 1.0])) / 16


def test_a_strided_convolution_reads_a_blurred_map() -> None:
    convolution = nn.Conv2d(3, 5, 3, stride=2, padding=1)
    images = torch.rand(2, 3, 12, 15)
    blurred = torch.stack(
        [
            torch.stack([torch.from_numpy(scipy.ndimage.convolve(c, TRIANGLE.numpy(), mode="constant")) for c in image])
            for image in images.numpy()
        ]
    )
    torch.testing.assert_close(bl.blur(convolution)(images), convolution(blurred))


def test_inside_it_is_blurpool_after_a_convolution_with_stride_1() -> None:
    convolution = nn.Conv2d(3, 5, 3, stride=2, padding=1).double()
    images = torch.rand(1, 3, 24, 24, dtype=torch.float64)
    dense = F.conv2d(images, convolution.weight, convolution.bias, 1, 1)
    kernel = TRIANGLE.double().expand(5, 1, 3, 3)
    pooled = F.conv2d(dense, kernel, None, 2, 1, 1, 5)
    got = bl.blur(convolution)(images)
    assert got.shape == pooled.shape
    torch.testing.assert_close(got[..., 1:-1, 1:-1], pooled[..., 1:-1, 1:-1], rtol=1e-12, atol=1e-12)


def test_a_max_pool_is_blurpooled_and_keeps_its_size() -> None:
    images = torch.rand(1, 2, 17, 20)
    for pool in (nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2)):
        dense = F.max_pool2d(images, pool.kernel_size, 1, pool.padding)
        expected = F.conv2d(dense, TRIANGLE.expand(2, 1, 3, 3), None, 2, 1, 1, 2)
        got = bl.blur(pool)(images)
        assert got.shape == pool(images).shape
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("taps", [3, 5, 7])
def test_constants_stay_and_the_finest_stripes_vanish(taps: int) -> None:
    model = bl.blur(nn.MaxPool1d(1, 2), taps)
    assert torch.allclose(model(torch.full((1, 1, 40), 3.0))[..., taps:-taps], torch.tensor(3.0))
    stripes = torch.tensor([1.0, -1.0]).repeat(20)[None, None]
    assert torch.allclose(model(stripes)[..., taps:-taps], torch.tensor(0.0), atol=1e-6)


def test_a_stride_along_one_axis_blurs_along_it_alone() -> None:
    clip = torch.rand(1, 1, 6, 9, 9)
    model = nn.Conv3d(1, 1, 1, stride=(1, 2, 2), bias=False)
    nn.init.ones_(model.weight)
    got = bl.blur(model)(clip)
    for frame in range(6):
        expected = scipy.ndimage.convolve(clip[0, 0, frame].numpy(), TRIANGLE.numpy(), mode="constant")[::2, ::2]
        np.testing.assert_allclose(got[0, 0, frame].detach().numpy(), expected, rtol=1e-5)


def test_a_network_keeps_its_names_sizes_and_can_be_copied_saved_and_converted() -> None:
    model = load("resnet18")
    blurred = bl.blur(model)
    assert list(blurred.state_dict()) == list(model.state_dict())
    blurred.load_state_dict(model.state_dict())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = blurred(images)
        assert not torch.allclose(expected, model(images))
        for other in (copy.deepcopy(blurred), pickle.loads(pickle.dumps(blurred))):
            assert torch.equal(other(images), expected)


def test_converted_it_is_equivariant_and_its_size_grows() -> None:
    """Shifts by one pixel, with an adaptive phase; the blur itself must read the background too."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 6, 3, 1, 1), nn.AdaptiveAvgPool2d(1)
    ).double()
    converted = bl.convert(bl.blur(model), "infinite", phase="adaptive")
    patch = torch.rand(1, 1, 9, 9, dtype=torch.float64)
    images = torch.cat([F.pad(patch, (c, 31 - c, r, 31 - r)) for r, c in ((0, 0), (1, 0), (7, 12), (31, 31))])
    with torch.no_grad():
        answers = converted(images)
    torch.testing.assert_close(answers, answers[:1].expand_as(answers), rtol=1e-12, atol=1e-12)


def test_what_cannot_be_blurred_is_refused() -> None:
    strided = nn.Conv2d(1, 1, 3, stride=2)
    with pytest.raises(ConversionError, match=r"bl\.convert\(bl\.blur\(model\), border\)"):
        bl.blur(bl.convert(strided, "full"))
    with pytest.raises(ConversionError, match="strided convolutions or max pools"):
        bl.blur(nn.Conv2d(1, 1, 3))
    for taps in (1, 4):
        with pytest.raises(ConversionError, match="an odd number"):
            bl.blur(strided, taps)
