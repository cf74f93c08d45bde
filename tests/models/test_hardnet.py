"""HardNet against its description: sizes, values, gradients, and the names in its checkpoints."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from borderless.models import load

# Index in `features` of each convolution, and the stride.
LAYERS = ((0, 1), (3, 1), (6, 2), (9, 1), (12, 2), (15, 1))


def described(state: dict[str, Tensor], patches: Tensor, zeros: int) -> Tensor:
    constants = patches.detach()
    mean = torch.stack([patch.mean() for patch in constants]).reshape(-1, 1, 1, 1)
    deviation = torch.stack([patch.std() for patch in constants]).reshape(-1, 1, 1, 1)
    maps = (patches - mean) / (deviation + 1e-7)
    for index, stride in LAYERS:
        maps = F.conv2d(F.pad(maps, (zeros,) * 4), state[f"features.{index}.weight"], stride=stride)
        maps = normed(state, index + 1, maps).relu()
    numbers = normed(state, 20, F.conv2d(maps, state["features.19.weight"])).flatten(1)
    return numbers / (numbers.pow(2).sum(1) + 1e-10).sqrt()[:, None]


def normed(state: dict[str, Tensor], index: int, maps: Tensor) -> Tensor:
    mean, var = (state[f"features.{index}.running_{part}"].reshape(-1, 1, 1) for part in ("mean", "var"))
    return (maps - mean) / (var + 1e-5).sqrt()


@pytest.mark.parametrize(
    ("name", "zeros", "size"), [("sconv_hardnet", 1, 128), ("fconv_hardnet", 2, 6272), ("fconv_hardnet_128", 2, 128)]
)
def test_the_network_is_the_one_described(name: str, zeros: int, size: int, drawn: Callable[..., nn.Module]) -> None:
    model = drawn(name)
    state = {entry: tensor.detach() for entry, tensor in model.state_dict().items()}
    patches = torch.rand(3, 1, 32, 32, dtype=torch.float64, requires_grad=True)
    found, expected = model(patches), described(state, patches, zeros)
    assert found.shape == (3, size)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.square().sum(1), torch.ones(3, dtype=torch.float64))
    towards = torch.randn(3, size, dtype=torch.float64)
    gradients = [torch.autograd.grad((numbers * towards).sum(), patches)[0] for numbers in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


def test_state_dicts_of_both_arms_have_the_published_names() -> None:
    expected = {f"features.{index}.weight" for index in (0, 3, 6, 9, 12, 15, 19)} | {
        f"features.{index + 1}.{part}"
        for index in (0, 3, 6, 9, 12, 15, 19)
        for part in ("running_mean", "running_var", "num_batches_tracked")
    }
    same, full = (load(name).state_dict() for name in ("sconv_hardnet", "fconv_hardnet"))
    assert set(same) == expected
    assert {name: entry.shape for name, entry in same.items()} == {name: entry.shape for name, entry in full.items()}


def test_weights_start_orthogonal() -> None:
    weight = load("sconv_hardnet").features[3].weight.flatten(1)
    torch.testing.assert_close(weight @ weight.T, 0.36 * torch.eye(32), rtol=1e-4, atol=1e-5)
