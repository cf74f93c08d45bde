"""Images of unequal sizes in one batch: each output is that of the image alone."""

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import borderless as bl
from batching.networks import (
    LARGE,
    LIBRARY,
    ConformerConvolution,
    Found,
    Nested,
    Sliding,
    UNet,
    WaveFrontEnd,
    randomized,
)

EXACT = 1e-12
BORDERS: list[Any] = ["zero", "reflect", "replicate", "circular", "full", "infinite"]
PLANE = [(19, 30), (31, 17), (24, 24), (31, 31), (24, 24)]
LINE = [(90,), (61,), (77,), (90,)]
VOLUME = [(8, 12, 9), (9, 7, 12), (12, 9, 7)]


def images(sizes: Sequence[Sequence[int]], channels: int = 2, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(channels, *size, generator=generator).to(dtype) for size in sizes]


def pairs(alone: Any, together: Any, number: int) -> list[tuple[Tensor, Tensor]]:
    """The tensors of one image's output, and the same ones of the batch's output."""
    if isinstance(alone, Tensor):
        return [(alone[0], together[number])]
    if is_dataclass(alone):
        assert type(together) is type(alone)
        both = [(getattr(alone, field.name), getattr(together, field.name)) for field in fields(alone)]
    elif isinstance(alone, dict):
        assert type(together) is type(alone) and list(together) == list(alone)
        both = [(value, together[key]) for key, value in alone.items()]
    elif isinstance(alone, tuple | list):
        both = [*zip(alone, together, strict=True)]
    else:
        assert alone == together
        both = []
    return [pair for one, other in both for pair in pairs(one, other, number)]


def worst(model: nn.Module, given: Sequence[Tensor]) -> float:
    """The largest difference between an image alone and in the batch, relative to the largest value of the output."""
    with torch.no_grad():
        together = bl.batched(model, given)
        errors = []
        for number, image in enumerate(given):
            for expected, found in pairs(model(image[None]), together, number):
                assert found.shape == expected.shape
                errors.append(float((found - expected).abs().max() / expected.abs().max()))
    return max(errors)


@pytest.mark.parametrize("border", [None, *BORDERS])
@pytest.mark.parametrize(
    ("make", "sizes", "channels"),
    [
        (Sliding, PLANE, 2),
        (lambda: Sliding(1), LINE, 2),
        (lambda: UNet(mode=None), PLANE, 2),
        (ConformerConvolution, LINE, 6),
        (WaveFrontEnd, [(400,), (331,), (277,)], 1),
    ],
    ids=["Sliding", "Sliding1d", "UNet", "Conformer", "wave"],
)
def test_under_any_border(make: Callable[[], nn.Module], sizes: Any, channels: int, border: Any) -> None:
    model = randomized(make())
    model = model if border is None else bl.convert(model, border)
    assert worst(model, images(sizes, channels)) < EXACT


