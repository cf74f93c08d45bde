"""Borders per axis: wrapped along one axis, as another border has it along the others, and time that never looks ahead.

Oracles: the model under one border on many periods of the image side by side, whose middle one knows no end; padding by
hand with `torch.nn.functional.pad`; samples of the future, changed.
"""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import borderless as bl
from support.part_networks import UNet, settled

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
MAX_POOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVG_POOL = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
PERIOD, COUNT = 8, 9  # cells, a multiple of all strides below; periods side by side
quick = settings(max_examples=12)


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Padded(nn.Module):
    """What `forward` pads itself: with a value, or by a mode of PyTorch's."""

    def __init__(self, dimensions: int, mode: str, before: int, after: int) -> None:
        super().__init__()
        self.amounts, self.mode = [before, after] * dimensions, mode

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.amounts, self.mode, **({"value": 0.5} if self.mode == "constant" else {}))


class Joined(nn.Module):
    """A branch beside the map itself."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.branch(x)], 1)


def network(dimensions: int, seed: int) -> tuple[nn.Module, int]:
    """A random network that keeps whole periods, and its largest stride."""
    draw, channels, stride, largest = random.Random(seed), 2, 1, 1
    layers: list[nn.Module] = []
    kinds = ["conv", "dilated", "strided", "down", "max", "average", "transposed", "nearest", "linear", "pad", "join"]
    for _ in range(draw.randint(2, 4)):
        kind = draw.choice(kinds)
        mode = draw.choice(["zeros", "zeros", "circular", "replicate"] + ["reflect"] * (dimensions < 3))
        if kind in ("strided", "down", "max", "average") and stride == 4:
            kind = "conv"
        if kind in ("transposed", "nearest", "linear") and stride == 1:
            kind = "dilated"
        if kind == "conv":
            layers.append(CONV[dimensions](channels, 3, 3, padding=1, padding_mode=mode))
        elif kind == "dilated":
            layers.append(CONV[dimensions](channels, 3, 2, padding="same", dilation=2, padding_mode=mode))
        elif kind in ("strided", "down"):
            k, p = (4, 1) if kind == "strided" else (3, 1)
            layers.append(CONV[dimensions](channels, 3, k, 2, p))
        elif kind == "max":
            layers.append(MAX_POOL[dimensions](3, 2, 1))
        elif kind == "average":
            layers.append(AVG_POOL[dimensions](3, 2, 1, count_include_pad=draw.random() < 0.5))
        elif kind == "transposed":
            k, p, out = draw.choice([(4, 1, 0), (2, 0, 0), (3, 1, 1)])
            layers.append(TRANSPOSED[dimensions](channels, 3, k, 2, p, out))
        elif kind in ("nearest", "linear"):
            layers.append(nn.Upsample(scale_factor=2, mode=kind if kind == "nearest" else LINEAR[dimensions]))
        elif kind == "pad":
            mode = "constant" if mode == "zeros" else mode
            layers += [Padded(dimensions, mode, 2, 1), CONV[dimensions](channels, 3, 4)]
        else:
            layers.append(Joined(CONV[dimensions](channels, 3, 3, padding=1)))
        stride = stride * 2 if kind in ("strided", "down", "max", "average") else stride
        stride = stride // 2 if kind in ("transposed", "nearest", "linear") else stride
        largest = max(largest, stride)
        channels = channels if kind in ("max", "average", "nearest", "linear") else 3 + channels * (kind == "join")
        layers += [nn.ReLU()] * (draw.random() < 0.5) + [NORM[dimensions](channels)] * (draw.random() < 0.3)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = settled(nn.Sequential(*layers))
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.5)
    return model, largest


def periods(images: Tensor, axis: int) -> Tensor:
    return torch.cat([images] * COUNT, axis)


def assert_close(got: Tensor, expected: Tensor) -> None:
    assert got.shape == expected.shape
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10 * max(1.0, float(expected.abs().max())))


@given(
    dimensions=st.sampled_from([2, 2, 3]),
    seed=st.integers(0, 10**6),
    other=st.sampled_from(["zero", "valid", "reflect", "replicate", "full", "infinite", "causal", "circular"]),
    first=st.booleans(),
)
@settings(quick, max_examples=30)
def test_a_circular_axis_has_no_end(dimensions: int, seed: int, other: str, first: bool) -> None:
    """As in the middle of many periods under the other border; rolling rolls, and the other axis stays what it is."""
    model, stride = network(dimensions, seed)
    axis = 2 if first else 1 + dimensions
    names = [other] * dimensions
    names[axis - 2] = "circular"
    sizes = [24 if other == "valid" else 12] * dimensions
    sizes[axis - 2] = PERIOD
    images = noise(1, 2, *sizes)
    options = {"background": 0.5} if other == "infinite" else {}
    converted = bl.convert(model, names, output="signal", **options)
    with torch.inference_mode():
        try:
            alone = ["zero" if name == "circular" else name for name in names] if other == "causal" else other
            whole = bl.convert(model, alone, output="signal", **options)(periods(images, axis))
        except bl.ImageError:  # valid leaves nothing of it
            return
        got, rolled = converted(images), converted(images.roll(stride, axis))
    assert got.start[: axis - 2] == whole.start[: axis - 2]
    box, size = list(whole.box), got.window.shape[axis]
    box[axis - 2] = (COUNT // 2 * size, (COUNT // 2 + 1) * size)
    assert_close(got.window, whole.read(tuple(box)))
    moved = stride * got.window.shape[axis] // PERIOD
    assert_close(rolled.window, got.window.roll(moved, axis))


@given(data=st.data(), dimensions=st.sampled_from([1, 2, 3]))
@quick
def test_convolutions_equal_padding_by_hand(data: st.DataObject, dimensions: int) -> None:
    kinds = ["zero", "reflect", "replicate", "circular", "valid", "causal", "full"]
    names = data.draw(st.lists(st.sampled_from(kinds), min_size=dimensions, max_size=dimensions))
    stride = data.draw(st.sampled_from([1, 2]))
    kernels = data.draw(st.lists(st.integers(1, 4), min_size=dimensions, max_size=dimensions))
    paddings = [data.draw(st.integers(0, (k + 1) // 2)) for k in kernels]
    conv = CONV[dimensions](2, 3, tuple(kernels), stride, tuple(paddings)).double()
    cells = images = noise(2, 2, *[9, 7, 8][:dimensions])
    for axis, (name, k, p) in enumerate(zip(names, kernels, paddings, strict=True), start=2):
        # As many multiples of the stride as the border keeps, from the padding of the model on.
        before = {"causal": 2 * p, "valid": -(-p // stride) * stride - p, "full": p + (k - 1 - p) // stride * stride}
        amounts = [before.get(name, p), {"causal": 0, "valid": 0, "full": k - 1}.get(name, p)]
        if name == "valid":
            cells = cells.narrow(axis, amounts[0], cells.shape[axis] - amounts[0])
            amounts = [0, 0]
        mode = name if name in ("reflect", "replicate", "circular") else "constant"
        others = dimensions + 1 - axis
        if mode == "constant":
            cells = F.pad(cells, [0, 0] * others + amounts)
        else:
            cells = (
                F.pad(cells.movedim(axis, -1).flatten(1, -2), amounts, mode)
                .unflatten(1, cells.movedim(axis, -1).shape[1:-1])
                .movedim(-1, axis)
            )
    expected = type(conv)(2, 3, tuple(kernels), stride).double()
    expected.load_state_dict(conv.state_dict())
    with torch.inference_mode():
        assert_close(bl.convert(conv, names, output="signal")(images).window, expected(cells))


@given(
    names=st.sampled_from([["causal"], ["causal", "zero"], ["causal", "circular"], ["causal", "reflect", "full"]]),
    seed=st.integers(0, 10**6),
    since=st.integers(1, 15),
)
@quick
def test_causal_never_looks_ahead(names: list[str], seed: int, since: int) -> None:
    model, stride = network(len(names), seed)
    converted = bl.convert(model, names)
    images = noise(1, 2, 16, *[8] * (len(names) - 1))
    changed = images.clone()
    changed[:, :, since:] += 1
    with torch.inference_mode():
        before, after = converted(images), converted(changed)
        own = model(images)
    assert before.shape == own.shape
    known = since // stride * stride * before.shape[2] // 16  # a network works by blocks of as many samples
    assert torch.equal(before[:, :, :known], after[:, :, :known])
    bl.testing.assert_causal(converted, images, axis=2, lookahead=stride - 1)


def test_causal_leaves_a_causal_network_as_it_is() -> None:
    class Causal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv1d(1, 3, 5, dilation=2), nn.Conv1d(3, 3, 4, 2)
            self.up, self.pool = nn.ConvTranspose1d(3, 2, 4, 2), nn.MaxPool1d(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.second(F.pad(self.first(F.pad(x, (8, 0), "replicate")).relu(), (2, 0)))
            return self.up(self.pool(F.pad(x, (1, 0), value=-torch.inf)))[..., :-2]

    model, images = Causal().double().eval(), noise(2, 1, 20)
    with torch.inference_mode():
        torch.testing.assert_close(bl.convert(model, "causal")(images), model(images), rtol=0, atol=1e-12)


class Residual(nn.Module):
    """A small ResNet: a stem with a max pool, a strided block with a shortcut, a global pool."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.pool = nn.Conv2d(3, 4, 7, 2, 3), nn.BatchNorm2d(4), nn.MaxPool2d(3, 2, 1)
        self.block, self.second = nn.Conv2d(4, 6, 3, 2, 1), nn.Conv2d(6, 6, 3, padding=1)
        self.shortcut, self.head = nn.Conv2d(4, 6, 1, 2), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.norm(self.stem(x)).relu_())
        x = (self.second(self.block(x).relu()) + self.shortcut(x)).relu_()
        return self.head(x.mean((2, 3)))


