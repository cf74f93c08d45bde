"""Norms and reductions over space: the same wherever the object is, whatever the phase, however PyTorch is called."""

import copy
import warnings
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
import torch
import torchvision
from hypothesis import given, settings
from torch import Tensor, nn
from torch.nn import functional as F

import borderless as bl
from support.endless_plane import on_a_huge_canvas

CHANNELS = 4
SPREADS: dict[str, Callable[[Tensor], Tensor]] = {
    "std": lambda x: x.std((2, 3)),
    "var, biased": lambda x: torch.var(x, dim=(2, 3), correction=0),
    "var_mean": lambda x: torch.cat(torch.var_mean(x, (2, 3)), 1),
    "norm 2": lambda x: x.norm(dim=(2, 3)),
    "norm 3": lambda x: torch.linalg.vector_norm(x, 3, (2, 3)),
    "norm inf": lambda x: torch.linalg.vector_norm(x, float("inf"), (2, 3)),
    "norm over channels too": lambda x: torch.norm(x, 2, dim=(1, 2, 3)),
    "GRN": lambda x: (x / (x.norm(dim=(2, 3), keepdim=True).mean(1, keepdim=True) + 1e-6)).mean((2, 3)),
    "mean": lambda x: x.mean((2, 3)),
    "sum": lambda x: x.sum((2, 3)),
    "amax": lambda x: x.amax((2, 3)),
}
NORMS: dict[str, Callable[[], nn.Module]] = {
    "InstanceNorm": lambda: nn.InstanceNorm2d(CHANNELS, affine=True),
    "InstanceNorm with running statistics": lambda: nn.InstanceNorm2d(CHANNELS, track_running_stats=True).train(),
    "GroupNorm": lambda: nn.GroupNorm(2, CHANNELS),
    "BatchNorm in training": lambda: nn.BatchNorm2d(CHANNELS).train(),
    **{name: lambda spread=spread: Spread(spread) for name, spread in SPREADS.items()},
}


class Spread(nn.Module):
    def __init__(self, spread: Callable[[Tensor], Tensor]):
        super().__init__()
        self.spread = spread

    def forward(self, maps: Tensor) -> Tensor:
        return maps * torch.sigmoid(self.spread(maps)).reshape(len(maps), -1).mean(1)[:, None, None, None]


