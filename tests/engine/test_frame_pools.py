"""An average pool as large as the frame is a map where the model goes on with a map, and a vector elsewhere."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import borderless as bl


class Then(nn.Module):
    """A convolution, an average pool of 4 × 4 cells, and `body`."""

    def __init__(self, body: Callable[..., Tensor], pool: nn.Module | None = None):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.next = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.point, self.norm, self.head = nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6), nn.Linear(6, 3)
        self.pool = pool or nn.AvgPool2d(4)
        self.body = body
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5)
        nn.init.normal_(self.norm.running_mean)
        self.double().eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.body(self, self.pool(self.first(images)))


VECTORS: dict[str, Callable[..., Tensor]] = {
    "flatten": lambda m, x: m.head(x.flatten(1)),
    "view": lambda m, x: m.head(x.view(x.size(0), -1)),
    "squeeze": lambda m, x: m.head(x.squeeze(-1).squeeze(-1)),
    "index": lambda m, x: m.head(x[:, :, 0, 0]),
    "mean": lambda m, x: m.head(x.mean((2, 3))),
    "returned": lambda m, x: x,
    "convolution of one cell, norm, ReLU": lambda m, x: m.norm(m.point(x)).relu().flatten(1),
    "in place": lambda m, x: m.head(x.relu_().mul_(2).flatten(1)),
    "dropout and a sum": lambda m, x: m.head((F.dropout(x, training=False) + x.tanh()).flatten(1)),
    "power": lambda m, x: x.clamp(min=1e-6).pow(1 / 3).flatten(1),
}


@pytest.mark.parametrize("border", ["infinite", "full", "circular"])
@pytest.mark.parametrize("body", VECTORS.values(), ids=VECTORS)
def test_a_flattened_pool_is_global(body: Callable[..., Tensor], border: str) -> None:
    """As the adaptive pool of the same model, without a word of position."""
    images = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    expected = bl.convert(Then(body, nn.AdaptiveAvgPool2d(1)), border)(images)  # pyright: ignore[reportArgumentType]
    got = bl.convert(Then(body), border, strict=True)(images)  # pyright: ignore[reportArgumentType]
    assert torch.allclose(got, expected, rtol=1e-12, atol=1e-12)


MAPS: dict[str, Callable[..., Tensor]] = {
    "convolution": lambda m, x: m.next(x),
    "convolution after others": lambda m, x: m.next(m.norm(m.point(x)).relu_()),
    "pad": lambda m, x: m.next(F.pad(x, [1, 0, 1, 0])),
    "max pool": lambda m, x: F.max_pool2d(m.point(x), 3, 1, 1),
    "joined with a map of one cell": lambda m, x: m.next(x) + x,
    "concatenated with one": lambda m, x: torch.cat([x.tanh(), m.next(x)], 1),
    "upsampled": lambda m, x: m.next(F.interpolate(x, scale_factor=2)),
    "in place after a look": lambda m, x: m.next(x) + m.next(x.mul_(2)),
}


@pytest.mark.parametrize("body", MAPS.values(), ids=MAPS)
def test_a_pool_in_the_middle_is_local(body: Callable[..., Tensor]) -> None:
    """The same cells as on a canvas that is twice as large, where the kernel is smaller than the frame."""
    images = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    model = bl.convert(Then(body), "infinite", output="signal")
    small, large = model(images), model(F.pad(images, [0, 4, 0, 4]))
    assert isinstance(small, bl.Signal) and isinstance(large, bl.Signal)
    read = tuple((a, b) for a, b in small.box)
    assert (small.window - large.read(read)).abs().max() <= 1e-12


@pytest.mark.parametrize("training", [False, True])
def test_a_norm_does_not_change_what_a_pool_means(training: bool) -> None:
    """The shortcut of a ResNet-D on a small image: in training its norm sees the same map as afterwards."""
    images = torch.randn(1, 1, 4, 4, dtype=torch.float64)
    body = lambda m, x: m.next(x) + F.relu(m.norm(m.point(x)), inplace=True)  # noqa: E731
    small, large = (bl.convert(Then(body).train(training), "infinite", output="signal") for _ in range(2))
    got, expected = small(images), large(F.pad(images, [0, 4, 0, 4]))
    assert isinstance(got, bl.Signal) and isinstance(expected, bl.Signal)
    if training:  # windows of unequal sizes have unequal statistics
        assert got.window.shape[2:] == (5, 5)
        assert not torch.equal(small.norm.running_mean, Then(body).norm.running_mean)
    else:
        assert (got.window - expected.read(got.box)).abs().max() <= 1e-12


def test_a_norm_in_training_runs_once() -> None:
    body = lambda m, x: m.head(m.norm(m.point(x)).relu().flatten(1))  # noqa: E731
    images = torch.randn(8, 1, 4, 4, dtype=torch.float64)
    model = bl.convert(Then(body).train(), "infinite")
    before = model.norm.running_mean.clone()
    model(images)
    other = bl.convert(Then(body, nn.AdaptiveAvgPool2d(1)).train(), "infinite")
    other(images)
    assert torch.allclose(model.norm.running_mean, other.norm.running_mean)
    assert not torch.equal(model.norm.running_mean, before)


def test_a_pool_that_leaves_as_a_signal_is_a_map() -> None:
    images = torch.randn(1, 1, 4, 4)
    signal = bl.convert(nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.AvgPool2d(4)), "infinite", output="signal")(
        images
    )
    assert isinstance(signal, bl.Signal) and signal.frame == (1, 1) and signal.window.shape[2:] == (3, 3)


def test_a_pool_larger_than_the_frame_costs_no_more_than_the_frame() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.AvgPool2d(640, ceil_mode=True), nn.Flatten())
    images = torch.randn(1, 1, 4, 4)
    expected = bl.convert(nn.Sequential(model[0], nn.AdaptiveAvgPool2d(1), nn.Flatten()), "infinite")(images)
    assert torch.allclose(bl.convert(model, "infinite", strict=True)(images), expected)


@pytest.mark.parametrize("border", ["zero", "full", "infinite"])
@pytest.mark.parametrize("name", ["flatten", "convolution after others"])
def test_placement_is_as_whole_canvases(name: str, border: str) -> None:
    body = {**VECTORS, **MAPS}[name]
    model = bl.convert(Then(body, nn.AvgPool2d(12)), border)  # pyright: ignore[reportArgumentType]
    patch = torch.randn(1, 3, 3, dtype=torch.float64)
    positions = [(0, 0), (4, 5), (9, 9)]
    placed = bl.place(model, patch, positions, canvas=(12, 12))
    for (row, column), got in zip(positions, placed, strict=True):
        canvas = torch.zeros(1, 1, 12, 12, dtype=torch.float64)
        canvas[..., row : row + 3, column : column + 3] = patch
        assert (got - model(canvas)).abs().max() <= 1e-10
