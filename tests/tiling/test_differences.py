"""`assert_tiled_equals_whole` passes for what is exact, and names the first call that is not."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function

import borderless as bl
from borderless.rules import rule
from support.tiled_networks import Decoder, Several, seeded

IMAGE = torch.rand(1, 2, 31, 27, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("model", [Decoder(), Decoder("group"), Several()], ids=["batch", "group", "several"])
def test_exact_networks_pass(model: nn.Module) -> None:
    bl.testing.assert_tiled_equals_whole(seeded(model), IMAGE, tile=7, tolerance=1e-12)


def less_its_largest(image: Tensor) -> Tensor:
    return image - image.amax()


@rule(less_its_largest, needs="cell")
def _wrong(func: Any, signal: Any) -> Any:
    """Say that each cell reads its own alone, which is not so."""
    return signal.derive(less_its_largest(signal.window), signal.background)


class Wrong(nn.Module):
    """Its middle is wrong on parts."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Conv2d(2, 2, 3, padding=1), Middle(), nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.last(self.middle(self.first(image)))


class Middle(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        if has_torch_function((image,)):
            return handle_torch_function(less_its_largest, (image,), image)
        return less_its_largest(image)


def test_the_first_call_that_differs_is_named() -> None:
    with pytest.raises(
        AssertionError, match=r"first call whose parts differ is .*less_its_largest in module 'middle' \(Middle\), by"
    ):
        bl.testing.assert_tiled_equals_whole(seeded(Wrong()), IMAGE, tile=7)


def test_a_tile_as_large_as_the_image_proves_nothing() -> None:
    with pytest.raises(ValueError, match="tiles smaller than the image"):
        bl.testing.assert_tiled_equals_whole(seeded(Decoder()), IMAGE, tile=40)
