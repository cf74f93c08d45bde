"""`assert_batch_independent` names the first module that lets images of a batch feel one another."""

import pytest
import torch
from torch import Tensor, nn

import borderless as bl
from batching.networks import Sliding, UNet
from borderless.testing import assert_batch_independent


class Centered(nn.Module):
    """Takes the mean of the batch off."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0, keepdim=True)


def test_independent_networks_pass() -> None:
    sizes = [(19, 30), (31, 17)]
    images = [torch.rand(2, *size) for size in sizes]
    for model in (Sliding(), UNet().eval(), bl.convert(Sliding(), "infinite")):
        assert_batch_independent(model, images)
        assert_batch_independent(model, torch.rand(3, 2, 20, 20))


def test_the_first_module_that_mixes_images_is_named() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Sequential(nn.ReLU(), Centered()), nn.Conv2d(3, 3, 3))
    with pytest.raises(AssertionError, match=r"for image 0, first in module '1.1' \(Centered\)"):
        assert_batch_independent(model, torch.rand(3, 2, 20, 20))


def test_batch_norm_in_training_is_named_and_stays_as_it_is() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)).train()
    with pytest.raises(AssertionError, match=r"first in module '1' \(BatchNorm2d\)"):
        assert_batch_independent(model, [torch.rand(2, 9, 12), torch.rand(2, 14, 8)])
    assert model.state_dict()["1.running_mean"].eq(0).all()


def test_what_the_model_itself_mixes_is_named() -> None:
    class Mixing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(2, 3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).flip(0)

    with pytest.raises(AssertionError, match=r"first in the model itself \(Mixing\)"):
        assert_batch_independent(Mixing(), torch.rand(2, 2, 20, 20))


def test_one_image_says_nothing() -> None:
    with pytest.raises(ValueError, match="at least two images but got 1"):
        assert_batch_independent(Sliding(), torch.rand(1, 2, 20, 20))