def upsampled(norm: nn.Module, stride: int, up: str) -> nn.Module:
    """A norm on a map whose background is a tile of stride × stride cells."""
    spread = {
        "transposed": nn.ConvTranspose2d(CHANNELS, CHANNELS, stride, stride),
        "overlapping": nn.ConvTranspose2d(CHANNELS, CHANNELS, stride + 1, stride, padding=stride // 2),
        "shuffle": nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS * stride**2, 1), nn.PixelShuffle(stride)),
        "none": nn.Identity(),
    }[up]
    first = nn.Conv2d(1, CHANNELS, 3, stride, 1)
    model = nn.Sequential(first, nn.ReLU(), spread, norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    torch.manual_seed(1)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.double()


def at(position: tuple[int, int], canvas: int = 25) -> Tensor:
    image = torch.zeros(1, 1, canvas, canvas, dtype=torch.float64)
    cells = torch.randn(5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    image[..., position[0] : position[0] + 5, position[1] : position[1] + 6] = cells
    return image


@pytest.mark.parametrize("phase", ["fixed", "adaptive"])
@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=6)
@given(
    stride=st.integers(1, 3),
    up=st.sampled_from(["transposed", "overlapping", "shuffle", "none"]),
    shift=st.tuples(st.integers(-3, 9), st.integers(-3, 9)),
)
def test_statistics_do_not_depend_on_position_or_phase(
    norm: str, phase: str, stride: int, up: str, shift: tuple[int, int]
) -> None:
    if phase == "fixed":
        shift = (shift[0] // stride * stride, shift[1] // stride * stride)
    model = upsampled(NORMS[norm](), stride, up)
    converted = bl.convert(model, "infinite", phase=phase)  # pyright: ignore[reportArgumentType]
    here, there = converted(at((6, 6))), copy.deepcopy(converted)(at((6 + shift[0], 6 + shift[1])))
    assert here.isfinite().all()
    assert (here - there).abs().max() <= 1e-11 * here.abs().max()


@pytest.mark.parametrize("name", [n for n in SPREADS if n not in ("mean", "sum", "GRN")])
def test_spreads_over_a_constant_background_are_those_of_the_window(name: str) -> None:
    images = torch.randn(2, 3, 7, 9, dtype=torch.float64)
    conv = nn.Conv2d(3, CHANNELS, 3, padding=1).double()
    huge = on_a_huge_canvas(conv, images, 8, 1)[..., 7:-7, 7:-7]
    with torch.no_grad():
        expected = SPREADS[name](huge)
        got = bl.convert(_After(conv, SPREADS[name]), "infinite")(images)
    assert (got - expected).abs().max() <= 1e-12


class _After(nn.Module):
    def __init__(self, first: nn.Module, then: Callable[[Tensor], Tensor]):
        super().__init__()
        self.first, self.then = first, then

    def forward(self, images: Tensor) -> Tensor:
        return self.then(self.first(images))


CALLS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean(axis=, keepdims=)": lambda x: x * x.mean(axis=(2, 3), keepdims=True),
    "mean(dtype=)": lambda x: torch.mean(x, (2, 3), dtype=torch.float64),
    "mean(dim, keepdim)": lambda x: x.mean((-2, -1), True),
    "sum(dtype=)": lambda x: x.sum(dim=(2, 3), dtype=torch.float64),
    "sum of a mask": lambda x: (x > 0).sum((2, 3)),
    "mean of everything": lambda x: x.mean(),
    "sum([])": lambda x: x.sum([]),
    "std(dim, unbiased)": lambda x: x.std((2, 3), False),
    "std(dim, unbiased, keepdim)": lambda x: x.std((2, 3), True, True),
    "std(unbiased)": lambda x: x.std(False),
    "var(unbiased=)": lambda x: torch.var(x, dim=(2, 3), unbiased=False, keepdim=True),
    "std_mean": lambda x: torch.std_mean(x, (2, 3), correction=0)[1],
    "norm(p, dim, keepdim)": lambda x: x.norm(2, (2, 3), True),
    "torch.norm(dim=, p='fro')": lambda x: torch.norm(x, dim=(2, 3), p="fro"),
    "norm(dtype=)": lambda x: torch.linalg.vector_norm(x, 2, (2, 3), dtype=torch.float64),
    "max(dim=, keepdim=) of channels": lambda x: x.max(dim=1, keepdim=True)[0],
    "max(axis=)": lambda x: torch.max(x, axis=1)[0],
    "amax(dim=, keepdims=)": lambda x: x.amax(dim=(2, 3), keepdims=True),
    "mean over channels": lambda x: x.mean(axis=1, keepdims=True),
}


@pytest.mark.parametrize("border", ["zero", "circular"])
@pytest.mark.parametrize("call", CALLS)
def test_arguments_mean_what_pytorch_says(call: str, border: str) -> None:
    """A kernel of one cell: under any of these borders the frame is all there is."""
    model = _After(nn.Conv2d(3, 9, 1), CALLS[call])  # as many channels as columns: shapes alone would not tell
    images = torch.randn(2, 3, 7, 9)
    expected, got = model(images), bl.convert(model, border)(images)  # pyright: ignore[reportArgumentType]
    assert got.shape == expected.shape and got.dtype == expected.dtype
    assert torch.allclose(got, expected)


def test_half_precision_sums_in_the_type_that_was_asked_for() -> None:
    model = _After(nn.Identity(), lambda x: x.sum((2, 3), dtype=torch.float32))
    for border in ("zero", "infinite"):
        assert bl.convert(model, border)(torch.ones(1, 1, 600, 600).half()) == 360000.0  # pyright: ignore[reportArgumentType]


def test_gradients_lost_in_a_custom_function_are_refused_before_a_pool() -> None:
    class Reversed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1.0

        @staticmethod
        def backward(ctx, gradient):
            return -gradient

    pools = (lambda x: x.mean((2, 3)), lambda x: x.amax((2, 3)), lambda x: x.std((2, 3)), nn.AdaptiveAvgPool2d(1))
    for pool in (*pools, nn.AdaptiveMaxPool2d(1), nn.AvgPool2d(8)):
        model = bl.convert(
            _After(nn.Conv2d(1, 2, 3, padding=1), lambda x, pool=pool: pool(Reversed.apply(x))), "infinite"
        )
        with pytest.raises(bl.UnsupportedOperation, match="'Reversed'"):
            model(torch.randn(1, 1, 8, 8))


def test_counting_the_window_keeps_the_scale_of_the_unmodified_model() -> None:
    """Random layers and images that fill the frame: frame's count gives several times as much."""
    torch.manual_seed(0)
    layers = [m for i in range(6) for m in (nn.Conv2d(3 if i == 0 else 16, 16, 3, padding=1), nn.ReLU())]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    for layer in layers[::2]:
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    images = torch.randn(32, 3, 4, 4, dtype=torch.float64)
    own = model(images).mean()
    frame, window = (bl.convert(model, bl.Border("infinite", count=c))(images).mean() for c in ("frame", "window"))
    assert frame > 2 * own and 0.5 * own < window < 2 * own
    deviations = F.conv2d(images, layers[0].weight, padding=2)  # 6 cells along each axis, of which the root of 24 count
    one = bl.convert(nn.Sequential(layers[0], nn.AdaptiveAvgPool2d(1)), bl.Border("infinite", count="window"))(images)
    assert torch.allclose(one[..., 0, 0], deviations.sum((2, 3)) / 24)


def test_a_sum_is_the_mean_times_the_cells_of_the_frame() -> None:
    model = nn.Conv2d(1, 4, 5, padding=2).double()
    image = torch.randn(1, 1, 6, 7, dtype=torch.float64)
    for count in ("frame", "window"):
        border = bl.Border("infinite", count=count)
        total = bl.convert(_After(model, lambda x: x.sum((2, 3))), border)(image)
        assert torch.allclose(total, bl.convert(_After(model, lambda x: x.mean((2, 3))), border)(image) * 42)


def test_count_is_checked() -> None:
    with pytest.raises(bl.BorderError, match="Expected count to be one of frame, window but got 'cells'"):
        bl.Border("infinite", count="cells")  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        bl.BorderError, match="Expected count with the border 'infinite' but got count='window' with 'full'"
    ):
        bl.Border("full", count="window")
    assert repr(bl.Border("infinite", count="window")) == "Border('infinite', count='window')"


