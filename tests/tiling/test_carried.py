"""Carried parts equal the whole: networks, paddings, borders, cuts of all kinds, against the untouched model."""

import random
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import borderless as bl
from borderless.engine.torch_internals import tree_leaves
from borderless.partition.runner import Grid, Runner
from borderless.partition.tile import Outputs
from tiling.networks import Pyramid, Residual, UNet, randomized

EXACT = 1e-12


def cuts(n: int, seed: int, smallest: int = 3, largest: int = 17) -> tuple[tuple[int, int], ...]:
    draw, edges = random.Random(seed), [0]
    while edges[-1] < n:
        edges.append(min(n, edges[-1] + draw.randint(smallest, largest)))
    return tuple(pairwise(edges))


def image(*size: int, channels: int = 3, samples: int = 1) -> Tensor:
    return torch.randn(samples, channels, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def error(model: nn.Module, x: Tensor, grid: Grid) -> float:
    """The largest difference between parts and whole, relative to the largest value."""
    outputs, runner = Outputs(), Runner(model)
    runner.run(grid, lambda box: x[(..., *(slice(a, b) for a, b in box))], outputs.put)
    with torch.no_grad():
        whole = tree_leaves(model(x))
    pairs = list(zip(whole, tree_leaves(outputs.whole()), strict=True))
    assert all(a.shape == b.shape for a, b in pairs)
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)


def uneven(*size: int, seed: int = 0, largest: int = 17) -> Grid:
    return Grid(tuple(cuts(n, seed + axis, largest=largest) for axis, n in enumerate(size)))


@pytest.mark.parametrize("up", ["transposed", "nearest", "bilinear", "corners", "bicubic", "area", "shuffle"])
def test_unets(up: str) -> None:
    assert error(randomized(UNet(up=up)), image(43, 38), uneven(43, 38)) < EXACT


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_modes(mode: str) -> None:
    assert error(randomized(UNet(mode=mode)), image(43, 38), uneven(43, 38)) < EXACT


@pytest.mark.parametrize("norm", ["group", "instance", "none"])
def test_norms_over_all_of_space(norm: str) -> None:
    assert error(randomized(UNet(norm=norm)), image(29, 34), uneven(29, 34)) < EXACT


@pytest.mark.parametrize("border", ["full", "infinite", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("network", [Residual, UNet])
def test_converted_models(network: type[nn.Module], border: Any) -> None:
    model = bl.convert(randomized(network()), border)
    assert error(model, image(48, 40), uneven(48, 40, seed=3)) < EXACT


def test_valid_keeps_no_frame_and_pools_what_it_has() -> None:
    two = nn.Conv2d(3, 3, 3, 2, 1), nn.Conv2d(3, 3, 5, padding=2)
    model = randomized(nn.Sequential(*two, nn.ReLU(), nn.AdaptiveAvgPool2d(1)))
    assert error(bl.convert(model, "valid"), image(48, 40), uneven(48, 40)) < EXACT


@pytest.mark.parametrize("reach", [0, 1, 3])
def test_converted_models_with_a_reach(reach: int) -> None:
    model = bl.convert(randomized(Residual()), "full", reach=reach)
    assert error(model, image(48, 40), uneven(48, 40)) < EXACT


def test_several_outputs_and_squeeze_excite() -> None:
    assert error(randomized(Residual()), image(61, 50, samples=2), uneven(61, 50)) < EXACT


def test_grids_and_position_embeddings() -> None:
    assert error(randomized(Pyramid((35, 42))), image(35, 42), uneven(35, 42)) < EXACT


class _Tokens(nn.Module):
    """A linear layer on tokens, of a map that the first parts decide nothing of."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.linear = nn.Conv2d(3, 4, 9, padding=4), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.wide(x)
        return self.linear(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(len(x), -1, *x.shape[2:])


class _Stack(nn.Module):
    """A stack of a map and of one that is resized by its absolute positions, with one of `.data`."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.coarse = nn.Conv2d(3, 4, 5, padding=2), nn.Conv2d(3, 4, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        resized = F.interpolate(self.coarse(x), scale_factor=2.0, mode="bilinear", align_corners=True)
        near = self.near(x)
        return torch.stack([near, resized, near.data + 1]).sum(dim=0)


@pytest.mark.parametrize("network", [_Tokens, _Stack])
def test_tokens_and_stacks(network: type[nn.Module]) -> None:
    assert error(randomized(network()), image(24, 20), uneven(24, 20, largest=5)) < EXACT


def test_a_map_is_in_memory_once() -> None:
    model = nn.Sequential(*[nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)]).eval()
    shared: list[bool] = []
    model[1].register_forward_hook(
        lambda _, given, made: shared.append(given[0].window.is_contiguous()) if given[0].window.numel() else None
    )
    bl.tile(model, image(48, 48, channels=8).float(), tile=16)
    assert shared and not any(shared[1:])  # a view of the copy with rims around it, except where there are none


def test_parts_of_one_row_or_column() -> None:
    model = randomized(UNet(depth=1, mode="reflect"))
    rows = tuple((i, i + 1) for i in range(20))
    assert error(model, image(20, 17), Grid((rows, ((0, 17),)))) < EXACT
    assert error(model, image(17, 20), Grid((((0, 17),), rows))) < EXACT


def test_along_time_and_in_space() -> None:
    line = nn.Sequential(
        nn.Conv1d(1, 4, 8, 4, 2),
        nn.GELU(),
        nn.ConvTranspose1d(4, 2, 8, 4, 2),
        nn.ReflectionPad1d(3),
        nn.Conv1d(2, 1, 5),
    )
    assert error(randomized(line), image(123, channels=1), uneven(123)) < EXACT
    volume = nn.Sequential(
        nn.Conv3d(1, 3, 3, 2, 1),
        nn.ReLU(inplace=True),
        nn.Upsample(scale_factor=2, mode="trilinear"),
        nn.Conv3d(3, 2, 3),
    )
    assert error(randomized(volume), image(17, 22, 19, channels=1), uneven(17, 22, 19)) < EXACT


class Drawn(nn.Module):
    """A random chain of operations of every family, with a skip from an earlier map where sizes agree."""

    def __init__(self, draw: Any) -> None:
        super().__init__()
        self.steps: list[Any] = []
        self.layers = nn.ModuleList()
        for _ in range(draw(st.integers(2, 6))):
            self.steps.append(draw(st.sampled_from(list(_STEPS))))
            layer = _STEPS[self.steps[-1]](draw)
            self.layers.append(layer if isinstance(layer, nn.Module) else nn.Identity())
            if not isinstance(layer, nn.Module):
                self.steps[-1] = layer

    def forward(self, x: Tensor) -> Tensor:
        before = [x]
        for step, layer in zip(self.steps, self.layers, strict=True):
            y = step(x) if callable(step) else layer(x)
            same = [one for one in before if one.shape == y.shape]
            if same:
                y = y + same[0]
            before.append(y)
            x = y
        return x


def _convolution(draw: Any) -> nn.Module:
    kernel, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 2))
    reach = dilation * (kernel - 1)
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    padding = draw(st.integers(0, min(reach, 3)))
    return nn.Conv2d(3, 3, kernel, draw(st.integers(1, 3)), padding, dilation, padding_mode=mode)


