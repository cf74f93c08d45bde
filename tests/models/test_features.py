"""Networks that give pooled features: shapes, pools, weights from a file, and what is refused."""

from pathlib import Path

import pytest
import torch
from torch import nn

from borderless.errors import ConfigError, UnknownName
from borderless.models import load
from borderless.models.features import feature_network


@pytest.mark.parametrize(
    ("arch", "pool", "kind", "features"),
    [
        ("resnet18", "paper", nn.AdaptiveMaxPool2d, 512),
        ("resnet18", "own", nn.AdaptiveAvgPool2d, 512),
        ("bagnet33", "paper", nn.AdaptiveMaxPool2d, 2048),
        ("bagnet33", "own", nn.AdaptiveAvgPool2d, 2048),
        ("densenet121", "paper", None, 1024),
        ("mobilenet_v3_small", "max", nn.AdaptiveMaxPool2d, 1024),
        ("timm/resnet10t", "paper", None, 512),
    ],
)
def test_feature_networks(arch: str, pool: str, kind: type[nn.Module] | None, features: int) -> None:
    model = feature_network(arch, "random", pool, seed=1)
    assert not model.training
    with torch.no_grad():
        assert model(torch.rand(2, 3, 64, 64)).shape == (2, features)
    if kind is not None:
        assert isinstance(model.avgpool, kind)


def test_pretrained_weights_come_from_a_file(tmp_path: Path) -> None:
    expected = load("timm/resnet10t")
    torch.save(expected.state_dict(), tmp_path / "weights.pt")
    got = feature_network("timm/resnet10t", "pretrained", "paper", seed=1, weights=tmp_path / "weights.pt")
    assert torch.equal(got.get_parameter("conv1.0.weight"), expected.get_parameter("conv1.0.weight"))


def test_timms_networks_take_the_largest_value_when_asked() -> None:
    own, largest = (feature_network("timm/resnet10t", "random", pool, seed=1) for pool in ("own", "max"))
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        maps = own.forward_features(images)
        assert torch.allclose(own(images), maps.mean((2, 3)))
        assert torch.allclose(largest(images), maps.amax((2, 3)))


def test_networks_without_a_pool_or_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="which has no AdaptiveAvgPool2d"):
        feature_network("densenet121", "random", "max", seed=0)
    with pytest.raises(UnknownName, match="resnet18"):
        feature_network("resnet18x", "random", "paper", seed=0)
