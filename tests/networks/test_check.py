"""The benchmark of other packages' networks tells exact from wrong, and both from what the library says itself."""

import json

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

import borderless as bl
from benchmarks.networks import Network
from benchmarks.networks.check import check
from benchmarks.networks.page import page


class Ends(nn.Module):
    """A strided convolution, a decoder, and what `end` makes of the map."""

    def __init__(self, end: object):
        super().__init__()
        self.down, self.norm = nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4)
        self.up, self.end = nn.ConvTranspose2d(4, 2, 2, 2), end

    def forward(self, images: Tensor) -> Tensor:
        return self.end(self.up(self.norm(self.down(images)).relu()))


def ramp(maps: Tensor) -> Tensor:
    """Position dependent, and declared wrongly below: as reading each cell alone."""
    if has_torch_function_unary(maps):
        return handle_torch_function(ramp, (maps,), maps)
    return maps * torch.linspace(0, 1, maps.shape[-1], dtype=maps.dtype)


bl.rules.cellwise(ramp)


def tokens(maps: Tensor) -> Tensor:
    rows = maps.flatten(2).transpose(1, 2)
    return torch.softmax(rows @ rows.transpose(1, 2), 2) @ rows


def boxes(maps: Tensor) -> Tensor:
    """The cells of two scales in one list, as a detection head has them."""
    return torch.cat([maps.flatten(2), nn.functional.max_pool2d(maps, 2).flatten(2)], 2).sigmoid()


def needs_what_is_not_there() -> nn.Module:
    raise ModuleNotFoundError("No module named 'elsewhere'")


def breaks_on_a_converted_model(maps: Tensor) -> Tensor:
    if isinstance(maps, bl.Signal):
        raise KeyError("theirs")
    return maps


CASES = {
    "exact": lambda: Ends(lambda maps: maps),
    "exact, then leaves": lambda: Ends(boxes),
    "position dependent": lambda: Ends(nn.Sequential(nn.Flatten(), nn.Linear(2 * 64 * 64, 3))),
    "refused": lambda: Ends(tokens),
    "inexact": lambda: Ends(ramp),
    "failed": lambda: Ends(breaks_on_a_converted_model),
    "not installed": needs_what_is_not_there,
    "without power": lambda: Ends(lambda maps: 0 * maps.mean((2, 3)) + 1),
}


@pytest.mark.parametrize("category", CASES)
def test_a_network_is_what_it_is(category: str) -> None:
    row = json.loads(json.dumps(check(f"own/{category}", Network(CASES[category], (1, 64, 64)))))
    assert row["category"] == category, row
    shown = page({row["key"]: row}, ["abc"])
    assert f"## {category.capitalize()} (1)" in shown and "commit abc" in shown
    if category == "exact":
        assert row["float32"]["zero"]["bitwise"] and row["float32"]["infinite"]["total_stride"] == [2, 2]
        assert row["float32"]["infinite"]["cost"] > 1
        assert set(row["float32"]["adaptive"]["errors"]) == {"noise", "square", "disc"}
        assert set(row["float32"]["place"]["errors"]) == {"zero", "infinite"}
