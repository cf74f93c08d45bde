"""Maps that return to a finer grid: their output must move with the image, cell for cell.

Oracle: the unmodified operations on an image that is padded by more than they can see, cropped to the cells that both
have; and, for the phase, the network's own output of the image elsewhere.
"""

import copy

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import borderless as bl
from support.networks import patch, placed, randomised, relative_change

FAR = 24  # cells of empty image around the frame, more than the small networks below can see


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Chain(nn.Module):
    """A convolution with a bias, so that the background is not 0, then whatever is examined, then another one."""

    def __init__(self, middle: nn.Module, channels: int, dimensions: int = 2):
        super().__init__()
        conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
        self.before, self.middle = conv(2, 4, 3, padding=1), middle
        self.after = conv(channels, 3, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.after(torch.tanh(self.middle(torch.tanh(self.before(images)))))


def assert_as_on_a_large_image(model: nn.Module, factor: int, space: tuple[int, ...]) -> None:
    """`model` enlarges by `factor`; under `infinite` its frame is the middle of the large image's output."""
    model = model.double().eval()
    images = draw(1, 2, 2, *space)
    large = F.pad(images, [FAR, FAR] * len(space))
    with torch.no_grad():
        got, own, expected = bl.convert(model, "infinite")(images), model(images), model(large)
    for i in range(len(space)):
        expected = expected.narrow(2 + i, factor * FAR, factor * space[i])
    assert got.shape == own.shape
    assert relative_change(expected, got) < 1e-12
    assert relative_change(expected, own) > 1e-4, "no power: the border does not show"


@settings(max_examples=25, deadline=None)
@given(
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2]),
    dimensions=st.sampled_from([1, 2]),
)
def test_transposed_convolution(kernel: int, stride: int, dilation: int, groups: int, dimensions: int) -> None:
    extent = dilation * (kernel - 1)
    # The output is to be `stride` times the image: what the stride leaves over is padding or output padding.
    padding = (extent + 1 - stride + 1) // 2 if extent + 1 >= stride else 0
    output_padding = stride - (extent + 1) + 2 * padding
    assume(output_padding < max(stride, dilation))
    layer = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}[dimensions]
    with torch.random.fork_rng():
        torch.manual_seed(kernel + 7 * stride)
        model = Chain(
            layer(4, 6, kernel, stride, padding, output_padding, groups=groups, dilation=dilation), 6, dimensions
        )
    assert_as_on_a_large_image(model, stride, (7, 5)[:dimensions])


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic"])
def test_interpolation(mode: str, factor: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(factor)
        model = Chain(nn.Upsample(scale_factor=factor, mode=mode), 4)
    assert_as_on_a_large_image(model, factor, (6, 9))


def test_interpolation_of_a_pattern() -> None:
    """A transposed convolution leaves a background that repeats with its stride; interpolation must keep it."""
    for mode in ("nearest", "bilinear"):
        with torch.random.fork_rng():
            torch.manual_seed(5)
            middle = nn.Sequential(nn.ConvTranspose2d(4, 4, 3, 3), nn.Upsample(scale_factor=2, mode=mode))
        assert_as_on_a_large_image(Chain(middle, 4), 6, (5, 6))


def test_pixel_shuffle_and_unshuffle() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        shuffled = Chain(nn.Sequential(nn.Conv2d(4, 18, 1), nn.PixelShuffle(3)), 2)
        there_and_back = Chain(
            nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(16, 16, 3, padding=1), nn.PixelShuffle(2)), 4
        )
    assert_as_on_a_large_image(shuffled, 3, (5, 6))
    assert_as_on_a_large_image(there_and_back, 1, (8, 6))