def _transposed(draw: Any) -> nn.Module:
    kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    output_padding = draw(st.integers(0, stride - 1))
    return nn.ConvTranspose2d(3, 3, kernel, stride, draw(st.integers(0, kernel - 1)), output_padding)


def _pool(draw: Any) -> nn.Module:
    kernel, stride = draw(st.integers(2, 3)), draw(st.integers(1, 3))
    padding, ceil_mode = draw(st.integers(0, 1)), draw(st.booleans())
    if draw(st.booleans()):
        return nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode)
    return nn.AvgPool2d(kernel, stride, padding, ceil_mode, draw(st.booleans()))


def _resized(draw: Any) -> Any:
    mode, corners = draw(
        st.sampled_from(
            [("nearest", None), ("bilinear", False), ("bilinear", True), ("bicubic", False), ("area", None)]
        )
    )
    factor = draw(st.sampled_from([1.0, 2.0, 1.5, 0.7, 3.0, 0.5]))

    def run(x: Tensor) -> Tensor:
        size = [max(1, int(n * factor)) for n in x.shape[2:]]
        return F.interpolate(x, size=size, mode=mode, align_corners=corners)

    return run


def _padded(draw: Any) -> Any:
    amounts = [draw(st.integers(-1, 3)) for _ in range(4)]
    mode = draw(st.sampled_from(["constant", "reflect", "replicate"]))
    return lambda x: F.pad(x, amounts, mode) if mode != "constant" else F.pad(x, amounts, mode, 0.3)


_STEPS: dict[str, Any] = {
    "convolution": _convolution,
    "transposed": _transposed,
    "pool": _pool,
    "resized": _resized,
    "padded": _padded,
    "strided": lambda draw: (lambda step, first: lambda x: x[:, :, first::step, ::2])(
        draw(st.integers(1, 3)), draw(st.integers(0, 2))
    ),
    "activation": lambda draw: nn.LeakyReLU(0.1, inplace=draw(st.booleans())),
    "excited": lambda draw: lambda x: x * x.mean((2, 3), keepdim=True),
    "normed": lambda draw: nn.GroupNorm(3, 3),
}


@given(st.data())
def test_random_networks(data: Any) -> None:
    model = randomized(Drawn(data.draw))
    size = data.draw(st.integers(9, 40)), data.draw(st.integers(9, 40))
    x = image(*size)
    try:
        with torch.no_grad():
            whole = model(x)
    except RuntimeError:  # the map has become too small for the operation
        return
    if whole.numel() == 0 or not bool(whole.abs().max() > 0):
        return
    grid = uneven(*size, seed=data.draw(st.integers(0, 1000)))
    assert error(model, x, grid) < EXACT
