"""VGGs against the paper's description; the classifier, large and torchvision's own, is left out."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Output channels of the convolutions between the max pools.
STAGES = {
    11: ((64,), (128,), (256,) * 2, (512,) * 2, (512,) * 2),
    13: ((64,) * 2, (128,) * 2, (256,) * 2, (512,) * 2, (512,) * 2),
    16: ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3),
    19: ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4),
}


def described(state: dict[str, Tensor], images: Tensor, depth: int, norm: bool) -> Tensor:
    maps, index = images, 0
    for stage in STAGES[depth]:
        for width in stage:
            weight = state[f"features.{index}.weight"]
            assert weight.shape == (width, maps.shape[1], 3, 3)
            maps = F.conv2d(F.pad(maps, (2, 2, 2, 2)), weight, state[f"features.{index}.bias"])
            if norm:
                mean, var, scale, bias = (
                    state[f"features.{index + 1}.{part}"].reshape(-1, 1, 1)
                    for part in ("running_mean", "running_var", "weight", "bias")
                )
                maps = (maps - mean) / (var + 1e-5).sqrt() * scale + bias
            maps, index = maps.relu(), index + (3 if norm else 2)
        maps, index = F.max_pool2d(maps, 2, 2), index + 1
    return F.adaptive_avg_pool2d(maps, 7).flatten(1)


@pytest.mark.parametrize("depth", STAGES)
@pytest.mark.parametrize("norm", ["", "_bn"])
def test_the_network_is_the_one_described(depth: int, norm: str, drawn: Callable[..., nn.Module]) -> None:
    model = drawn(f"fconv_vgg{depth}{norm}", without="classifier")
    images = torch.randn(1, 3, 9, 6, dtype=torch.float64)
    with torch.inference_mode():
        expected = described(model.state_dict(), images, depth, bool(norm))
        assert expected.shape == (1, 512 * 7 * 7)
        torch.testing.assert_close(model(images), expected, rtol=1e-10, atol=1e-10)
