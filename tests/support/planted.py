"""Networks whose use of location is known, because it was put there."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import borderless as bl
from borderless.data import rook
from borderless.data.drawings import ROOK
from borderless.models.location import RookNet
from borderless.runtime.evaluation import one_thread


def trained_rook(border: str, seed: int = 0, epochs: int = 20) -> nn.Module:
    """The paper's network, trained to tell where the rook stands; under its own padding if that is zero."""
    torch.manual_seed(seed)
    model: nn.Module = RookNet()
    if border != "zero":
        model = bl.convert(model, border)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with one_thread():
        for _ in range(epochs):
            for image, label in zip(rook.images(), rook.labels(), strict=True):
                optimizer.zero_grad()
                F.cross_entropy(model(image[None]), label[None]).backward()
                optimizer.step()
    return model.eval()


def rooks() -> Tensor:
    """The piece itself, (1, 1, height, width)."""
    return torch.from_numpy(ROOK).float()[None, None] / 9


def network(bias: bool = True, stride: int = 2, padding: int = 1, seed: int = 0, **options: Any) -> nn.Sequential:
    """Two convolutions, a global pool, three classes; weights random, biases of about 1 or none."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride, padding, bias=bias, **options),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride, padding, bias=bias),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    for module in model:
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.normal_(module.bias)
    return model.eval()
