"""Occlusion maps. Oracles: a loop over hidden images; Captum's formula, and Captum where it is installed."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import borderless as bl
from placement.test_switch import Residual, every_choice
from support.networks import patch, residual

SIZE, STRIDE, IMAGE = (9, 7), (6, 5), (41, 48)


def image() -> Tensor:
    return patch(48, 3, torch.float64)[:, : IMAGE[0]]


def gated() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 4, 3, 2, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), Residual()]
        model = nn.Sequential(*layers, nn.Conv2d(4, 6, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(model, nn.Linear(6, 5)).double().eval()


def hidden_images(picture: Tensor, background: Any) -> Tensor:
    rows = math.ceil((IMAGE[0] - SIZE[0]) / STRIDE[0]) + 1
    columns = math.ceil((IMAGE[1] - SIZE[1]) / STRIDE[1]) + 1
    images = picture.repeat(rows, columns, 1, 1, 1)
    shown = torch.as_tensor(background, dtype=picture.dtype)
    shown = (shown if shown.ndim == 3 else shown.reshape(-1, 1, 1)).expand(picture.shape)
    for i in range(rows):
        for k in range(columns):
            r, c = i * STRIDE[0], k * STRIDE[1]
            box = (slice(None), slice(r, r + SIZE[0]), slice(c, c + SIZE[1]))
            images[i, k][box] = shown[box]
    return images


def looped(model: Callable[[Tensor], Tensor], background: Any) -> Tensor:
    images = hidden_images(image(), background)
    with torch.no_grad():
        return torch.stack([torch.stack([model(one[None])[0] for one in row]) for row in images])


BACKGROUNDS = {"number": 0.3, "color": [0.1, -0.2, 0.3], "image": patch(48, 8, torch.float64)[:, : IMAGE[0]]}


@pytest.mark.parametrize("border", [None, "full", "infinite", "valid", "circular"])
@pytest.mark.parametrize("background", BACKGROUNDS.values(), ids=BACKGROUNDS)
@pytest.mark.parametrize("network", [residual, gated])
def test_equal_to_a_loop(network: Callable[[], nn.Module], background: Any, border: str | None) -> None:
    model = network().double()
    model = model if border is None else bl.convert(model, border)
    expected = looped(model, background)
    found = bl.occlude(model, image(), SIZE, STRIDE, background)
    scale = expected.abs().max()
    assert found.outputs.shape == expected.shape
    assert (found.outputs - expected).abs().max() <= 1e-12 * scale
    assert (found.whole - model(image()[None])[0]).abs().max() <= 1e-12 * scale
    assert found.drops.abs().max() > 1e-4 * scale, "no power: hiding changes nothing"
    if isinstance(background, float):
        some = bl.occlude(model, image()[None], SIZE, STRIDE, 0.3, target=[4, -4])
        assert torch.equal(some.outputs, found.outputs[..., [4, 1]]) and torch.equal(some.whole, found.whole[[4, 1]])
        one = bl.occlude(model, image(), SIZE, STRIDE, 0.3, target=2)
        assert torch.equal(one.outputs, found.outputs[..., 2]) and one.per_pixel().shape == IMAGE


@pytest.mark.parametrize("pool", [None, "max"])
def test_a_feature_map_by_its_name_wherever_windows_end(monkeypatch: pytest.MonkeyPatch, pool: Any) -> None:
    model, maps = residual().double(), {}
    model.down.register_forward_hook(lambda module, args, output: maps.update(down=output))

    def down(one: Tensor) -> Tensor:
        model(one)
        return maps["down"][:, [2]] if pool is None else maps["down"][:, [2]].amax((2, 3))

    expected = looped(down, 0.5)
    for got in every_choice(
        monkeypatch,
        lambda: bl.occlude(model, image(), SIZE, STRIDE, 0.5, target=[2], output="down", pool=pool).outputs,
    ).values():
        assert (got - expected).abs().max() <= 1e-12 * expected.abs().max()


def test_a_pixel_gets_the_mean_of_the_windows_that_hide_it() -> None:
    model = residual().double()
    found = bl.occlude(model, image(), SIZE, STRIDE, target=1)
    total, count = torch.zeros(IMAGE, dtype=torch.float64), torch.zeros(IMAGE)
    for i, row in enumerate(found.rows):
        for k, column in enumerate(found.columns):
            total[row : row + SIZE[0], column : column + SIZE[1]] += found.drops[i, k]
            count[row : row + SIZE[0], column : column + SIZE[1]] += 1
    assert torch.allclose(found.per_pixel(), total / count, rtol=0, atol=1e-14)
    gaps = bl.occlude(model, image(), 4, 10, target=1).per_pixel()
    assert gaps[:4, :4].isfinite().all() and gaps[4:10].isnan().all()


def as_captum_documents(
    model: nn.Module, images: Tensor, shape: tuple, strides: tuple, shown: Tensor, targets: list[int]
) -> Tensor:
    """Windows along channels and space; each value of an input gets the mean drop of the windows that hide it."""
    found = torch.zeros_like(images)
    for n, (one, color) in enumerate(zip(images, shown, strict=True)):
        total, count = torch.zeros_like(one), torch.zeros_like(one)
        firsts = [
            [i * step for i in range(math.ceil((size - window) / step) + 1)]
            for size, window, step in zip(one.shape, shape, strides, strict=True)
        ]
        for corner in torch.cartesian_prod(*map(torch.tensor, firsts)).tolist():
            mask = torch.zeros_like(one)
            mask[tuple(slice(a, a + s) for a, s in zip(corner, shape, strict=True))] = 1
            drop = model(one[None]) - model((one * (1 - mask) + color * mask)[None])
            total += mask * drop[0, targets[n]]
            count += mask
        found[n] = total / count
    return found


@pytest.mark.parametrize(("shape", "strides"), [((3, 11, 9), (3, 8, 9)), ((2, 12, 12), (1, 10, 12))])
def test_as_captum_attributes(shape: tuple, strides: tuple) -> None:
    model = residual().double()
    images = torch.stack([patch(33, seed, torch.float64)[:, :29] for seed in (1, 2)])
    shown, targets = images.flip(3), [1, 4]
    with torch.no_grad():
        expected = as_captum_documents(model, images, shape, strides, shown, targets)
    asked: dict[str, Any] = {
        "sliding_window_shapes": shape,
        "strides": strides,
        "baselines": shown,
        "target": torch.tensor(targets),
    }
    got = bl.Occlusion(model).attribute(images, **asked, perturbations_per_eval=4)
    assert (got - expected).abs().max() <= 1e-12 * expected.abs().max()
    (again,) = bl.Occlusion(model).attribute((images[:1],), (shape,), (strides,), (shown[:1],), 1)
    assert torch.equal(again, got[:1])
    captum = pytest.importorskip("captum.attr")
    theirs = captum.Occlusion(model).attribute(images, **asked, perturbations_per_eval=4)
    assert (got - theirs).abs().max() <= 1e-6 * theirs.abs().max()  # which are single precision


def in_training() -> nn.Module:
    return residual().double().train()


X = torch.rand(3, 20, 24, dtype=torch.float64)
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "a list": (lambda: bl.occlude(residual(), []), r"Expected one image as a floating-point tensor .* but got list"),  # pyright: ignore[reportArgumentType]
    "two images": (lambda: bl.occlude(residual(), torch.rand(2, 3, 40, 40)), r"got torch.float32, \(2, 3, 40, 40\)"),
    "window too large": (
        lambda: bl.occlude(residual().double(), X, 21, 4),
        r"window no larger than the image, 20 × 24 pixels, but got 21 × 21; choose a smaller size",
    ),
    "no stride": (
        lambda: bl.occlude(residual().double(), X, 4, 0),
        r"Expected stride to be a number of pixels, at least 1, .* but got 0",
    ),
    "three sizes": (lambda: bl.occlude(residual().double(), X, (4, 4, 4)), r"Expected size .* but got \(4, 4, 4\)"),
    "colors": (
        lambda: bl.occlude(residual().double(), X, 4, 4, [0.1, 0.2]),
        r"one number, one per channel, or an image but got 2 numbers for an image with 3 channels",
    ),
    "a background of other channels": (
        lambda: bl.occlude(residual().double(), X, 4, 4, X[:1]),
        r"floating-point image of shape \(3, 20, 24\).* but got torch.float64 of shape \(1, 20, 24\)",
    ),
    "an image of other channels": (
        lambda: bl.occlude(residual().double(), X[:2], 4, 4),
        r"Expected an image of 3 channels.* but got 2",
    ),
    "no class": (lambda: bl.occlude(residual().double(), X, 4, 4, target=[]), r"Expected target .* but got \[\]"),
    "no such class": (
        lambda: bl.occlude(residual().double(), X, 4, 4, target=5),
        r"an output of shape \(1, 5\) but got 5; the numbers 0 to 4 exist",
    ),
    "training": (lambda: bl.occlude(in_training(), X, 4, 4), r"Expected a model in eval mode .*model.eval\(\)"),
    "captum: two inputs": (
        lambda: bl.Occlusion(residual()).attribute((X[None], X[None]), (3, 4, 4)),
        r"Expected inputs of one input but got 2; give the others as additional_forward_args",
    ),
    "captum: stride": (
        lambda: bl.Occlusion(residual().double()).attribute(X[None], (3, 4, 4), (3, 5, 4), target=0),
        r"Expected strides no larger than the window \(3, 4, 4\).* but got \(3, 5, 4\)",
    ),
    "captum: no target": (
        lambda: bl.Occlusion(residual().double()).attribute(X[None], (3, 8, 8), (3, 8, 8)),
        r"Expected one number per image but got an output of shape \(5,\) and target=None",
    ),
    "captum: a function": (
        lambda: bl.Occlusion(lambda x: x),
        r"Expected a model as a torch.nn.Module but got function",
    ),  # pyright: ignore[reportArgumentType]
}


@pytest.mark.parametrize(("call", "text"), WRONG.values(), ids=WRONG)
def test_errors_say_what_to_do(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(bl.BorderlessError, match=text):
        call()
