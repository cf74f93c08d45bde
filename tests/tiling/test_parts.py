"""Parts that run by themselves: exact outputs in a box, and gradients part by part."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import borderless as bl
from borderless.engine.torch_internals import tree_leaves
from borderless.partition.parts import parts, region
from support.part_networks import NETWORKS, Causal, UNet, random_network, settled


def image(*size: int) -> Tensor:
    return torch.randn(1, 1, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def maps_and_boxes(whole: Any, output: Any, box: Any) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Of each output: the whole, the same cells of it, and what a part gives for them."""
    found = []
    if isinstance(whole, dict):
        return [one for key in whole for one in maps_and_boxes(whole[key], output[key], box[key])]
    if isinstance(whole, tuple | list):
        return [one for group in zip(whole, output, box, strict=True) for one in maps_and_boxes(*group)]
    found.append((whole, whole[(..., *(slice(a, b) for a, b in box))], output))
    return found


def check(model: nn.Module, x: Tensor, tile: Any) -> list[Any]:
    """Parts are equal to the whole, and every cell of it is in one of them."""
    with torch.no_grad():
        whole = model(x)
        made = list(parts(model, x, tile=tile))
    counts = [torch.zeros(w.shape[2:]) for w in tree_leaves(whole)]
    for part in made:
        for number, (w, expected, got) in enumerate(maps_and_boxes(whole, part.output, part.box)):
            assert got.shape == expected.shape
            if got.numel():
                assert (got - expected).abs().max() <= 1e-12 * w.abs().max()
                box = _boxes(part.box)[number]
                counts[number][tuple(slice(a, b) for a, b in box)] += 1
    assert all(bool((count == 1).all()) for count in counts)
    return made


def _boxes(box: Any) -> list[Any]:
    if isinstance(box, dict):
        return [one for value in box.values() for one in _boxes(value)]
    return [box] if isinstance(box[0][0], int) else [one for value in box for one in _boxes(value)]


@pytest.mark.parametrize("name", NETWORKS)
def test_parts_are_a_partition_of_the_whole(name: str) -> None:
    x = image(67, 83)
    made = check(settled(NETWORKS[name]()), x, (19, 24))
    assert any(stop - start < n for part in made for (start, stop), n in zip(part.read, x.shape[2:], strict=True))


@given(seed=st.integers(0, 10**6), tile=st.tuples(st.integers(5, 40), st.integers(5, 40)))
@settings(max_examples=10, deadline=None)
def test_parts_of_random_networks(seed: int, tile: tuple[int, int]) -> None:
    rnd = random.Random(seed)
    torch.manual_seed(seed)
    model = settled(random_network(rnd))
    x = image(rnd.randint(40, 60), rnd.randint(40, 60))
    try:
        with torch.no_grad():
            model(x)
    except RuntimeError:  # the image is too small
        assume(False)
    check(model, x, tile)


@pytest.mark.parametrize("border", ["full", "infinite", "reflect", "circular", "zero"])
@pytest.mark.parametrize("name", ["transposed", "bilinear", "resnet"])
def test_parts_of_converted_models(name: str, border: str) -> None:
    check(bl.convert(settled(NETWORKS[name]()), border), image(64, 80), (24, 40))


@pytest.mark.parametrize("model", [nn.Conv1d(1, 2, 5, 2, 2), nn.Conv3d(1, 2, 3, padding=1)])
def test_signals_and_volumes(model: nn.Module) -> None:
    count = 1 if isinstance(model, nn.Conv1d) else 3
    check(model.double(), image(*(31, 14, 17)[:count]), 9)


@pytest.mark.parametrize("name", ["transposed", "bilinear", "corners", "reflect", "pyramid", "resnet", "causal"])
def test_gradients_of_parts_are_those_of_the_whole(name: str) -> None:
    model = settled(NETWORKS[name]())
    leaves = [image(45, 52).requires_grad_(), *model.parameters()]
    with torch.no_grad():
        targets = model(leaves[0])
        targets = _mapped(targets)
    loss = sum(((w - t) ** 3).sum() for w, t in zip(tree_leaves(model(leaves[0])), tree_leaves(targets), strict=True))
    expected = torch.autograd.grad(loss, leaves)
    for part in parts(model, leaves[0], tile=16):
        pieces = maps_and_boxes(targets, part.output, part.box)
        sum(((got - target) ** 3).sum() for _, target, got in pieces).backward()
    for leaf, gradient in zip(leaves, expected, strict=True):
        assert (leaf.grad - gradient).abs().max() <= 1e-12 * gradient.abs().max()


