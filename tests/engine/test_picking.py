"""Cells that are picked by their positions: named, and those of the frame; lists of cells leave."""

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import borderless as bl
from support.bodies import CHANNELS, noise, seeded

Body = Callable[[Tensor, Tensor], Tensor]
GRID = noise(2, 3, 5, 2).tanh()


def written(a: Tensor) -> Tensor:
    made = torch.zeros(2, CHANNELS, 10, 14, dtype=torch.float64)
    made[:, :, 1:-1, 1:-1] = a
    return made


PICKED: dict[str, tuple[Body, str]] = {
    "the last step": (lambda a, b: a[..., -1], "__getitem__ .* picks an absolute position"),
    "one cell": (lambda a, b: (a * b)[0, :, 3, 4], "__getitem__ .* picks an absolute position"),
    "a row": (lambda a, b: a.select(2, 1), "picks an absolute position"),
    "cells": (lambda a, b: a[:, :, torch.tensor([1, 2]), torch.tensor([0, 5])], "picks an absolute position"),
    "cells of a sample": (lambda a, b: a.sum(1)[1][torch.tensor([1, 2]), torch.tensor([0, 5])], "an absolute position"),
    "a mask": (lambda a, b: a[b > 0], r"they lose their positions. Write torch.where"),
    "a mask of a sample": (lambda a, b: a.sum(1)[0][b[0, 1] > 0], "they lose their positions"),
    "coordinates": (lambda a, b: F.grid_sample(a, GRID, align_corners=False), "samples a feature map at coordinates"),
    "written to a tensor": (lambda a, b: written(a) * 2, "writes a feature map into an ordinary tensor. Write"),
}


@pytest.mark.parametrize(("body", "reason"), PICKED.values(), ids=PICKED)
def test_single_cells_are_those_of_the_frame_and_named(body: Body, reason: str) -> None:
    images, model = noise(2, 3, 8, 12), seeded(body)
    maps = bl.convert(seeded(lambda a, b: torch.cat([a, b], 1)), "infinite")(images).split(CHANNELS, 1)
    with torch.no_grad():
        with pytest.warns(bl.PositionDependentWarning, match=reason):
            assert torch.equal(bl.convert(model, "zero")(images), model(images))
        with pytest.warns(bl.PositionDependentWarning, match=reason):
            torch.testing.assert_close(bl.convert(model, "infinite")(images), body(*maps), rtol=1e-12, atol=1e-12)
        with pytest.raises(bl.PositionDependentError, match=reason):
            bl.convert(model, "infinite", strict=True)(images)


def test_a_single_cell_of_one_is_no_position() -> None:
    model, images = seeded(lambda a, b: a[:, :, 0, 0]), noise(1, 3, 1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(bl.convert(model, "zero")(images), model(images))


@pytest.mark.parametrize("find", [lambda y: y.nonzero(), lambda y: torch.stack(torch.nonzero(y, as_tuple=True), 1)])
def test_a_list_of_cells_leaves(find) -> None:
    images, model = noise(2, 3, 8, 12), seeded(lambda a, b: find((a * b).sum(1) > 0))
    scores = bl.convert(seeded(lambda a, b: (a * b).sum(1)), "infinite")(images)
    assert torch.equal(bl.convert(model, "zero", strict=True)(images), model(images))
    assert torch.equal(bl.convert(model, "infinite", strict=True)(images), (scores > 0).nonzero())
    assert bl.explain(model, (8, 12)).departures[0].frame == (8, 12)


def test_tokens_joined_with_a_value_for_each_leave() -> None:
    coordinates = torch.arange(96.0, dtype=torch.float64).expand(2, 1, -1)
    images, model = noise(2, 3, 8, 12), seeded(lambda a, b: torch.cat([a.flatten(2), coordinates], 1))
    tokens = bl.convert(seeded(lambda a, b: a), "infinite")(images).flatten(2)
    assert torch.equal(bl.convert(model, "zero", strict=True)(images), model(images))
    torch.testing.assert_close(
        bl.convert(model, "infinite", strict=True)(images), torch.cat([tokens, coordinates], 1), rtol=1e-12, atol=1e-12
    )
    same_for_all = seeded(
        lambda a, b: torch.cat([a.flatten(2), noise(2, 1, 1).expand(-1, -1, 96)], 1).view(2, 5, 8, 12)
    )
    assert isinstance(bl.convert(same_for_all, "infinite", output="signal")(images), bl.Signal)


def test_a_stack_with_a_value_for_each_cell_is_named() -> None:
    values, images = noise(2, CHANNELS, 8, 12), noise(2, 3, 8, 12)
    model = seeded(lambda a, b: torch.stack([a, values, b]).sum(dim=0))
    a, b = bl.convert(seeded(lambda a, b: torch.cat([a, b], 1)), "infinite")(images).split(CHANNELS, 1)
    with torch.no_grad(), pytest.warns(bl.PositionDependentWarning, match="stack .* a value for each position enters"):
        assert torch.equal(bl.convert(model, "zero")(images), model(images))
    with torch.no_grad(), pytest.warns(bl.PositionDependentWarning, match="stack .* a value for each position enters"):
        torch.testing.assert_close(bl.convert(model, "infinite")(images), a + values + b, rtol=1e-12, atol=1e-12)
