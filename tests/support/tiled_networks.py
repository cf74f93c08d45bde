"""Small networks with larger receptive fields than the tiles of the tests."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Decoder(nn.Module):
    """Stride 2 and back, with a skip; the receptive field is 20 px."""

    def __init__(self, norm: str = "batch") -> None:
        super().__init__()

        def layer(inputs: int, outputs: int, **how: int) -> nn.Sequential:
            kinds = {"batch": nn.BatchNorm2d(outputs), "group": nn.GroupNorm(2, outputs)}
            return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, **how), kinds[norm], nn.ReLU(inplace=True))

        self.first, self.down, self.deep = layer(2, 4), layer(4, 6, stride=2), layer(6, 6)
        self.up = nn.ConvTranspose2d(6, 4, 2, 2)
        self.last = layer(8, 4)

    def forward(self, image: Tensor) -> Tensor:
        skip = self.first(image)
        up = self.up(self.deep(self.down(skip)))
        return self.last(
            torch.cat([skip, F.pad(up, [0, skip.shape[3] - up.shape[3], 0, skip.shape[2] - up.shape[2]])], 1)
        )


class Several(nn.Module):
    """A dense map, one of half the size, and a vector for the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.coarse = nn.Conv2d(2, 3, 5, padding=2), nn.Conv2d(3, 2, 3, 2, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor | tuple[Tensor, Tensor]]:
        dense = self.dense(image).relu()
        half = self.coarse(dense)
        return {"dense": dense, "rest": (half, half.mean((2, 3)))}


def seeded(model: nn.Module, seed: int = 0) -> nn.Module:
    """`model` with random weights and statistics, in eval mode and float64."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in (*model.named_parameters(), *model.named_buffers()):
            if value.is_floating_point():
                drawn = torch.rand(value.shape, generator=generator)
                value.copy_(drawn + 0.5 if "var" in name else (drawn - 0.5))
    return model.eval().double()