def _mapped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _mapped(one) for key, one in value.items()}
    return tuple(map(_mapped, value)) if isinstance(value, tuple) else torch.randn_like(value)


def test_region_reads_no_more_than_it_needs(tmp_path: Path) -> None:
    """From a file on disk of which everything else is NaN."""
    model, x = settled(Causal()), image(200, 90)
    (a, b), (c, d) = (100, 110), (40, 52)
    stored = np.memmap(tmp_path / "image", np.float64, "w+", shape=(1, 1, 200, 90))
    stored[:] = np.nan
    rows, columns = (a - 5, b + 2), (c - 2, d + 3)
    where = (..., slice(*rows), slice(*columns))
    stored[where] = x.numpy()[where]
    got = region(model, stored, ((a, b), (c, d)))
    with torch.no_grad():
        torch.testing.assert_close(got, model(x)[..., a:b, c:d], rtol=1e-12, atol=1e-13)
    assert got.untyped_storage().nbytes() == got.numel() * 8 and not got.requires_grad


def test_region_of_a_strided_output() -> None:
    model, x = settled(nn.Conv2d(1, 2, 3, 4, 1)), image(50, 50)
    got = region(model, x, ((3, 9), (16, 50)))
    assert torch.equal(got, model(x)[..., 1:3, 4:13])


def refusal(model: nn.Module) -> str:
    with pytest.raises(bl.UnsupportedOperation) as error:
        region(model, torch.zeros(1, 1, 32, 32), ((0, 8), (0, 8)))
    return str(error.value)


def test_what_has_no_parts_is_refused_by_name() -> None:
    squeeze = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1))
    assert "torch.nn.functional.adaptive_avg_pool2d in module '1'" in refusal(squeeze)
    assert "bl.tile" in refusal(squeeze)
    assert "module '1' (BatchNorm2d) in training mode" in refusal(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)))
    adaptive = bl.convert(nn.Conv2d(1, 2, 3, 2), "infinite", phase="adaptive")
    assert "phase='adaptive'" in refusal(adaptive)
    odd = bl.convert(UNet("bilinear").eval(), "full")
    with pytest.raises(bl.UnsupportedOperation, match=r"in the model itself.*reads the whole frame"):
        region(odd, torch.zeros(1, 1, 31, 32), ((0, 8), (0, 8)))


def test_a_branch_that_depends_on_values_is_refused_by_name() -> None:
    class Gate(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if F.adaptive_avg_pool2d(x, 1).mean() > 0 else -x

    message = refusal(nn.Sequential(nn.Conv2d(1, 1, 1), Gate()))
    assert "depends on values" in message and "module '1' (Gate)" in message


@pytest.mark.parametrize("box", [((0, 8),), ((0, 8), (5, 5)), ((0, 8), (-1, 5)), ((0, 33), (0, 5))])
def test_boxes_outside_of_the_image(box: Any) -> None:
    with pytest.raises(bl.ImageError, match="inside an image of 32 × 32 pixels"):
        region(nn.Conv2d(1, 1, 3), torch.zeros(1, 1, 32, 32), box)


@pytest.mark.parametrize("tile", [0, (4,), (4, -1), (4.5, 4)])
def test_tiles_that_are_none(tile: Any) -> None:
    with pytest.raises(bl.ImageError, match="positive numbers of pixels"):
        parts(nn.Conv2d(1, 1, 3), torch.zeros(1, 1, 32, 32), tile=tile)


def test_the_model_is_left_as_it_was() -> None:
    model = settled(UNet())
    before = {name: id(value) for name, value in model.state_dict(keep_vars=True).items()}
    list(parts(model, image(32, 32), tile=16))
    assert {name: id(value) for name, value in model.state_dict(keep_vars=True).items()} == before
    assert bl.border_of(model) is None and torch.isfinite(model(image(32, 32))).all()
