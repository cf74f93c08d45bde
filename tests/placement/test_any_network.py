"""Objects placed on a canvas, through networks drawn at random. Oracle: the same model on every canvas whole."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import borderless as bl
from borderless.placement import switch

CHANNELS, CANVAS, OBJECT = 3, (44, 41), (7, 9)


class Layer(nn.Module):
    """A function of a map and of a module whose weights it uses."""

    def __init__(self, run: Callable[..., Tensor], module: nn.Module | None = None, name: str = "") -> None:
        super().__init__()
        self.run, self.module, self.name = run, module, name

    def forward(self, maps: Tensor) -> Tensor:
        return self.run(maps) if self.module is None else self.run(maps, self.module)

    def extra_repr(self) -> str:
        return self.name


def folded(maps: Tensor, module: nn.Module) -> Tensor:
    n, c, h, w = maps.shape
    result = module(maps.reshape(n * c, 1, h, w))
    return result.reshape(n, c, *result.shape[2:])


def joined(maps: Tensor, module: nn.Module) -> Tensor:
    a, b = (branch(maps) for branch in module.children())
    h, w = (min(s, t) for s, t in zip(a.shape[2:], b.shape[2:], strict=True))
    return a[:, :, :h, :w] * 0.5 + b[:, :, :h, :w]


def gated(maps: Tensor, module: nn.Module) -> Tensor:
    return maps * module(maps.mean((2, 3), keepdim=True)).sigmoid()


def divided_by_its_norm(maps: Tensor) -> Tensor:
    return maps / (maps.norm(dim=(2, 3), keepdim=True) + 1)


def times_its_spread(maps: Tensor) -> Tensor:
    return maps * maps.std((2, 3), keepdim=True).sigmoid()


@st.composite
def sliding(draw: st.DrawFn, channels: int = CHANNELS, longest: int = 3) -> nn.Module:
    kernel, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 2))
    mode = draw(st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular"]))
    options = {"padding": draw(st.integers(0, 2)), "dilation": dilation, "padding_mode": mode}
    return nn.Conv2d(channels, channels, kernel, draw(st.integers(1, longest)), **options)


@st.composite
def pooling(draw: st.DrawFn, longest: int = 3) -> nn.Module:
    kernel, stride = draw(st.integers(2, 3)), draw(st.integers(1, longest))
    options = {"padding": draw(st.integers(0, 1)), "ceil_mode": draw(st.booleans())}
    if draw(st.booleans()):
        return nn.MaxPool2d(kernel, stride, **options)
    return nn.AvgPool2d(kernel, stride, count_include_pad=draw(st.booleans()), **options)


@st.composite
def padding(draw: st.DrawFn) -> nn.Module:
    mode = draw(st.sampled_from(["constant", "reflect", "replicate", "circular"]))
    amounts = draw(st.lists(st.integers(-1 if mode == "constant" else 0, 3), min_size=4, max_size=4))
    return Layer(lambda maps: F.pad(maps, amounts, mode), None, f"pad {amounts} {mode}")


@st.composite
def slicing(draw: st.DrawFn, longest: int = 3) -> nn.Module:
    rows, columns = (
        slice(draw(st.integers(0, 2)), draw(st.sampled_from([None, -1, -2])), draw(st.integers(1, longest)))
        for _ in "yx"
    )
    return Layer(lambda maps: maps[:, :, rows, columns], None, f"[{rows}, {columns}]")


@st.composite
def upsampling(draw: st.DrawFn) -> nn.Module:
    factor = draw(st.integers(2, 3))
    kind = draw(st.sampled_from(["nearest", "bilinear", "bicubic", "transposed", "shuffle"]))
    if kind == "transposed":
        kernel, before = draw(st.integers(1, 4)), draw(st.integers(0, 1))
        assume(kernel > before)
        return nn.ConvTranspose2d(CHANNELS, CHANNELS, kernel, factor, before)
    if kind == "shuffle":
        return nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS * factor**2, 1), nn.PixelShuffle(factor))
    return nn.Upsample(scale_factor=factor, mode=kind)


simple = sliding() | pooling() | padding() | slicing() | upsampling() | st.builds(nn.ReLU)
branches = sliding(longest=1) | pooling(longest=1) | padding() | slicing(longest=1) | st.builds(nn.ReLU)
layers = (
    simple
    | st.builds(lambda inner: Layer(folded, inner, "folded"), sliding(channels=1) | pooling() | padding())
    | st.builds(lambda a, b: Layer(joined, nn.Sequential(a, b), "joined"), branches, branches)
    | st.builds(lambda: Layer(gated, nn.Conv2d(CHANNELS, CHANNELS, 1), "gated"))
    | st.builds(lambda: nn.InstanceNorm2d(CHANNELS, affine=True))
    | st.builds(lambda: nn.GroupNorm(1, CHANNELS))
    | st.sampled_from([Layer(divided_by_its_norm, None, "norm"), Layer(times_its_spread, None, "spread")])
)
heads = st.sampled_from(["map", "average", "max"])
places = st.lists(st.tuples(st.integers(-5, 42), st.integers(-7, 39)), min_size=2, max_size=4)


def built(parts: list[nn.Module], head: str, seed: int) -> nn.Module:
    pools = {"map": nn.Identity(), "average": nn.AdaptiveAvgPool2d(1), "max": nn.AdaptiveMaxPool2d(1)}
    model = nn.Sequential(nn.Conv2d(2, CHANNELS, 1), *parts, pools[head]).double().eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data.normal_(generator=generator)
    return model


def dense(model: nn.Module, objects: Tensor, positions: list[tuple[int, int]], canvas: Tensor) -> Tensor:
    found = []
    for row, column in positions:
        images = canvas.repeat(len(objects), 1, 1, 1)
        seen = objects[:, :, max(-row, 0) : CANVAS[0] - row, max(-column, 0) : CANVAS[1] - column]
        top, left = max(row, 0), max(column, 0)
        images[:, :, top : top + seen.shape[2], left : left + seen.shape[3]] = seen
        found.append(model(images))
    return torch.stack(found)


@pytest.mark.parametrize("border", [None, "full", "infinite", bl.Border("infinite", count="window")], ids=str)
@pytest.mark.filterwarnings("ignore::borderless.PositionDependentWarning")
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    parts=st.lists(layers, min_size=1, max_size=4),
    head=heads,
    positions=places,
    canvas=st.sampled_from(["empty", "even", "picture"]),
    seed=st.integers(0, 99),
)
def test_placed_is_dense(
    border: str | bl.Border | None, parts: list, head: str, positions: list[tuple[int, int]], canvas: str, seed: int
) -> None:
    model = built(parts, head, seed)
    model = model if border is None else bl.convert(model, border)  # pyright: ignore[reportArgumentType]
    generator = torch.Generator().manual_seed(seed)
    objects = torch.randn(2, 2, *OBJECT, dtype=torch.float64, generator=generator)
    picture = torch.randn(2, *CANVAS, dtype=torch.float64, generator=generator)
    background = {"empty": torch.zeros_like(picture), "even": torch.full_like(picture, 0.4), "picture": picture}[canvas]
    with torch.no_grad():
        try:
            expected = dense(model, objects, positions, background)
        except (RuntimeError, bl.BorderlessError):  # too small a map, or a pad that is too wide for it
            assume(False)
    assume(expected.numel() > 0)  # a slice may leave nothing, which is refused
    got = bl.place(model, objects, positions, background=background)
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= 1e-9 * expected.abs().max()


class Sobel(nn.Module):
    """As kornia does it: channels folded into the batch, then padded."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.filters, self.mode = nn.Conv2d(1, 2, 3), mode

    def forward(self, images: Tensor) -> Tensor:
        n, c, h, w = images.shape
        cells = F.pad(images.reshape(n * c, 1, h, w), (1, 1, 1, 1), self.mode)
        return self.filters(cells).reshape(n, 2 * c, h, w)


