"""Where a maximum was, of cells that are equal but for rounding: of all background, the same at every position."""

import pytest
import torch
from torch import Tensor, nn

import borderless as bl


class Unpooling(nn.Module):
    """Convolutions after instance norms, two pools, and back to where their maxima were, as QuickNAT does."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third, self.fourth = (
            nn.Sequential(nn.InstanceNorm2d(inputs), nn.PReLU(inputs), nn.Conv2d(inputs, 4, 5, padding=2))
            for inputs in (2, 4, 4, 4)
        )
        self.pool, self.unpool = nn.MaxPool2d(2, 2, return_indices=True), nn.MaxUnpool2d(2, 2)

    def forward(self, image: Tensor) -> Tensor:
        half, where = self.pool(self.first(image))
        quarter, where_in_half = self.pool(self.second(half))
        back = self.unpool(self.third(quarter), where_in_half)
        return self.unpool(self.fourth(back), where)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("seed", range(4))
@torch.no_grad()
def test_unpooled_background_is_the_same_at_every_position(seed: int, dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(seed)
    model = bl.convert(Unpooling().to(dtype).eval(), "infinite")
    image = torch.zeros(1, 2, 32, 32, dtype=dtype)
    image[..., 8:20, 6:18] = torch.randn(1, 2, 12, 12, dtype=dtype)
    here, moved = model(image), model(image.roll((8, 4), (2, 3)))
    assert (moved[..., 8:, 4:] - here[..., :-8, :-4]).abs().max() <= tolerance * here.abs().max()
