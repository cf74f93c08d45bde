"""The public kit: rules registered from outside run on any border, and let a placement stay with windows."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import borderless as bl
from borderless.engine import registry
from borderless.placement.replay import ReplayedSignal
from support.bodies import noise, seeded
from support.endless_plane import assert_as_on_a_huge_canvas
from support.placements import let_windows_pay

PADDING_PX = 32


@torch.library.custom_op("borderless_tests::swish", mutates_args=())
def swish(maps: Tensor, slope: float) -> Tensor:
    return maps * torch.sigmoid(slope * maps + 1)


@torch.library.custom_op("borderless_tests::range_filter", mutates_args=())
def range_filter(maps: Tensor, size: int, stride: int) -> Tensor:
    """Largest minus smallest value of each window; zeros outside."""
    padded = F.pad(maps, [size // 2] * 4)
    return F.max_pool2d(padded, size, stride) + F.max_pool2d(-padded, size, stride)


SWISH = torch.ops.borderless_tests.swish
RANGE = torch.ops.borderless_tests.range_filter


@pytest.fixture
def kept_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))
    monkeypatch.setattr(registry, "_TRAITS", dict(registry._TRAITS))


def register() -> None:
    bl.rules.cellwise(SWISH)

    @bl.rules.sliding(RANGE, slides=lambda size, stride: bl.rules.Slide(size, stride, size // 2, size // 2))
    def without_padding(cells: Tensor, size: int, stride: int) -> Tensor:
        return F.max_pool2d(cells, size, stride) + F.max_pool2d(-cells, size, stride)


BODIES: dict[str, tuple[int, Callable[[Tensor, Tensor], Tensor]]] = {
    "cell by cell": (1, lambda a, b: SWISH(a, 0.5) + b),
    "sliding": (1, lambda a, b: RANGE(a, 3, 1) + b),
    "sliding with a stride": (2, lambda a, b: RANGE(a + b, 5, 2)),
}


@pytest.mark.usefixtures("kept_registry")
@pytest.mark.parametrize("name", BODIES)
def test_registered_operators_are_exact_under_infinite(name: str) -> None:
    register()
    stride, body = BODIES[name]
    assert_as_on_a_huge_canvas(seeded(body), noise(2, 3, 17, 20), PADDING_PX, stride)


@pytest.mark.usefixtures("kept_registry")
@pytest.mark.parametrize("name", BODIES)
def test_under_the_original_padding_registered_operators_run_as_they_are(name: str) -> None:
    register()
    model, images = seeded(BODIES[name][1]), noise(2, 3, 17, 20)
    assert torch.equal(bl.convert(model, "zero")(images), model(images))


@pytest.mark.usefixtures("kept_registry")
@pytest.mark.parametrize("border", [None, "full", "infinite"])
@pytest.mark.parametrize("name", BODIES)
def test_placement_with_registered_operators_runs_no_whole_map(
    name: str, border: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    register()
    let_windows_pay(monkeypatch)
    model = nn.Sequential(seeded(BODIES[name][1]), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    model = model if border is None else bl.convert(model, border)
    patches, positions = noise(2, 3, 7, 6), [(0, 0), (11, 20), (40, 41)]
    background = torch.linspace(0, 1, 48 * 48, dtype=torch.float64).reshape(1, 48, 48).expand(3, -1, -1)
    counted = _count_whole_maps(monkeypatch)
    placed = bl.place(model, patches, positions, background=background)
    assert counted == []
    with torch.no_grad():
        for answers, (row, column) in zip(placed, positions, strict=True):
            canvas = background.repeat(2, 1, 1, 1)
            canvas[:, :, row : row + 7, column : column + 6] = patches
            torch.testing.assert_close(answers, model(canvas), rtol=0, atol=1e-10)


@pytest.mark.usefixtures("kept_registry")
def test_a_rule_that_declares_nothing_gets_whole_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    @bl.rules.rule(SWISH)
    def undeclared(function: Callable[..., Tensor], signal: bl.Signal, slope: float) -> bl.Signal:
        return signal.derive(function(signal.window, slope), None)

    model = nn.Sequential(seeded(lambda a, b: SWISH(a, 0.5) + b), nn.AdaptiveAvgPool2d(1)).eval()
    counted = _count_whole_maps(monkeypatch)
    bl.place(model, noise(1, 3, 7, 6), [(0, 0), (11, 20)], canvas=(48, 48))
    assert counted != []


def _count_whole_maps(monkeypatch: pytest.MonkeyPatch) -> list[ReplayedSignal]:
    counted: list[ReplayedSignal] = []
    whole = ReplayedSignal.on_whole_canvas

    def count(placed: ReplayedSignal) -> bl.Signal:
        counted.append(placed)
        return whole(placed)

    monkeypatch.setattr(ReplayedSignal, "on_whole_canvas", count)
    return counted


def test_what_a_rule_needs_is_one_of_a_few_words() -> None:
    with pytest.raises(ValueError, match=r"Expected needs to be one of nothing, cell, .* but got 'cells'"):
        bl.rules.rule(SWISH, needs="cells")(lambda function, signal: signal)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="Expected rule"):
        bl.rules.rule()


CALLS = {
    "a convolution": (F.conv2d, (torch.ones(1, 2, 3, 3),), {"padding": 1}, "neighborhood"),
    "a convolution of single cells": (F.conv2d, (torch.ones(1, 2, 1, 1),), {}, "cell"),
    "a strided convolution of single cells": (F.conv2d, (torch.ones(1, 2, 1, 1), None, 2), {}, "neighborhood"),
    "a pool": (F.max_pool2d, (2,), {}, "neighborhood"),
    "an activation": (torch.relu, (), {}, "cell"),
    "a mean over channels": (torch.mean, (1,), {}, "channels"),
    "a mean over space": (torch.mean, (), {"dim": (2, 3)}, "gathered"),
    "a mean over rows": (torch.Tensor.mean, (2,), {}, "everything"),
    "a maximum of the channels": (torch.amax, (1,), {}, "channels"),
    "a view": (torch.Tensor.view, (1, 2, 1, 4, 4), {}, "cell"),
    "blocks": (torch.Tensor.view, (1, 2, 2, 2, 2, 2), {}, "neighborhood"),
    "flattened": (torch.flatten, (1,), {}, "everything"),
    "channels by index": (torch.Tensor.__getitem__, ((slice(None), [1, 0]),), {}, "cell"),
    "a crop": (torch.Tensor.__getitem__, ((..., slice(1, None)),), {}, "neighborhood"),
    "padding": (F.pad, ((1, 1, 1, 1),), {}, "neighborhood"),
    "padding by mirroring": (F.pad, ((1, 1, 1, 1), "reflect"), {}, "everything"),
    "batch norm": (F.batch_norm, (torch.zeros(2), torch.ones(2)), {}, "cell"),
    "batch norm in training": (F.batch_norm, (torch.zeros(2), torch.ones(2), None, None, True), {}, "gathered"),
    "group norm": (F.group_norm, (1,), {}, "gathered"),
    "the size": (torch.Tensor.size, (), {}, "nothing"),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_calls_need(name: str) -> None:
    function, args, kwargs, expected = CALLS[name]
    with bl.bordered(nn.Identity(), "infinite", output="signal") as model:
        signal = model(torch.zeros(1, 2, 4, 4))
    traits = registry.traits_of(registry.find_rule(function))
    assert traits.need(function, (signal, *args), kwargs).kind == expected


def test_a_function_that_is_taught_leaves_the_traits_of_others() -> None:
    before = registry.traits_of(registry.find_rule(torch.sigmoid))
    bl.rules.cellwise(lambda x: x * 2)
    assert registry.traits_of(registry.find_rule(torch.sigmoid)) == before