def test_a_mean_larger_than_all_that_it_averages_warns_once() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1 if i == 0 else 2, 2, 7, padding=3) for i in range(4)]
    for layer in layers:
        nn.init.constant_(layer.weight, 0.02)
        nn.init.zeros_(layer.bias)
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1)).eval()
    images = torch.ones(1, 1, 2, 2)
    converted = bl.convert(model, "infinite")
    with pytest.warns(bl.RoundingWarning, match=r"module '4' \(AdaptiveAvgPool2d\).*count='window'"):
        converted(images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        converted(images)
        bl.convert(model, bl.Border("infinite", count="window"))(images)
        bl.convert(model, "infinite")(torch.nn.functional.pad(images, [30] * 4))


@pytest.mark.parametrize("count", ["frame", "window"])
@pytest.mark.parametrize("norm", NORMS)
def test_placement_takes_the_statistics_of_the_canvas(norm: str, count: str) -> None:
    border = bl.Border("infinite", count=count)  # pyright: ignore[reportArgumentType]
    model = bl.convert(upsampled(NORMS[norm](), 2, "transposed").eval(), border)
    patch = at((0, 0))[0, :, :5, :6]
    positions = [(6, 6), (7, 9), (0, 0), (20, 19), (-2, 5)]
    placed = bl.place(model, patch, positions, canvas=(25, 25))
    for position, got in zip(positions, placed, strict=True):
        canvas = F.pad(torch.zeros(1, 1, 25, 25, dtype=torch.float64), [8] * 4)
        row, column = (p + 8 for p in position)
        canvas[..., row : row + 5, column : column + 6] = patch
        expected = model(canvas[..., 8:-8, 8:-8])
        assert (got - expected).abs().max() <= 1e-10 * expected.abs().max()


def test_explain_says_by_how_much_features_grow() -> None:
    layers = [nn.Conv2d(3 if i == 0 else 8, 8, 3, padding=1) for i in range(4)]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    (mean,) = bl.explain(model, (4, 6)).means
    assert (mean.module, mean.frame, mean.window) == ("4", (4, 6), (12, 14))
    assert mean.growth == pytest.approx((16 + 32) ** 0.5 * (36 + 32) ** 0.5 / 24)
    assert "4: 4×6 cells in a window of 12×14; on images that fill the frame about 2.4 ×" in str(
        bl.explain(model, (4, 6))
    )
    assert "count='window'" in str(bl.explain(model, (4, 6))).splitlines()[-2]  # the last one is of tiles
    counted = bl.explain(model, (4, 6), bl.Border("infinite", count="window"))
    assert counted.means[0].growth == 1 and "to train" not in str(counted)
    assert bl.explain(model, (4, 6), "full").means == ()


@pytest.mark.nightly
@pytest.mark.parametrize("reach", [None, 2])
def test_a_resnet_trains_from_random_weights_when_the_window_is_counted(reach: int | None) -> None:
    """SGD 0.01 with momentum 0.9 on six images of 64 px, where counting the frame diverges."""
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=3).train()
    model = bl.convert(model, bl.Border("infinite", reach=reach, count="window"))
    images, labels = torch.randn(6, 3, 64, 64), torch.arange(6) % 3
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    losses = []
    for _ in range(9):
        losses.append(F.cross_entropy(model(images), labels))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[8] < losses[0] / 10


@pytest.mark.parametrize("border", [None, "infinite", "reflect"])
def test_placement_refuses_statistics_of_a_batch(border: str | None) -> None:
    """Also in eval mode, where a norm without running statistics takes them."""
    norm = nn.BatchNorm2d(4, track_running_stats=False)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), norm, nn.AdaptiveAvgPool2d(1)).eval()
    model = model if border is None else bl.convert(model, border)  # pyright: ignore[reportArgumentType]
    with pytest.raises(bl.UnsupportedOperation, match="takes the statistics of its batch, and a placement"):
        bl.place(model, torch.randn(2, 1, 4, 4), [(2, 2), (9, 9)], canvas=(16, 16))
