"""Objects on photographs: as many as the interval needs, each on an image that it is not cut from."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import borderless as bl
from borderless.auditing import moving
from borderless.measures.comparisons import CLASSES, Compared
from support.planted import network


def images(count: int) -> Tensor:
    return torch.randn(count, 3, 24, 24, generator=torch.Generator().manual_seed(0))


def planted(monkeypatch: pytest.MonkeyPatch, flips: list[float]) -> list[tuple[Tensor, Tensor]]:
    """Let the i-th object change its prediction at a share `flips[i]` of the positions; returns what was asked."""
    asked: list[tuple[Tensor, Tensor]] = []

    def told(_: nn.Module, objects: Tensor, where: np.ndarray, photographs: Tensor, *__: Any) -> Compared:
        start = sum(len(things) for things, _ in asked)
        asked.append((objects, photographs))
        logits = np.zeros((len(where), len(objects), 3))
        logits[..., 0] = 1
        for i, share in enumerate(flips[start : start + len(objects)]):
            logits[1 : 1 + round(share * (len(where) - 1)), i] = [0, 1, 0]
        return CLASSES.compare(logits)

    monkeypatch.setattr(moving, "on_photographs", told)
    return asked


@pytest.mark.parametrize(
    ("flips", "object_count", "wanted"),
    [
        ([0.5] * 20, None, [8]),  # the interval has no width
        ([0.0, 1.0] * 10, None, [8, 8, 4]),  # it stays wide, until there are no more images
        ([0.25, 0.75] * 4 + [0.5] * 12, None, [8, 8]),  # it becomes narrow
        ([0.0, 1.0] * 10, 3, [3]),  # as many as were asked for
    ],
)
def test_objects_are_added_until_the_interval_is_narrow(
    monkeypatch: pytest.MonkeyPatch, flips: list[float], object_count: int | None, wanted: list[int]
) -> None:
    asked = planted(monkeypatch, flips)
    found = bl.audit(network(), images(20), parts=["sensitivity"], object_count=object_count)
    assert [len(objects) for objects, _ in asked] == wanted
    assert found.on_photograph is not None
    assert found.on_photograph.objects == sum(wanted)
    # The causes cost several networks, so they are told apart on the first eight; the table says on how many.
    assert found.sensitivity is not None
    assert found.sensitivity.all_positions.objects == sum(wanted)
    assert found.sensitivity.border.objects == min(8, sum(wanted))


def test_an_object_is_on_another_photograph_than_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = planted(monkeypatch, [0.5] * 8)
    bl.audit(network(), images(8), parts=["sensitivity"])
    ((objects, photographs),) = asked
    assert torch.equal(photographs, images(8).roll(-1, 0))
    assert torch.equal(objects[2], images(8)[2, :, 7:17, 7:17])


def test_the_example_is_the_surest_prediction_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, [0.0, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    found = bl.audit(network(), images(8), parts=["sensitivity"])
    example = found.results["example"]
    assert example.classes == ("class 0", "class 1")
    assert example.positions[0] == (7, 7)
    assert example.pictures[0].shape == (24, 24, 3)
    assert found.on_photograph is not None and found.on_photograph.flips == 0.25 / 8
