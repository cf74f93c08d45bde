"""2-D and 3D ResNets against the paper's description, written out in functions that share nothing with the package."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from borderless.models import load
from borderless.models.catalogue import TORCHVISION_TWINS

Axes = tuple[int, ...]


@dataclass(frozen=True)
class Description:
    """What the paper and its code say of a network: zeros a side, by axis, and the stem."""

    depths: tuple[int, int, int, int]
    bottleneck: bool
    kernel_3: Axes
    identity: Axes
    before_strided: Axes
    stem_stride: Axes
    stem_pad: Axes
    pool: tuple[int, int, int]
    groups: int = 1


FULL_18 = Description((2, 2, 2, 2), False, (2, 2), (2, 2), (3, 3), (2, 2), (6, 6), (2, 2, 0))
FULL_50 = Description((3, 4, 6, 3), True, (2, 2), (1, 1), (1, 1), (2, 2), (6, 6), (2, 2, 0))
SPATIAL_18 = Description((2, 2, 2, 2), False, (1, 2, 2), (0, 2, 2), (0, 3, 3), (1, 2, 2), (3, 6, 6), (3, 2, 1))
SAME_18 = Description((2, 2, 2, 2), False, (1, 1, 1), (0, 0, 0), (0, 0, 0), (1, 2, 2), (3, 3, 3), (3, 2, 1))
TEMPORAL_18 = Description((2, 2, 2, 2), False, (2, 2, 2), (2, 2, 2), (3, 3, 3), (2, 2, 2), (6, 6, 6), (3, 2, 1))
THIRTY_FOUR = {"depths": (3, 4, 6, 3)}
FIFTY = {"depths": (3, 4, 6, 3), "bottleneck": True}

DESCRIPTIONS = {
    "fconv_resnet18": FULL_18,
    "fconv_resnet34": replace(FULL_18, **THIRTY_FOUR),
    "fconv_resnet50": FULL_50,
    "fconv_resnext50_32x4d": replace(FULL_50, groups=32),
    "sconv_resnet3d18": SAME_18,
    "sconv_resnet3d34": replace(SAME_18, **THIRTY_FOUR),
    "sconv_resnet3d50": replace(SAME_18, **FIFTY),
    "fconv_resnet3d18": SPATIAL_18,
    "fconv_resnet3d34": replace(SPATIAL_18, **THIRTY_FOUR),
    "fconv_resnet3d50": replace(SPATIAL_18, **FIFTY, identity=(0, 1, 1), before_strided=(0, 1, 1)),
    "fconv_resnet3d18_temporal": TEMPORAL_18,
    "fconv_resnet3d34_temporal": replace(TEMPORAL_18, **THIRTY_FOUR),
    "fconv_resnet3d50_temporal": replace(TEMPORAL_18, **FIFTY, identity=(1, 1, 1), before_strided=(1, 1, 1)),
}


def padded(maps: Tensor, zeros: Axes) -> Tensor:
    return F.pad(maps, [side for zero in reversed(zeros) for side in (zero, zero)])


def convolved(maps: Tensor, weight: Tensor, stride: int | Axes = 1, groups: int = 1) -> Tensor:
    return (F.conv2d if maps.ndim == 4 else F.conv3d)(maps, weight, stride=stride, groups=groups)


def normed(state: dict[str, Tensor], name: str, maps: Tensor) -> Tensor:
    mean, var, weight, bias = (
        state[f"{name}.{part}"].reshape(-1, *[1] * (maps.ndim - 2))
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (maps - mean) / (var + 1e-5).sqrt() * weight + bias


def block(state: dict[str, Tensor], at: str, maps: Tensor, stride: int, what: Description) -> Tensor:
    def layer(index: int, maps: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
        weight = state[f"{at}.conv{index}.weight"]
        zeros = what.kernel_3 if weight.shape[-1] == 3 else (0,) * len(what.kernel_3)
        return normed(state, f"{at}.bn{index}", convolved(padded(maps, zeros), weight, stride, groups))

    if what.bottleneck:
        branch = layer(3, layer(2, layer(1, maps).relu(), stride, what.groups).relu())
    else:
        branch = layer(2, layer(1, maps, stride).relu())
    if f"{at}.downsample.0.weight" in state:
        strided = convolved(padded(maps, what.before_strided), state[f"{at}.downsample.0.weight"], stride)
        return (branch + normed(state, f"{at}.downsample.1", strided)).relu()
    return (branch + padded(maps, what.identity)).relu()


def described(state: dict[str, Tensor], images: Tensor, what: Description) -> Tensor:
    maps = convolved(padded(images, what.stem_pad), state["conv1.weight"], what.stem_stride)
    kernel, stride, pad = what.pool
    maps = (F.max_pool2d if images.ndim == 4 else F.max_pool3d)(
        normed(state, "bn1", maps).relu(), kernel, stride, padding=pad
    )
    for stage, depth in enumerate(what.depths, start=1):
        for index in range(depth):
            maps = block(state, f"layer{stage}.{index}", maps, 2 if stage > 1 and index == 0 else 1, what)
    return F.linear(maps.flatten(2).mean(2), state["fc.weight"], state["fc.bias"])


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_the_network_is_the_one_described(name: str, drawn: Callable[..., nn.Module]) -> None:
    # Clips grow to thousands of cells, and the borders are what is tested. Groups need 4 channels or more.
    model = drawn(name, thin=32 if "3d" in name else 4, num_classes=7)
    images = torch.randn(1, 3, *((6, 13, 12) if "3d" in name else (17, 12)), dtype=torch.float64)
    with torch.inference_mode():
        expected = described(model.state_dict(), images, DESCRIPTIONS[name])
        torch.testing.assert_close(model(images), expected, rtol=1e-10, atol=1e-10)


def map_sizes(model: nn.Module, images: Tensor) -> tuple[list[Axes], int]:
    """Sizes of the four stages' maps, and the multiply-adds of the whole."""
    sizes: list[Axes] = []
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        model.get_submodule(stage).register_forward_hook(lambda _, __, maps: sizes.append(tuple(maps.shape[2:])))
    with FlopCounterMode(display=False) as counter:
        model(images)
    return sizes, counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("name", "sides", "cost"),
    [
        ("resnet18", [65, 40, 27, 21], 3.1),
        ("resnet34", [69, 50, 48, 35], 6.9),
        ("resnet50", [63, 39, 31, 21], 3.1),
        ("resnet101", [63, 39, 65, 38], 9.5),
    ],
)
def test_maps_and_cost_at_224_px(name: str, sides: list[int], cost: float) -> None:
    with torch.device("meta"):
        images = torch.empty(1, 3, 224, 224)
        sizes, full = map_sizes(load(f"fconv_{name}"), images)
        ordinary, same = map_sizes(load(f"sconv_{name}"), images)
    assert sizes == [(side, side) for side in sides]
    assert ordinary == [(side, side) for side in (56, 28, 14, 7)]
    assert round(full / same, 1) == cost