class Dense(nn.Module):
    """RRDBNet in small: dense blocks with residuals, nearest upsampling, stride 1."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)
        self.dense = nn.ModuleList(nn.Conv2d(4 * i, 4, 3, padding=1) for i in (1, 2, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        maps = [x]
        for conv in self.dense:
            maps.append(F.leaky_relu(conv(torch.cat(maps, 1)), 0.2))
        return self.last(F.interpolate(x + 0.2 * maps[-1], scale_factor=2.0))


@pytest.mark.parametrize(
    ("model", "stride"), [(Dense(), 1), (UNet(channels=3), 4), (Residual(), 8)], ids=lambda m: type(m).__name__
)
@pytest.mark.parametrize("border", [("zero", "circular"), ("circular", "infinite")])
def test_rolling_the_image_rolls_the_output(model: nn.Module, stride: int, border: tuple[str, str]) -> None:
    axis = 2 + border.index("circular")
    converted, images = bl.convert(settled(model), border), noise(1, 3, 32, 48)
    moved = converted(images.roll(stride, axis))
    output = converted(images)
    if output.ndim == 4:
        output = output.roll(stride * output.shape[axis] // images.shape[axis], axis)
    torch.testing.assert_close(moved, output, rtol=0, atol=1e-12)


class Turned(nn.Module):
    """A convolution of a transposed map, and of the means over rows and over columns."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.turned = nn.Conv2d(1, 2, 3, 2, 1), nn.Conv2d(2, 2, 3, padding=1)
        self.line = nn.Conv1d(2, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.turned(self.first(x).transpose(2, 3)).transpose(2, 3)
        return x * self.line(x.mean(2))[:, :, None] * self.line(x.mean(3))[..., None]


@pytest.mark.parametrize("axis", [2, 3])
def test_transposed_maps_and_lines_know_their_axis(axis: int) -> None:
    names = ["zero", "zero"]
    names[axis - 2] = "circular"
    converted, images, other = bl.convert(Turned().double(), names), noise(1, 1, 16, 24), 5 - axis
    with torch.inference_mode():
        output = converted(images)
        assert_close(converted(images.roll(2, axis)), output.roll(1, axis))
        assert not torch.allclose(converted(images.roll(2, other)), output.roll(1, other))


def test_the_phase_may_be_adaptive_where_every_axis_has_no_end() -> None:
    model, images = settled(Residual()), F.pad(noise(1, 3, 16, 48), (0, 0, 12, 20))
    converted = bl.convert(model, ("infinite", "circular"), phase="adaptive")
    moved = converted(images.roll((5, 3), (2, 3)))
    torch.testing.assert_close(moved, converted(images), rtol=0, atol=1e-12)
    with pytest.warns(bl.ApproximatePhaseWarning, match="'zero', 'circular'"):
        bl.convert(model, ("zero", "circular"), phase="adaptive")


def test_one_border_for_all_axes_is_its_name() -> None:
    """Bit for bit, and for `zero` the model's own calls."""
    model, images = settled(Residual()), noise(1, 3, 32, 48)
    for name in ("zero", "circular", "infinite"):
        assert torch.equal(bl.convert(model, (name, name))(images), bl.convert(model, name)(images))
    assert torch.equal(bl.convert(model, ["zero", "zero"])(images), model(images))
    assert bl.border_of(bl.convert(model, ["zero", "circular"])) == bl.Border(("zero", "circular"))
    assert eval(repr(bl.Border(("infinite", "circular"), reach=2)), {"Border": bl.Border}).reach == 2


@pytest.mark.parametrize(
    "border", [("zero", "circular"), ("reflect", "full"), ("circular", "infinite"), "causal"], ids=str
)
def test_parts_batches_and_placements_equal_the_whole(border: tuple[str, str] | str) -> None:
    model, images = bl.convert(settled(UNet(channels=3)), border), noise(1, 3, 32, 48)
    whole = model(images)
    torch.testing.assert_close(bl.tile(model, images, tile=12), whole, rtol=0, atol=1e-12)
    box = bl.region(model, images, ((24, 32), (0, 8)))
    torch.testing.assert_close(box, whole[:, :, 24:, :8], rtol=0, atol=1e-12)
    other = noise(1, 3, 24, 40, seed=2)
    one, two = bl.batched(model, [images[0], other[0]])
    torch.testing.assert_close(one, whole[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(two, model(other)[0], rtol=0, atol=1e-12)
    canvas = torch.zeros_like(images)
    canvas[:, :, 8:16, 40:] = patch = noise(1, 3, 8, 8)
    placed = bl.place(model, patch[0], [(8, 40)], canvas=(32, 48))
    torch.testing.assert_close(placed, model(canvas), rtol=0, atol=1e-12)


class Halved(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True)


@pytest.mark.parametrize(
    "operation",
    [
        nn.AvgPool2d((3, 4), (2, 4), (1, 0), ceil_mode=True, count_include_pad=False),
        nn.AvgPool2d(3, 1, 1, divisor_override=7),
        nn.MaxPool2d(3, 1, 1),
        nn.LPPool2d(2, 2),
        nn.Unfold(3, padding=1),
        Halved(),
    ],
    ids=lambda operation: type(operation).__name__,
)
def test_the_original_axis_keeps_what_the_model_does_at_its_end(operation: nn.Module) -> None:
    """Cells that an average leaves out or weighs anew, and the -inf of a maximum."""
    images = noise(1, 1, 11 if isinstance(operation, nn.AvgPool2d) else 12, PERIOD)
    model = nn.Sequential(nn.Conv2d(1, 1, 1), operation).double()
    with torch.inference_mode():
        got, expected = bl.convert(model, ("zero", "circular"))(images), model(periods(images, 3))
    if isinstance(operation, nn.Unfold):
        got, expected = (maps.unflatten(2, (12, -1)) for maps in (got, expected))
    size = got.shape[3]
    assert_close(got, expected[..., COUNT // 2 * size : (COUNT // 2 + 1) * size])


@pytest.mark.parametrize(
    ("names", "options", "text"),
    [
        (("zero", "round"), {}, "got 'round' along axis 1"),
        ("round", {}, "Expected a border out of valid, .* but got 'round'; for one per axis write a tuple"),
        ((), {}, "empty tuple"),
        (
            ("zero", "infinite"),
            {},
            "Expected 'infinite' along every axis.* beside 'zero' the response",
        ),
        (("causal", "zero"), {"phase": "adaptive"}, "Expected a fixed phase with 'causal'"),
        (("zero", "circular"), {"reach": 2}, "Expected reach with 'full' or 'infinite'"),
        (("full", "circular"), {"background": 0.5}, "Expected background with the border 'infinite'"),
    ],
)
def test_borders_that_do_not_exist_or_cannot_be_joined_are_refused(names: tuple, options: dict, text: str) -> None:
    with pytest.raises(bl.BorderError, match=text):
        bl.Border(names, **options)


def test_as_many_borders_as_axes() -> None:
    model = nn.Conv2d(1, 1, 3, padding=1).eval()
    with pytest.raises(bl.BorderError, match=r"one border for each of the 2 spatial axes .* with 3; give 2"):
        bl.convert(model, ("zero", "zero", "circular"))(torch.zeros(1, 1, 8, 8))
    with pytest.raises(bl.BorderError, match="2 spatial axes"):
        bl.tile(bl.convert(model, ("zero", "zero", "circular")), torch.zeros(1, 1, 8, 8), tile=4)
