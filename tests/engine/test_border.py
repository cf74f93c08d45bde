"""Networks of several layers under each border: gradients, the windows of `valid`, APS proper, maps that move along."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import borderless as bl
from support.networks import Residual, patch, placed, randomised, relative_change, residual

BORDERS = ["valid", "zero", "reflect", "replicate", "circular", "full", "infinite"]
EVERY_BORDER_AND_PHASE = [(border, "fixed") for border in BORDERS] + [("infinite", "adaptive")]


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("border", "phase"), EVERY_BORDER_AND_PHASE)
def test_gradcheck_in_training_mode(border: str, phase: str) -> None:
    """By the image and by every parameter; batch statistics, max pool, residual join and stride included."""
    model = residual(channels=2, in_channels=1, classes=2).double().train()
    converted = bl.convert(model, border, phase=phase)
    images = noise(2, 1, *((14, 15) if border == "valid" else (8, 7))).requires_grad_()
    names, parameters = zip(*converted.named_parameters(), strict=True)

    def logits(images: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(converted, dict(zip(names, parameters, strict=True)), (images,))

    assert logits(images, *parameters).requires_grad
    fast = border == "valid"  # it needs a larger image
    assert torch.autograd.gradcheck(logits, (images, *parameters), fast_mode=fast)


@pytest.mark.parametrize("border", BORDERS)
def test_every_parameter_gets_a_gradient(border: str) -> None:
    model = bl.convert(residual().double().train(), border)
    F.cross_entropy(model(noise(3, 3, 30, 30)), torch.arange(3)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert all(
        parameter.grad.abs().max() > 0 for name, parameter in model.named_parameters() if name.endswith("weight")
    )


class Trunk(Residual):
    """`Residual` without pooling and head."""

    def forward(self, images: Tensor) -> Tensor:
        maps = self.pool(torch.relu(self.norm(self.stem(images))))
        maps = maps + self.branch(maps)
        return torch.relu(self.down(maps) + self.shortcut(maps))


def trunk() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return randomised(Trunk(), 0, noise(2, 3, 32, 32).float()).double()


@pytest.mark.parametrize("size", [(30, 31), (22, 41), (17, 18)], ids=str)
def test_valid_keeps_exactly_the_cells_that_never_read_padding(size: tuple[int, int]) -> None:
    """Oracle: with NaN in place of the outside, the cells that stay finite."""
    model, images = trunk(), noise(2, 3, *size)
    padding_px = 40
    with torch.inference_mode():
        poisoned = model(F.pad(images, [padding_px] * 4, value=torch.nan))
        signal = bl.convert(model, "valid", output="signal")(images)
        own = model(images)
    finite = poisoned.isfinite().all(1).all(0)
    rows, columns = finite.any(1).nonzero().flatten(), finite.any(0).nonzero().flatten()
    assert tuple(signal.start) == (rows[0] - padding_px // 4, columns[0] - padding_px // 4)
    assert tuple(signal.window.shape[2:]) == (len(rows), len(columns))
    assert tuple(signal.frame) == tuple(own.shape[2:])
    expected = poisoned[:, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert (signal.window - expected).abs().max() <= 1e-10


@pytest.mark.parametrize("shift", [(1, 0), (0, 3), (5, 7), (8, 4)], ids=str)
def test_circular_with_adaptive_phase_is_aps_proper(shift: tuple[int, int]) -> None:
    """On a torus whose size is a multiple of the total stride every roll of the image gives the same logits."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 5),
        )
        model = randomised(model, 0, noise(2, 3, 16, 16).float()).double()
    images = noise(2, 3, 16, 24)
    moved = torch.stack([images[0].roll(shift, (1, 2)), images[1]])  # one sample moves, the other stays
    with torch.inference_mode():
        converted, fixed = bl.convert(model, "circular", phase="adaptive"), bl.convert(model, "circular")
        assert relative_change(converted(images), converted(moved)) <= 1e-12
        if any(amount % 4 for amount in shift):
            assert relative_change(fixed(images), fixed(moved)) > 1e-4, "no power"
        else:
            assert relative_change(fixed(images), fixed(moved)) <= 1e-12


def test_a_dense_map_moves_with_the_image() -> None:
    """At the fixed phase a move by the total stride moves the map by one cell; nothing else changes."""
    model = bl.convert(trunk(), "infinite", output="signal")
    thing = patch(9, 1)
    with torch.inference_mode():
        first, second = (model(placed([thing], [place], 40)) for place in [(8, 4), (12, 16)])
    assert first.start == second.start and first.window.shape == second.window.shape
    rolled = (first.window - first.background).roll((1, 3), (2, 3)) + first.background
    assert (rolled - second.window).abs().max() <= 1e-12
    assert (first.window - second.window).abs().max() > 1e-2


@pytest.mark.parametrize("place", [(0, 0), (1, 0), (3, 2), (17, 30)], ids=str)
def test_adaptive_phase_of_a_whole_batch_equals_one_by_one(place: tuple[int, int]) -> None:
    """What the neighbors in the batch do has no influence on a sample's phase."""
    model = bl.convert(residual().double(), "infinite", phase="adaptive")
    images = placed([patch(9, 1), patch(9, 2), patch(9, 3)], [place, (5, 6), (30, 1)], 40)
    with torch.inference_mode():
        together = model(images)
        alone = torch.cat([model(image[None]) for image in images])
    assert relative_change(together, alone) <= 1e-13


def test_adaptive_phase_with_nothing_to_choose_from_is_the_fixed_one() -> None:
    """On an empty canvas all sublattices tie and the first is kept."""
    model = residual().double()
    images = torch.zeros(1, 3, 24, 28, dtype=torch.float64)
    with torch.inference_mode():
        fixed, adaptive = (bl.convert(model, "infinite", phase=phase)(images) for phase in ("fixed", "adaptive"))
    assert relative_change(fixed, adaptive) <= 1e-12
