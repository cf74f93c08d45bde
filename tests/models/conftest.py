"""Networks whose every weight and statistic is drawn, so that a wrong or a forgotten one shows."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from borderless.models import load


def drawn_network(name: str, *, thin: int = 1, without: str | None = None, **options: object) -> nn.Module:
    """The network in float64, with one channel in `thin`, and with an identity in the place of the part `without`."""
    with torch.device("meta"):
        model = load(name, **options)
    if without:
        setattr(model, without, nn.Identity())
    if thin > 1:
        _thin_(model, thin)
    model.to_empty(device="cpu").double()
    for entry in model.state_dict().values():
        if entry.ndim > 2:
            nn.init.kaiming_normal_(entry)
        elif entry.ndim == 2:
            entry.normal_(0, 0.1)
        elif entry.is_floating_point():  # biases and BatchNorm: of a size that keeps deep networks in range
            entry.uniform_(0.3, 0.9)
        else:
            entry.zero_()
    return model


def _thin_(model: nn.Module, thin: int) -> None:
    for module in model.modules():
        for name, entry in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            sides = list(entry.shape[:2])
            for axis, side in enumerate(sides):
                is_image_or_logits = side == 3 or (axis == 0 and module is model.fc)
                sides[axis] = side if is_image_or_logits else side // thin
            kept = entry.data[tuple(slice(side) for side in sides)] if sides else entry.data
            setattr(module, name, nn.Parameter(kept) if isinstance(entry, nn.Parameter) else kept)


@pytest.fixture
def drawn() -> Callable[..., nn.Module]:
    return drawn_network
