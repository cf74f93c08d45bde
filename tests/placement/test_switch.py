"""Windows as far as any step, and whole maps from there on. Oracle: every canvas whole, one by one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import borderless as bl
from borderless.placement import schedule
from borderless.placement.known_batches import KnownBatches
from borderless.placement.switch import Arrangements
from placement.test_place import MIDDLES, Net, photograph, small, whole_canvases
from support.networks import patch

GRID = [(r, c) for r in (-3, 4, 18, 24) for c in (0, 20, 21)]


class Residual(nn.Module):
    """Branches that meet again, a change in place, and a gate of the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 4, 3, 2, padding=1), nn.Conv2d(4, 4, 1, 2)
        self.gate, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, maps: Tensor) -> Tensor:
        branch = self.norm(self.a(maps))
        branch += self.b(maps)
        branch = branch.relu_()
        return branch * self.gate(branch.mean((2, 3), keepdim=True)).sigmoid()


def every_choice(monkeypatch: pytest.MonkeyPatch, run: Callable[[], Tensor]) -> dict[tuple[int, int | None], Tensor]:
    """Run with each switch and each way to group objects; return the outputs by both."""
    found, queue, asked = {}, [(0, None)], []

    def choose(*args: Any) -> Any:
        choices = Arrangements(*args)
        if not asked:
            asked.append(True)
            queue.extend((switch, bucket) for switch in choices.switches for bucket in choices.buckets)
        switch, bucket = queue[0]
        return choices.at(switch, bucket) if switch else choices.dense

    monkeypatch.setattr(schedule, "choose", choose)
    monkeypatch.setattr(KnownBatches, "keep", lambda *_: None)
    while queue:
        output = run()
        found[queue.pop(0)] = output
    return found


@pytest.mark.parametrize("border", [None, "infinite"])
@pytest.mark.parametrize("middle", [*MIDDLES, "residual"])
def test_equal_wherever_windows_end(monkeypatch: pytest.MonkeyPatch, middle: str, border: str | None) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = small(MIDDLES[middle]) if middle in MIDDLES else Net(Residual()).double().eval()
    model = model if border is None else bl.convert(model, border, background=0.2 if border == "infinite" else 0.0)
    canvas = 0.3 * photograph(3, torch.float64, (48, 50))
    objects = torch.stack([patch(8, seed, torch.float64) for seed in (1, 2)])
    expected = whole_canvases(model, objects, GRID, canvas)
    found = every_choice(monkeypatch, lambda: bl.place(model, objects, GRID, background=canvas))
    assert len(found) >= 4 or middle == "group norm"
    for way, got in found.items():
        assert (got - expected).abs().max() <= 1e-12 * expected.abs().max(), way