class SpaceToDepth(nn.Module):
    """As networks write it that know no pixel unshuffle."""

    def forward(self, maps: Tensor) -> Tensor:
        n, c, height, width = maps.shape
        blocks = maps.view(n, c, height // 2, 2, width // 2, 2).permute(0, 3, 5, 1, 2, 4)
        return blocks.reshape(n, 4 * c, height // 2, width // 2)


def test_space_to_depth_by_reshaping() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = Chain(nn.Sequential(SpaceToDepth(), nn.Conv2d(16, 16, 3, padding=1), nn.PixelShuffle(2)), 4)
    assert_as_on_a_large_image(model, 1, (8, 6))
    converted = bl.convert(model, "infinite", phase="adaptive", strict=True)
    images = draw(3, 1, 2, 12, 12)
    with torch.no_grad():
        first, second = (converted(F.pad(images, (x, 20 - x, y, 20 - y))) for x, y in ((6, 4), (9, 13)))
        assert relative_change(first[:, :, 0:20, 2:22], second[:, :, 9:29, 5:25]) < 1e-12
        own = nn.Sequential(SpaceToDepth(), nn.AdaptiveAvgPool2d(1))
        assert torch.equal(bl.convert(own, "zero")(images), own(images))


def test_a_pattern_meets_every_rule() -> None:
    """Strides over a pattern, pools, norms, joins with a constant background, slices, pads, and a global mean."""

    class Meets(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(2, 4, 3, 3)
            self.stem = nn.Conv2d(2, 4, 3, padding=1)
            self.norm, self.groups = nn.BatchNorm2d(8), nn.GroupNorm(2, 8)
            self.down = nn.Conv2d(8, 4, 3, 2, 1, groups=2)

        def forward(self, images: Tensor) -> Tensor:
            pattern = torch.tanh(self.up(images))
            joined = torch.cat([pattern, F.interpolate(self.stem(images), scale_factor=3)], 1)
            joined = self.norm(joined) * joined
            pools = F.max_pool2d(joined, 3, 1, 1) + F.avg_pool2d(joined, 3, 1, 1)
            padded = F.pad(pools, (1, 2, 2, 1))[:, :, 2:-1, 1:-2]
            return F.max_pool2d(self.down(padded), 2, 1, 1)[:, :, 1:, 1:][:, :, ::3, ::3]

    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = randomised(Meets(), 3, draw(4, 2, 2, 12, 12).float()).double()
    images = draw(1, 2, 2, 12, 12)
    with torch.no_grad():
        expected = model(F.pad(images, [FAR] * 4))
        got = bl.convert(model, "infinite")(images)
    first = FAR * 3 // 2 // 3
    expected = expected[:, :, first : first + got.shape[2], first : first + got.shape[3]]
    assert relative_change(expected, got) < 1e-12
    assert relative_change(expected, model(images)) > 1e-3

    sizes = (1, 1)
    moved = [F.pad(draw(9, 1, 2, 5, 6), (left, 19 - left, top, 20 - top)) for left, top in ((3, 2), (9, 14))]
    pooled = bl.convert(nn.Sequential(model, nn.AdaptiveAvgPool2d(sizes)), "infinite")
    # The total stride is 2: 3 cells of the fine map in one pixel, every second, then every third of those.
    assert relative_change(pooled(moved[0]), pooled(moved[1])) < 1e-12


class UNet(nn.Module):
    """Two levels, each joined again: by transposed convolution, and by bilinear interpolation."""

    def __init__(self, interpolated: bool, channels: int = 6):
        super().__init__()
        block = lambda i, o: nn.Sequential(  # noqa: E731
            nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(inplace=True)
        )
        self.enter, self.middle, self.bottom = block(3, channels), block(channels, 8), block(8, 12)
        up = lambda i, o: (  # noqa: E731
            nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(i, o, 1))
            if interpolated
            else nn.ConvTranspose2d(i, o, 2, 2)
        )
        self.up_middle, self.up = up(12, 8), up(8, channels)
        self.join_middle, self.join = block(16, 8), block(2 * channels, channels)
        self.pool, self.head = nn.MaxPool2d(2), nn.Conv2d(channels, 5, 1)

    def forward(self, images: Tensor) -> Tensor:
        fine = self.enter(images)
        middle = self.middle(self.pool(fine))
        low = self.up_middle(self.bottom(self.pool(middle)))
        middle = self.join_middle(torch.cat([middle, low], 1))
        return self.head(self.join(torch.cat([fine, self.up(middle)], 1)))


def unet(interpolated: bool) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return randomised(UNet(interpolated), 1)


def assert_moves_with_the_object(
    model: nn.Module,
    own: nn.Module,
    here: list[tuple[int, int]],
    there: list[tuple[int, int]],
    largest: float,
    around: int,
) -> None:
    """The output around each object, `around` cells on every side of it, is the same at both places."""
    canvas, size = 96, 24
    dtype = next(model.parameters()).dtype
    objects = [patch(size, seed, dtype) for seed in range(len(here))]

    def cuts(network: nn.Module, places: list[tuple[int, int]]) -> Tensor:
        with torch.no_grad():
            output = network(placed(objects, places, canvas))
        output = output["out"] if isinstance(output, dict) else output
        assert output.shape[-2:] == (canvas, canvas)
        return torch.stack(
            [
                o[:, r - around : r + size + around, c - around : c + size + around]
                for o, (r, c) in zip(output, places, strict=True)
            ]
        )

    assert relative_change(cuts(model, here), cuts(model, there)) <= largest
    assert relative_change(cuts(own, here), cuts(own, there)) > 1e-3, "no power: it does not read the place"


@pytest.mark.parametrize("interpolated", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_unet_is_equivariant(interpolated: bool, dtype: torch.dtype) -> None:
    own = unet(interpolated).to(dtype)
    largest = 2e-5 if dtype == torch.float32 else 1e-12
    by_stride = [(16, 20), (40, 12)], [(48, 16), (16, 60)]
    assert_moves_with_the_object(bl.convert(own, "infinite"), own, *by_stride, largest, 12)
    by_any = [(16, 20), (40, 12)], [(47, 17), (13, 59)]
    assert_moves_with_the_object(bl.convert(own, "infinite", phase="adaptive"), own, *by_any, largest, 12)
    with pytest.raises(AssertionError, match="<="):
        assert_moves_with_the_object(bl.convert(own, "infinite"), own, *by_any, largest, 12)


@pytest.mark.parametrize(("interpolated", "phase"), [(False, "fixed"), (True, "fixed"), (True, "adaptive")])
def test_a_unet_trains_the_same_everywhere(interpolated: bool, phase: str) -> None:
    """Not with transposed convolution and an adaptive phase: batch statistics count the cells of a pattern."""
    own = unet(interpolated).double().train()
    objects = [patch(24, 1), patch(24, 2)]
    places = ([(8, 4), (0, 16)], [(32, 20), (36, 0)]) if phase == "fixed" else ([(8, 4), (0, 16)], [(31, 19), (35, 7)])
    results = []
    for where in places:
        model = copy.deepcopy(bl.convert(own, "infinite", phase=phase, output="signal"))
        output = model(placed(objects, where, 64))
        (output.deviation().square().sum() + output.background.sum()).backward()
        results.append({name: p.grad for name, p in model.named_parameters()})
    largest = max(gradient.abs().max() for gradient in results[0].values())
    for name, gradient in results[0].items():
        assert gradient.abs().max() > 0
        assert (gradient - results[1][name]).abs().max() <= 1e-12 * largest, name


@pytest.mark.parametrize("border", bl.BORDERS)
@pytest.mark.parametrize("phase", ["fixed", "adaptive"])
@pytest.mark.filterwarnings("ignore::borderless.ApproximatePhaseWarning")
def test_every_border_runs_a_unet(border: str, phase: str) -> None:
    own = unet(True).double()
    images = draw(3, 2, 3, 64, 48)
    model = bl.convert(own, border, phase=phase, output="signal")
    with torch.no_grad():
        result = model(images)
        assert result.frame == (64, 48) and torch.isfinite(result.window).all()
        if border == "zero" and phase == "fixed":
            assert torch.equal(result.window, own(images))
        if border == "circular":
            step = (4, 8) if phase == "fixed" else (3, 5)
            moved = model(images.roll(step, (2, 3)))
            assert relative_change(result.window, moved.window.roll((-step[0], -step[1]), (2, 3))) < 1e-12


def test_valid_keeps_what_the_image_decides() -> None:
    own = unet(False).double()
    images = draw(3, 1, 3, 64, 48)
    with torch.no_grad():
        result = bl.convert(own, "valid", output="signal")(images)
        expected = own(F.pad(images, [16] * 4, value=7.0))  # whatever lies outside
    (a, b), (c, d) = result.box
    assert 0 < a < b < 64 and 0 < c < d < 48
    assert relative_change(expected[:, :, 16 + a : 16 + b, 16 + c : 16 + d], result.window) < 1e-12


def test_full_pads_a_transposed_convolution_with_nothing() -> None:
    """Every output that an input reaches, the bias where none does."""
    layer = nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=1).double()
    images = draw(0, 1, 2, 4, 5)
    with torch.no_grad():
        result = bl.convert(layer, "full", output="signal")(images)
        expected = F.conv_transpose2d(images, layer.weight, layer.bias, 2, 0, 1)
    assert result.start == (-1, -1) and result.frame == (8, 10)
    assert torch.allclose(result.window, expected, atol=1e-13)


def test_reach_bounds_an_upsampled_map() -> None:
    for middle in (nn.Upsample(scale_factor=3), nn.ConvTranspose2d(4, 4, 5, 2), nn.PixelShuffle(2)):
        model = bl.convert(
            Chain(middle, 1 if isinstance(middle, nn.PixelShuffle) else 4), "infinite", reach=1, output="signal"
        )
        result = model(draw(0, 1, 2, 6, 6).float())
        assert all(a >= -1 and b <= n + 1 for (a, b), n in zip(result.box, result.frame, strict=True))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"size": (9, 8)}, "no whole factor"),
        ({"scale_factor": 1.5}, "no whole factor"),
        ({"scale_factor": 2, "mode": "bilinear", "align_corners": True}, "aligned corners"),
    ],
)
def test_what_depends_on_the_place_is_cropped_with_a_warning(options: dict, reason: str) -> None:
    class Resized(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return F.interpolate(images, **options)

    images = draw(0, 1, 2, 4, 4)
    with pytest.warns(bl.PositionDependentWarning, match=reason):
        got = bl.convert(Resized(), "infinite")(images)
    assert torch.equal(got, Resized()(images))
    with pytest.raises(bl.PositionDependentError, match=reason):
        bl.convert(Resized(), "infinite", strict=True)(images)


def test_nearest_downsampling_is_a_strided_slice() -> None:
    class Thinned(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return F.interpolate(images, scale_factor=0.5)

    images = draw(0, 2, 2, 6, 8)
    assert torch.equal(bl.convert(Thinned(), "infinite")(images), images[:, :, ::2, ::2])


class Pooled(nn.Module):
    """A pooled branch, spread over the map again: the image branch of DeepLab's pyramid."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        maps = torch.relu(self.conv(images))
        everywhere = F.interpolate(F.adaptive_avg_pool2d(maps, 1), size=maps.shape[-2:], mode="bilinear")
        return F.interpolate(
            torch.cat([maps, everywhere], 1) + everywhere.repeat(1, 2, 1, 1)[:, :, :1, :1], scale_factor=2
        )


def test_a_pooled_branch_may_join_again() -> None:
    own = Pooled().double()
    model = bl.convert(own, "infinite", phase="adaptive", strict=True)
    images = draw(2, 1, 3, 12, 12)
    with torch.no_grad():
        first, second = (model(F.pad(images, (left, 20 - left, top, 20 - top))) for left, top in ((6, 4), (9, 13)))
    assert relative_change(first[:, :, 2:20, 4:22], second[:, :, 11:29, 7:25]) < 1e-12
    assert relative_change(own(images), bl.convert(own, "zero")(images)) < 1e-15


def test_the_mode_of_a_pass_ends_with_it() -> None:
    from torch.overrides import _get_current_function_mode_stack

    class Fails(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        bl.convert(Fails(), "full")(draw(0, 1, 1, 4, 4))

    class Pools(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            gate = F.adaptive_avg_pool2d(images, 1) * F.adaptive_max_pool2d(images, 1)
            return F.adaptive_avg_pool2d(images * F.interpolate(gate, size=images.shape[2:]), 1)

    with torch.device("cpu"):  # a mode of the user
        bl.convert(Pools(), "full")(draw(0, 1, 1, 4, 4))
    assert _get_current_function_mode_stack() == []