def test_without_padding_and_in_three_dimensions() -> None:
    plain = nn.Sequential(nn.Conv2d(2, 4, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(4, 3, 3))
    assert worst(bl.convert(randomized(plain), "valid"), images([(31, 40), (40, 26), (33, 33)])) < EXACT
    for border in (None, bl.Border("infinite")):
        model = randomized(
            nn.Sequential(nn.Conv3d(2, 3, 3, 2, 1), nn.BatchNorm3d(3), nn.ReLU(), nn.Conv3d(3, 3, 3, 1, 1))
        )
        assert worst(model if border is None else bl.convert(model, border), images(VOLUME)) < EXACT
    assert worst(randomized(UNet(3, None)), images(VOLUME)) < EXACT


@pytest.mark.filterwarnings("ignore::borderless.PositionDependentWarning")
@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_sizes_of_interpolations_are_those_of_each_image(mode: str) -> None:
    model = randomized(UNet(mode=mode))
    assert worst(model, images(PLANE)) < EXACT
    assert worst(model, images([(24, 32), (32, 16), (16, 16)])) < EXACT  # by whole factors
    halves = bl.convert(model, "reflect")
    assert worst(halves, images([(24, 32), (32, 16), (16, 16)])) < EXACT
    assert worst(halves, images([(23, 31), (31, 15), (15, 19)])) < EXACT  # the maps of all leave the border
    with pytest.raises(bl.UnsupportedOperation, match="crops the feature maps of some images"):
        bl.batched(halves, images([(24, 32), (31, 16)]))


@pytest.mark.parametrize("name", LIBRARY)
def test_library_networks(name: str) -> None:
    model, sizes = randomized(LIBRARY[name]()), [(64, 35), (33, 48), (40, 64)]
    assert worst(model, images(sizes, 3)) < EXACT
    assert worst(model.float(), images(sizes, 3, torch.float32)) < 1e-6


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in ("ResNet-18", "MobileNetV3") else pytest.mark.nightly) for name in LARGE],
)
@pytest.mark.slow
@settings(max_examples=3)
@given(sizes=st.lists(st.tuples(st.integers(65, 160), st.integers(65, 160)), min_size=2, max_size=4))
@example(sizes=[(64, 128), (128, 64), (64, 64), (64, 64)])
def test_large_networks(name: str, sizes: list[tuple[int, int]]) -> None:
    model = randomized(LARGE[name]())
    assert worst(model, images(sizes, 3)) < EXACT
    rounding = 2e-6 if name == "FPN" else 1e-6  # which adds up three scales: 1.04e-6 for two images of 65 px
    assert worst(model.float(), images(sizes, 3, torch.float32)) < rounding


@settings(max_examples=8)
@given(sizes=st.lists(st.tuples(st.integers(9, 24), st.integers(9, 24)), min_size=1, max_size=4), data=st.data())
def test_any_sizes_at_any_position_in_the_batch(sizes: list[tuple[int, int]], data: st.DataObject) -> None:
    model = randomized(Sliding())
    border = data.draw(st.sampled_from([None, *BORDERS]))
    model = model if border is None else bl.convert(model, border)
    assert worst(model, images(sizes)) < EXACT
    order = data.draw(st.permutations(range(len(sizes))))
    given_images = images(sizes)
    straight, mixed = bl.batched(model, given_images), bl.batched(model, [given_images[i] for i in order])
    for place, i in enumerate(order):
        torch.testing.assert_close(mixed[place], straight[i], rtol=0, atol=1e-12)


@pytest.mark.parametrize("border", [None, "reflect", "infinite"])
@pytest.mark.parametrize("make", [Sliding, lambda: UNet(mode=None)], ids=["Sliding", "UNet"])
def test_gradients(make: Callable[[], nn.Module], border: Any) -> None:
    model = randomized(make())
    model = model if border is None else bl.convert(model, border)
    given_images = [image.requires_grad_() for image in images(PLANE[:3])]
    wanted = [*given_images, *model.parameters()]

    def loss(output: Any) -> Tensor:
        leaves = output.values() if isinstance(output, dict) else [output]
        return sum((one.sin().sum() for leaf in leaves for one in leaf), start=torch.zeros((), dtype=torch.float64))

    together = torch.autograd.grad(loss(bl.batched(model, given_images)), wanted)
    alone = torch.autograd.grad(torch.stack([loss(model(image[None])) for image in given_images]).sum(), wanted)
    for found, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_batch_norm_in_training_counts_the_cells_of_the_images() -> None:
    layer, twin = nn.BatchNorm2d(3).double(), nn.BatchNorm1d(3).double()
    for norm in (layer, twin):
        nn.init.uniform_(norm.weight)
    twin.load_state_dict(layer.state_dict())
    model = nn.Sequential(nn.Conv2d(2, 3, 1).double(), layer).train()
    given_images = images(PLANE)
    found = bl.batched(model, given_images)
    cells = torch.cat([model[0](image).flatten(1).T for image in given_images])  # (all cells, C)
    expected = twin(cells).split([image[0].numel() for image in given_images])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.flatten(1).T, other, rtol=1e-10, atol=1e-12)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(getattr(layer, name), getattr(twin, name), rtol=1e-10, atol=1e-12)
    wanted = [*model[0].parameters()]
    of_found = torch.autograd.grad(torch.cat([one.flatten() for one in found]).sin().sum(), wanted)
    of_expected = torch.autograd.grad(torch.cat([one.flatten() for one in expected]).sin().sum(), wanted)
    torch.testing.assert_close(of_found, of_expected, rtol=1e-9, atol=1e-9)


