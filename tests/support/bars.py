"""A small task that is learned in a moment, and a network for it."""

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset


class Bars(Dataset[tuple[Tensor, int]]):
    """A bar that lies or stands somewhere, in noise."""

    def __init__(self, count: int, seed: int, noise: float = 0.3) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.images = noise * torch.randn(count, 1, 8, 8, generator=draw)
        self.labels = torch.arange(count) % 2
        for image, label in zip(self.images, self.labels, strict=True):
            at = int(torch.randint(8, (), generator=draw))
            image[0, at if label else slice(None), slice(None) if label else at] += 1

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])


def network(dropout: float = 0.2, norm: bool = True) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 2),
        )


def weights_equal(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
