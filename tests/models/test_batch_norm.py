"""BatchNorm of networks that are only evaluated: calibrated statistics, and folding, against the network itself."""

import pytest
import torch
from torch import nn

from borderless.data.quadrant import Canvases
from borderless.models.batch_norm import calibrate_, folded
from borderless.models.features import feature_network


def test_calibration_gives_each_norm_the_statistics_of_its_input() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4, momentum=0.3))
    images = Canvases(torch.rand(8, 3, 56, 56), 0)
    calibrate_(model, images, batch_size=4)
    with torch.no_grad():
        maps = model[0](torch.stack([image for image, _ in images]))
    assert torch.allclose(model[1].running_mean, maps.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(model[1].running_var, maps.var((0, 2, 3)), rtol=0.05)
    assert model[1].momentum == 0.3
    assert not model.training


@pytest.mark.parametrize(("arch", "norms"), [("resnet18", 0), ("bagnet9", 0), ("timm/resnet10t", None)])
def test_folded_networks_are_the_same_function(arch: str, norms: int | None) -> None:
    model = feature_network(arch, "random", "paper", seed=0).double()
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    quick = folded(model)
    if norms is not None:
        assert sum(isinstance(module, nn.BatchNorm2d) for module in quick.modules()) == norms
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        expected = model(images)
        torch.testing.assert_close(quick(images), expected, rtol=1e-10, atol=float(expected.abs().max()) * 1e-12)


def test_a_network_whose_way_depends_on_its_values_is_not_folded() -> None:
    class Fork(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images if images.sum() > 0 else -images

    fork = Fork()
    assert folded(fork) is fork


def test_a_convolution_that_is_used_twice_keeps_its_norm() -> None:
    class Twice(nn.Module):
        def __init__(self, way: str) -> None:
            super().__init__()
            self.way, self.convolution, self.norm = way, nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
            nn.init.uniform_(self.norm.running_mean, 1, 2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            map_ = self.convolution(images)
            if self.way == "called":
                return self.convolution(self.norm(map_))
            return map_ + self.norm(map_)

    images = torch.rand(1, 4, 8, 8, dtype=torch.float64)
    for way in ("called", "read"):
        model = Twice(way).double().eval()
        torch.testing.assert_close(folded(model)(images), model(images), rtol=1e-12, atol=1e-12)
