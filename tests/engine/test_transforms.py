"""A converted model under `torch.func` and `torch.jit.trace`: the same outputs and gradients, and the same program."""

import pytest
import torch
from torch import Tensor, nn

import borderless as bl
from support.networks import residual

BORDERS = ["zero", "reflect", "circular", "full", "infinite"]


def images(seed: int) -> Tensor:
    return torch.randn(3, 3, 25, 25, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def converted(border: str, phase: str) -> nn.Module:
    stem = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
    return bl.convert(nn.Sequential(*stem, residual()).double().eval(), border, phase=phase)


@pytest.mark.filterwarnings("ignore::borderless.ApproximatePhaseWarning")
@pytest.mark.parametrize("phase", ["fixed", "adaptive"])
@pytest.mark.parametrize("border", BORDERS)
def test_vmap_gives_the_outputs_and_the_gradients_of_single_images(border: str, phase: str) -> None:
    model, batch = converted(border, phase), images(1)
    with torch.no_grad():
        mapped = torch.func.vmap(lambda image: model(image[None])[0])(batch)
        torch.testing.assert_close(mapped, model(batch))
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(weights: dict[str, Tensor], image: Tensor) -> Tensor:
        return torch.func.functional_call(model, weights, (image[None],)).square().mean()

    per_sample = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, batch)
    model(batch[1:2]).square().mean().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(per_sample[name][1], parameter.grad)


class InPlace(nn.Module):
    """What runs otherwise with gradients than without: a changed background, a window that grows, a join in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(3, 2, 1)

    def forward(self, batch: Tensor) -> Tensor:
        maps = self.first(batch).relu_()
        larger = self.second(maps)
        larger += maps
        return self.pool(larger).mean((2, 3))


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(("border", "phase"), [("full", "fixed"), ("infinite", "fixed"), ("infinite", "adaptive")])
def test_a_trace_passes_its_check_and_runs_other_images(border: str, phase: str) -> None:
    """The check of PyTorch traces once more, without gradients, and compares the programs."""
    model = bl.convert(InPlace().double(), border, phase=phase)
    traced = torch.jit.trace(model, images(1))
    torch.testing.assert_close(traced(images(2)), model(images(2)))