@pytest.mark.parametrize(
    ("name", "frames", "sides"),
    [
        ("sconv_resnet3d18", [8, 4, 2, 1], [28, 14, 7, 4]),
        ("fconv_resnet3d18", [8, 4, 2, 1], [38, 26, 20, 17]),
        ("fconv_resnet3d18_temporal", [14, 14, 14, 14], [38, 26, 20, 17]),
    ],
)
def test_maps_of_clips(name: str, frames: list[int], sides: list[int]) -> None:
    with torch.device("meta"):
        sizes, _ = map_sizes(load(name), torch.empty(1, 3, 16, 112, 112))
    assert sizes == [(duration, side, side) for duration, side in zip(frames, sides, strict=True)]


def test_the_temporal_networks_stem_can_keep_every_frame() -> None:
    with torch.device("meta"):
        assert load("fconv_resnet3d18_temporal", stem_stride=(1, 2, 2)).conv1.stride == (1, 2, 2)


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_state_dicts_of_3d_networks_have_the_2d_names_and_one_more_axis(depth: int) -> None:
    with torch.device("meta"):
        clips = load(f"fconv_resnet3d{depth}", num_classes=1000).state_dict()
        images = torchvision.models.get_model(f"resnet{depth}").state_dict()
    assert list(clips) == list(images)
    for name, entry in images.items():
        assert clips[name].shape == entry.shape + (entry.shape[-1:] if entry.ndim == 4 else ())


@pytest.mark.parametrize("name", TORCHVISION_TWINS)
def test_same_convolution_is_torchvisions_and_its_state_dict_fits_full_convolution(name: str) -> None:
    with torch.device("meta"):
        same, full = load(name), load(name.replace("sconv", "fconv"))
        theirs = torchvision.models.get_model(TORCHVISION_TWINS[name])
    assert repr(same) == repr(theirs) != repr(full)
    shapes = [{entry: tensor.shape for entry, tensor in model.state_dict().items()} for model in (same, theirs, full)]
    assert shapes[0] == shapes[1] == shapes[2]


def test_same_convolution_computes_what_torchvision_does(drawn: Callable[..., nn.Module]) -> None:
    same, full, theirs = drawn("sconv_resnet18"), load("fconv_resnet18"), torchvision.models.resnet18()
    for model in (theirs, full):
        model.double().eval().load_state_dict(same.state_dict())
    images = torch.randn(1, 3, 17, 22, dtype=torch.float64)
    with torch.inference_mode():
        assert torch.equal(same(images), theirs(images))
        assert not torch.allclose(full(images), theirs(images), rtol=1e-2)


def test_every_parameter_of_an_inflated_network_learns() -> None:
    model = load("fconv_resnet3d18", num_classes=2).train()
    model(torch.randn(2, 3, 4, 12, 12)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in model.parameters())
