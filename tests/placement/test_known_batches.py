"""Later placements of a kind run ordinary batches, without a plan. Oracle: every image by itself."""

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import borderless as bl
from borderless.placement import known_batches, schedule, switch
from borderless.placement.tape import Tape
from support.networks import patch

POSITIONS = [(0, 0), (3, 5), (-2, 12), (9, 1), (12, 14)]
CANVAS = patch(24, 3, torch.float64)


class Shuffling(nn.Module):
    """Joins the images of a batch where `mixes` says so."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head, self.mixes = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 3), False

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images).relu()
        pooled = maps.mean((2, 3))
        return self.head(pooled - pooled.mean(0) if self.mixes else pooled)


def model() -> Shuffling:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Shuffling().double().eval()


@pytest.fixture(autouse=True)
def whole_canvases(windows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No windows: a plan costs more than they save."""
    monkeypatch.setattr(switch, "_PLANNED", {"cpu": 1e15, "cuda": 1e15})


@pytest.fixture
def tapes(monkeypatch: pytest.MonkeyPatch) -> list[Tape]:
    """The tapes of all placements: of those that make a plan."""
    made: list[Tape] = []

    def tape(*args: Any, **kwargs: Any) -> Tape:
        made.append(Tape(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(schedule, "Tape", tape)
    return made


def alone(network: nn.Module, objects: Tensor, positions: list[tuple[int, int]] = POSITIONS) -> Tensor:
    found = []
    for row, column in positions:
        for one in objects:
            canvas = CANVAS[None].clone()
            top, left = max(row, 0), max(column, 0)
            canvas[0, :, top : row + 9, left : column + 9] = one[:, top - row :, left - column :]
            found.append(network(canvas)[0].detach())
    return torch.stack(found).unflatten(0, (len(positions), len(objects)))


@pytest.mark.parametrize("border", [None, "full"])
@pytest.mark.parametrize("count", [1, 3])
def test_only_the_first_of_a_kind_is_planned(tapes: list[Tape], border: str | None, count: int) -> None:
    network = model() if border is None else bl.convert(model(), border)
    objects = torch.stack([patch(9, seed, torch.float64) for seed in range(2 * count)])
    for few in (objects[:count], objects[count:]):
        found = bl.place(network, few, POSITIONS, background=CANVAS)
        assert (found - alone(network, few)).abs().max() <= 1e-12
    assert len(tapes) == 1
    for positions in (POSITIONS[:4], [*POSITIONS[:4], (12, 15)]):  # other kinds
        found = bl.place(network, objects[:count], positions, background=CANVAS)
        assert (found - alone(network, objects[:count], positions)).abs().max() <= 1e-12
    assert len(tapes) == 3


def test_the_output_of_the_image_runs_along(tapes: list[Tape]) -> None:
    network, seen = model(), []
    network.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    first, then = (bl.occlude(network, CANVAS, 9, 5, 0.3) for _ in range(2))
    assert len(tapes) == 1 and seen[-1] == len(first.rows) * len(first.columns) + 1
    assert torch.equal(then.outputs, first.outputs) and torch.equal(then.whole, first.whole)
    assert first.drops.abs().max() > 1e-3


def test_told_how_far_it_is() -> None:
    network, told = model(), []
    for _ in range(2):
        bl.place(
            network, torch.rand(2, 3, 9, 9).double(), POSITIONS, background=CANVAS, progress=lambda *n: told.append(n)
        )
        assert told[-1] == (10, 10)
        told.clear()


def test_a_feature_map_by_its_name(tapes: list[Tape]) -> None:
    network = model()
    for _ in range(2):
        found = bl.occlude(network, CANVAS, 9, 5, output="conv", pool="max")
        expected = network.conv(CANVAS[None]).amax((2, 3))[0]
        assert (found.whole - expected).abs().max() <= 1e-12
    assert len(tapes) == 1


def test_a_changed_model_is_planned_anew(tapes: list[Tape]) -> None:
    network, objects = model(), torch.rand(2, 3, 9, 9).double()
    for change in (
        lambda: None,
        lambda: setattr(network, "mixes", True),
        lambda: setattr(network.conv, "stride", (2, 2)),
    ):
        change()
        for _ in range(2):
            found = bl.place(network, objects, POSITIONS, background=CANVAS)
            assert (found - alone(network, objects)).abs().max() <= 1e-12
    assert len(tapes) > 3
    network.train()
    with pytest.raises(bl.ConversionError, match="eval mode"):
        bl.place(network, objects, POSITIONS, background=CANVAS)


def test_new_weights_need_no_plan(tapes: list[Tape]) -> None:
    network, objects = model(), torch.rand(2, 3, 9, 9).double()
    bl.place(network, objects, POSITIONS, background=CANVAS)
    with torch.no_grad():
        network.head.weight.add_(1.0)
    found = bl.place(network, objects, POSITIONS, background=CANVAS)
    assert (found - alone(network, objects)).abs().max() <= 1e-12 and len(tapes) == 1


def test_what_is_known_keeps_no_model_alive_and_is_bounded() -> None:
    network = model()
    for first in range(known_batches._MOST_KINDS + 3):
        bl.place(network, torch.rand(1, 3, 2, 2).double(), [(0, first % 22), (first // 22, 0)], background=CANVAS)
    assert len(known_batches.known_batches(network).kinds) == known_batches._MOST_KINDS
    gone = weakref.ref(network)
    del network
    gc.collect()
    assert gone() is None
