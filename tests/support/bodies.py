"""Two convolutions and whatever a test does with their maps."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

CHANNELS = 4


class Body(nn.Module):
    """Two 3x3 convolutions of different strength, then `body(first, second)`."""

    def __init__(self, body: Callable[..., Tensor], modules: nn.Module | None = None):
        super().__init__()
        self.first = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.second = nn.Conv2d(3, CHANNELS, 5, padding=2)
        self.body = body
        self.inner = modules

    def forward(self, images: Tensor) -> Tensor:
        maps = self.first(images), self.second(images)
        return self.body(*maps) if self.inner is None else self.body(*maps, self.inner)


def seeded(body: Callable[..., Tensor], modules: Callable[[], nn.Module] | None = None) -> Body:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Body(body, modules() if modules else None).double().eval()
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.5)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
