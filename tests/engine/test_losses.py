"""Losses of maps: on the frame as outside of the model, cell by cell without a reduction."""

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import borderless as bl
from borderless.engine.leaving import LeftCells
from support.bodies import CHANNELS, noise, seeded
from support.endless_plane import assert_as_on_a_huge_canvas

LABELS = torch.arange(2 * 6 * 7).reshape(2, 6, 7) % CHANNELS
VALUES = noise(2, CHANNELS, 6, 7).sigmoid()
LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "cross_entropy": lambda y: F.cross_entropy(y, LABELS, ignore_index=3),
    "cross_entropy of tokens": lambda y: F.cross_entropy(y.flatten(2), LABELS.flatten(1)),
    "cross_entropy of cells": lambda y: F.cross_entropy(y.permute(0, 2, 3, 1).reshape(-1, CHANNELS), LABELS.flatten()),
    "nll_loss": lambda y: F.nll_loss(y.log_softmax(1), target=LABELS, reduction="sum"),
    "binary_cross_entropy": lambda y: F.binary_cross_entropy(y.sigmoid(), VALUES),
    "with_logits": lambda y: F.binary_cross_entropy_with_logits(y, VALUES, pos_weight=noise(CHANNELS, 1, 1).exp()),
    "mse_loss, target first": lambda y: F.mse_loss(VALUES, y),
    "mse_loss of two maps": lambda y: F.mse_loss(input=y.relu(), target=y),
    "l1_loss": lambda y: F.l1_loss(y, VALUES, reduction="sum"),
    "smooth_l1_loss": lambda y: F.smooth_l1_loss(y, VALUES),
    "cross_entropy of each cell": lambda y: F.cross_entropy(y, LABELS, reduction="none"),
    "mse_loss of each cell": lambda y: F.mse_loss(y, VALUES, reduction="none"),
}


class Trained(nn.Module):
    """Returns its map and a loss of it."""

    def __init__(self, loss: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body = seeded(lambda a, b: F.avg_pool2d(a * b, 3, 2, 1))
        self.loss = loss

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        y = self.body(images)
        return y, self.loss(y)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("border", ["zero", "infinite", bl.Border("infinite", phase="adaptive")])
def test_the_loss_is_that_of_the_returned_map(border, name) -> None:
    images, model = noise(2, 3, 12, 14), Trained(LOSSES[name])
    converted = bl.convert(model, border, strict=True)
    y, loss = converted(images)
    apart = y.detach().requires_grad_()
    assert torch.equal(loss, LOSSES[name](apart))
    if border == "zero":
        assert torch.equal(loss, model(images)[1])
    (expected,) = torch.autograd.grad(LOSSES[name](apart).sum(), apart)
    through, direct = (
        torch.autograd.grad(value, list(converted.parameters()), retain_graph=True)
        for value in (loss.sum(), (y * expected).sum())
    )
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(through, direct, strict=True))


def test_two_maps_without_a_reduction_are_a_map() -> None:
    images = noise(2, 3, 12, 15)
    for loss in (F.mse_loss, F.l1_loss, F.binary_cross_entropy_with_logits):
        model = seeded(lambda a, b, loss=loss: loss(a, b.sigmoid(), reduction="none") * b)
        assert torch.equal(bl.convert(model, "zero")(images), model(images))
        assert_as_on_a_huge_canvas(model, images, 32, 1)
    weighted = seeded(lambda a, b: F.huber_loss(a, noise(1, CHANNELS, 1, 1).expand_as(a), reduction="none") + b)
    assert_as_on_a_huge_canvas(weighted, images, 32, 1)


def cellwise(a: Tensor, b: Tensor) -> Tensor:
    return F.cross_entropy(a * b, torch.zeros(len(a), *a.shape[2:], dtype=torch.long), reduction="none")


def test_the_losses_of_cells_leave_and_are_watched() -> None:
    images = noise(1, 3, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not isinstance(bl.convert(seeded(cellwise), "infinite")(images), LeftCells)
    pairs = bl.convert(seeded(lambda a, b: cellwise(a, b) @ cellwise(a, b).mT), "infinite")
    with pytest.raises(bl.UnsupportedOperation, match=r"it multiplies cells with each other.*cross_entropy"):
        pairs(images)


@pytest.mark.parametrize("border", ["zero", "infinite"])
def test_place_gives_what_whole_canvases_give(border) -> None:
    model = bl.convert(seeded(lambda a, b: F.mse_loss(a, b, reduction="none").mean((2, 3))), border)
    patch, positions, canvas = noise(3, 5, 5), [(0, 0), (3, 6)], (14, 15)
    images = torch.zeros(2, 3, *canvas, dtype=torch.float64)
    for image, (row, column) in zip(images, positions, strict=True):
        image[:, row : row + 5, column : column + 5] = patch
    torch.testing.assert_close(bl.place(model, patch, positions, canvas), model(images))