def assert_placed_is_dense(model: nn.Module, positions: list[tuple[int, int]], background: Tensor) -> None:
    model = model.double().eval()
    objects = torch.randn(2, 2, *OBJECT, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = dense(model, objects, positions, background.double())
    got = bl.place(model, objects, positions, background=background)
    assert (got - expected).abs().max() <= 1e-9 * expected.abs().max()


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("border", [None, "full", "infinite", "replicate"])
@pytest.mark.parametrize("level", [0.0, 0.5])
def test_channels_folded_into_the_batch(mode: str, border: str | None, level: float) -> None:
    model = Sobel(mode).double().eval()
    model = model if border is None else bl.convert(model, border)  # pyright: ignore[reportArgumentType]
    positions = [(0, 0), (37, 32), (3, 5), (-3, 20), (14, 15), (20, 24), (21, 24)]
    assert_placed_is_dense(model, positions, torch.full((2, *CANVAS), level))


class Strides(nn.Module):
    """Branches of stride 2 and 3: what lies 3 pixels apart is not alike."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 3, 3, 2), nn.Conv2d(2, 3, 3, 3)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([self.a(images).mean((2, 3)), self.b(images).relu().mean((2, 3))], 1)


class Mirrored(nn.Module):
    """What lies as far from the edge as the padding is wide is seen twice."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode, self.filters = mode, nn.Conv2d(2, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.filters(F.pad(images, (6, 6, 6, 6), self.mode)).relu().mean((2, 3))


@pytest.mark.parametrize(
    "model", [Strides(), Mirrored("reflect"), Mirrored("circular")], ids=["strides", "reflected", "circular"]
)
def test_only_positions_that_are_alike_run_once(model: nn.Module) -> None:
    assert_placed_is_dense(model, [(p, p) for p in range(2, 30)], torch.zeros(2, *CANVAS))


class Mixed(nn.Module):
    """Images become channels of one image."""

    def __init__(self, *, undone: bool) -> None:
        super().__init__()
        self.filters, self.undone = nn.Conv2d(2, 2, 3, padding=1), undone

    def forward(self, images: Tensor) -> Tensor:
        n, c, h, w = images.shape
        maps = self.filters(images).reshape(1, n * c, h, w).relu()
        return maps.reshape(n, c, h, w) if self.undone else maps


def test_images_that_are_mixed_are_refused_by_name() -> None:
    objects = torch.zeros(2, 2, *OBJECT)
    text = (
        r"torch.Tensor.reshape in the model itself \(Mixed\) under the border 'zero'.*"
        r"\(1, 2, 44, 41\) of one image and \(1, 6, 44, 41\) of 3"
    )
    with pytest.raises(bl.UnsupportedOperation, match=text):
        bl.place(Mixed(undone=True).eval(), objects, [(3, 3)], CANVAS)
    text = r"Expected one output for each image of a batch but got an output of shape \(1, 6, 44, 41\) for 3 images"
    with pytest.raises(bl.ImageError, match=text):
        bl.place(bl.convert(Mixed(undone=False).eval(), "infinite"), torch.zeros(3, 2, *OBJECT), [(3, 3)], CANVAS)


class Centered(nn.Module):
    """Takes the mean over the batch from what was pooled, in which nobody sees images any more."""

    def __init__(self, take: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.filters, self.head = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(4, 3)
        self.take = take

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.filters(images).relu().mean((2, 3))
        return self.head(pooled - self.take(pooled))


TAKEN = {"mean": lambda pooled: pooled.mean(0), "first": lambda pooled: pooled[0], "last": lambda pooled: pooled[-1]}


@pytest.mark.parametrize("taken", TAKEN)
@pytest.mark.parametrize("pays", ["windows", "whole canvases"])
@pytest.mark.parametrize("border", [None, "full", "infinite", "valid", bl.Border("infinite", phase="adaptive")])
def test_images_that_are_mixed_after_pooling_run_one_by_one(
    monkeypatch: pytest.MonkeyPatch, border: Any, pays: str, taken: str
) -> None:
    if pays == "whole canvases":
        monkeypatch.setattr(switch, "_PLANNED", {"cpu": 1e15, "cuda": 1e15})
    model = Centered(TAKEN[taken]).double().eval()
    model = model if border is None else bl.convert(model, border)
    objects = torch.rand(3, 2, *OBJECT, generator=torch.Generator().manual_seed(0)).double()
    positions = [(0, 0), (5, 9), (20, 17), (6, 10)]
    for canvas in (torch.zeros(2, *CANVAS).double(), torch.rand(2, *CANVAS).double()):
        got = bl.place(model, objects, positions, background=canvas)
        for row, position in zip(got, positions, strict=True):
            for one, output in zip(objects, row, strict=True):
                image = canvas[None].clone()
                image[0, :, position[0] : position[0] + OBJECT[0], position[1] : position[1] + OBJECT[1]] = one
                assert (output - model(image)[0]).abs().max() <= 1e-12


def test_a_model_without_a_sliding_operation() -> None:
    for border in ("zero", "infinite"):
        model = bl.convert(nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1)).double(), border).eval()
        assert_placed_is_dense(model, [(0, 0), (20, 20), (-3, 38)], torch.zeros(2, *CANVAS))