def test_batch_norm_in_training_after_padding() -> None:
    """The second convolution reads the original padding after bias, statistics and activation."""
    model = randomized(
        nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 3, 1, 1))
    )
    given_images = images(PLANE)
    found = bl.batched(model.train(), given_images)
    layers: list[Any] = [model.get_submodule(name) for name in "013"]
    conv, norm, last = layers
    maps = [conv(image[None]) for image in given_images]
    cells = torch.cat([one.flatten(2)[0].T for one in maps])
    mean, var = cells.mean(0), cells.var(0, correction=0)
    for one, other in zip(found, maps, strict=True):
        mean_, var_, weight, bias = (v.reshape(1, -1, 1, 1) for v in (mean, var, norm.weight, norm.bias))
        normal = (other - mean_) / (var_ + norm.eps).sqrt() * weight + bias
        torch.testing.assert_close(one, last(normal.relu())[0], rtol=1e-10, atol=1e-10)


def test_nested_outputs_keep_their_structure() -> None:
    model, given_images = randomized(Nested()), images(PLANE)
    found = bl.batched(model, given_images)
    assert isinstance(found, Found) and found.name == "found"
    assert [tuple(one.shape[1:]) for one in found.dense] == PLANE
    assert found.rest[0].shape == (5, 3)
    assert [tuple(one.shape) for one in found.rest[1]["tokens"]] == [(h * w, 3) for h, w in PLANE]
    assert worst(model, given_images) < EXACT


def test_sizes_that_a_model_returns_are_numbers_of_each_image() -> None:
    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(2, 3, 3, 2)

        def forward(self, x: Tensor) -> tuple[int, torch.Size, int]:
            y = self.layer(x)
            return y.shape[-1] // 2, y.shape, y.shape[1]

    half, shape, channels = bl.batched(Sized(), [torch.rand(2, 9, 13), torch.rand(2, 9, 21)])
    assert half == [3, 5] and shape == (2, 3, 4, [6, 10]) and channels == 3


def test_a_grid_of_one_size_is_stacked() -> None:
    model = randomized(nn.Sequential(nn.Conv2d(2, 3, 3, 1, 1), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 2)))
    assert bl.batched(model, images(PLANE)).shape == (5, 2)
    assert worst(model, images(PLANE)) < EXACT


def test_one_image_and_equal_sizes() -> None:
    model = randomized(Sliding())
    assert worst(model, images(PLANE[:1])) < EXACT
    assert worst(model, images([(20, 20)] * 3)) < EXACT


def test_images_and_model_stay_as_they_are() -> None:
    model, given_images = randomized(UNet()), images(PLANE)
    before = [image.clone() for image in given_images]
    bl.batched(model, given_images)
    assert all(torch.equal(one, other) for one, other in zip(before, given_images, strict=True))
    assert bl.border_of(model) is None and not model._forward_hooks


def test_named_images_with_a_layout() -> None:
    class Wave(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv1d(1, 3, 5, 2, 2)

        def forward(self, gain: float, wave: Tensor) -> Tensor:
            return self.layer(gain * wave[:, None])

    model = bl.convert(randomized(Wave()), "reflect", images={"wave": "NT"})
    waves = [torch.randn(n, dtype=torch.float64) for n in (40, 31)]
    found = bl.batched(model, waves, args=(2.0,))
    for wave, one in zip(waves, found, strict=True):
        torch.testing.assert_close(one, model(2.0, wave[None])[0], rtol=1e-12, atol=1e-12)


def test_signals_of_one_image_each() -> None:
    found = bl.batched(bl.convert(randomized(Sliding()), "infinite", output="signal"), images(PLANE))
    alone = bl.convert(randomized(Sliding()), "infinite", output="signal")(images(PLANE)[1][None])
    assert [one.frame for one in found][1] == alone.frame and found[1].box == alone.box
    torch.testing.assert_close(found[1].window, alone.window, rtol=1e-10, atol=1e-10)
