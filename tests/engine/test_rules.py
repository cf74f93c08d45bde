"""What models do between convolutions, written every way people write it, under `infinite`.

Each body gets two maps of the same image, as a residual block has them, and is compared cell by cell with itself on a
hugely padded image. Strides and crops included.
"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import borderless as bl
from support.bodies import CHANNELS, noise, seeded
from support.endless_plane import assert_as_on_a_huge_canvas, on_a_huge_canvas

PADDING_PX = 32


def in_place(a: Tensor, b: Tensor) -> Tensor:
    a += b
    a.mul_(0.5)
    torch.relu_(a)
    F.relu(b, inplace=True)
    return a.add_(b, alpha=2)


def channel_shuffle(a: Tensor, b: Tensor) -> Tensor:
    maps = torch.cat([a, b], 1)
    batch, channels, height, width = maps.size()
    maps = maps.view(batch, 2, channels // 2, height, width)
    return torch.transpose(maps, 1, 2).contiguous().view(batch, channels, height, width)


def layer_norm_over_channels(a: Tensor, b: Tensor, inner: nn.Module) -> Tensor:
    return inner(a.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) + b


POINTWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "a + b": lambda a, b: a + b,
    "a - b": lambda a, b: a - b,
    "a * b": lambda a, b: a * b,
    "a / (1 + b * b)": lambda a, b: a / (1 + b * b),
    "1 - a": lambda a, b: 1 - a - b,
    "-a ** 2": lambda a, b: -(a**2) + b,
    "torch.add with alpha": lambda a, b: torch.add(a, b, alpha=0.3),
    "relu gelu silu": lambda a, b: F.silu(F.gelu(torch.relu(a) - b)),
    "hardswish hardsigmoid": lambda a, b: F.hardswish(a) * F.hardsigmoid(b),
    "sigmoid tanh exp": lambda a, b: a.sigmoid() + b.tanh() * torch.exp(-a.abs()),
    "leaky_relu elu softplus mish": lambda a, b: F.leaky_relu(a, 0.1) + F.elu(b) + F.softplus(a) + F.mish(b),
    "clamp relu6": lambda a, b: a.clamp(-0.5, 0.5) + F.relu6(b),
    "maximum minimum": lambda a, b: torch.maximum(a, b) - torch.minimum(a, 0.1 * b),
    "where": lambda a, b: torch.where(a > b, a, 0.1 * b),
    "softmax over channels": lambda a, b: F.softmax(a, dim=1) + torch.log_softmax(b, 1),
    "a vector per channel": lambda a, b: a * torch.arange(1.0, 5.0, dtype=a.dtype).view(1, -1, 1, 1) + b,
    "in place": in_place,
    "cat": lambda a, b: torch.cat([a, b, a * b], dim=1),
    "cat on a negative axis": lambda a, b: torch.cat((b, a), -3),
    "stack and sum": lambda a, b: torch.stack([a, b], 1).sum(1),
    "stack, softmax, weigh": lambda a, b: (
        torch.stack([a, b], dim=1) * torch.softmax(torch.stack([b, a], dim=1), dim=1)
    ).sum(dim=1),
    "mean over channels": lambda a, b: a.mean(1, keepdim=True) * b,
    "amax over channels": lambda a, b: a.amax(dim=1, keepdim=True) + b,
    "chunk": lambda a, b: torch.cat([a.chunk(2, 1)[1], b.chunk(2, dim=1)[0]], 1),
    "split": lambda a, b: torch.cat(list(torch.split(a, [1, 3], dim=1))[::-1], 1) + b,
    "channel slices": lambda a, b: a[:, 1:3] + b[:, :2],
    "channel shuffle": channel_shuffle,
    "clone contiguous": lambda a, b: a.clone().contiguous() + b.contiguous(memory_format=torch.channels_last),
    "normalized over channels": lambda a, b: a / (a.norm(dim=1, keepdim=True) + 1) + F.normalize(b, dim=1),
    "permute there and back": lambda a, b: (
        (a.permute(0, 2, 3, 1) * torch.arange(1.0, 5.0, dtype=a.dtype)).permute(0, 3, 1, 2) + b
    ),
}


@pytest.mark.parametrize("body", POINTWISE.values(), ids=POINTWISE)
def test_pointwise_joins_and_channel_shapes(body: Callable[[Tensor, Tensor], Tensor]) -> None:
    signal = assert_as_on_a_huge_canvas(seeded(body), noise(2, 3, 7, 10), PADDING_PX, 1)
    assert tuple(signal.start) == (-2, -2)  # the union of both windows


def gate(a: Tensor) -> Tensor:
    return a.mean((2, 3), keepdim=True).sigmoid()


IN_PLACE: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "the larger map first": (lambda a, b: b.add_(a, alpha=3), lambda a, b: b + 3 * a),
    "the larger map first, product": (lambda a, b: b.mul_(a), lambda a, b: b * a),
    "the smaller map first": (lambda a, b: a.sub_(b), lambda a, b: a - b),
    "by a channel": (lambda a, b: b.add_(a[:, :1]), lambda a, b: b + a[:, :1]),
    "by a number for each sample": (lambda a, b: b.mul_(gate(a)), lambda a, b: b * gate(a)),
    "by a map whose background is each sample's own": (
        lambda a, b: b.add_(a * gate(a)),
        lambda a, b: b + a * gate(a),
    ),
    "twice": (lambda a, b: b.add_(a).add_(a.relu_()), lambda a, b: b + a + a.relu()),
}


@pytest.mark.parametrize("border", ["valid", "zero", "full", "infinite", "reflect"])
@pytest.mark.parametrize(("in_place", "plain"), IN_PLACE.values(), ids=IN_PLACE)
def test_in_place_is_as_out_of_place(
    in_place: Callable[[Tensor, Tensor], Tensor], plain: Callable[[Tensor, Tensor], Tensor], border: str
) -> None:
    """Without gradients a map is changed in parts, with gradients as a whole."""
    expected = bl.convert(seeded(plain), border, output="signal")(noise(2, 3, 7, 10))
    model = bl.convert(seeded(in_place), border, output="signal")
    with torch.no_grad():
        in_parts = model(noise(2, 3, 7, 10))
    for got in (in_parts, model(noise(2, 3, 7, 10))):
        assert got.box == expected.box
        assert (got.window - expected.window).abs().max() <= 1e-13
        if border == "infinite":
            assert (got.background - expected.background).abs().max() <= 1e-13


SHAPES: dict[str, tuple[int, Callable[[Tensor, Tensor], Tensor]]] = {
    "crop as BagNet": (1, lambda a, b: a[:, :, 1:-1, 1:-1] + b[..., 1:-1, 1:-1]),
    "crop one side": (1, lambda a, b: (a + b)[:, :, 2:, :-3]),
    "every other cell": (2, lambda a, b: a[:, :, ::2, ::2] + b[..., ::2, ::2]),
    "every other cell from the second": (2, lambda a, b: a[:, :, 1::2, 1::2] + b[..., 1::2, 1::2]),
    "crop then stride": (2, lambda a, b: (a + b)[:, :, 1:-1, 1:-1][:, :, ::2, ::2]),
    "crop and channels at once": (1, lambda a, b: (a + b)[:, 1:3, 1:, :-1]),
    "pad, then read what the pad put there": (
        1,
        lambda a, b: F.avg_pool2d(F.pad(a, [1, 1, 2, 2]) + F.pad(b, [1, 1, 2, 2]), 3, 1),
    ),
    "uneven pad then stride, as TensorFlow": (2, lambda a, b: F.max_pool2d(F.pad(a + b, [0, 1, 0, 1]), 3, 2)),
    "negative pad": (1, lambda a, b: F.pad(a, [-1, 0, -1, -2]) * 2),
    "max pool with ceil_mode": (2, lambda a, b: F.max_pool2d(a + b, 3, 2, ceil_mode=True)),
    "average pool as a shortcut": (2, lambda a, b: F.avg_pool2d(a, 2, 2, 0, True, False) + F.max_pool2d(b, 3, 2, 1)),
}


@pytest.mark.parametrize(("stride", "body"), SHAPES.values(), ids=SHAPES)
def test_crops_strides_and_pads(stride: int, body: Callable[[Tensor, Tensor], Tensor]) -> None:
    for size in [(6, 10), (7, 11)]:
        assert_as_on_a_huge_canvas(seeded(body), noise(2, 3, *size), PADDING_PX, stride)


def test_layer_norm_over_channels_as_in_convnext() -> None:
    model = seeded(layer_norm_over_channels, lambda: nn.LayerNorm(CHANNELS))
    assert_as_on_a_huge_canvas(model, noise(2, 3, 7, 10), PADDING_PX, 1)


class TorchBatchNorm(nn.BatchNorm2d):
    """With torch.batch_norm, whose parameters stand in another order than those of torch.nn.functional.batch_norm."""

    def forward(self, maps: Tensor) -> Tensor:
        mean, var = self.running_mean, self.running_var
        return torch.batch_norm(maps, self.weight, self.bias, mean, var, False, 0.1, self.eps, True)


MODULES: dict[str, Callable[[], nn.Module]] = {
    "BatchNorm": lambda: nn.BatchNorm2d(CHANNELS),
    "torch.batch_norm": lambda: TorchBatchNorm(CHANNELS),
    "PReLU": lambda: nn.PReLU(CHANNELS),
    "Dropout in eval mode": lambda: nn.Dropout(0.5),
    "Identity": nn.Identity,
    "Linear over channels": lambda: nn.Sequential(
        Permute(0, 2, 3, 1), nn.Linear(CHANNELS, 6), nn.GELU(), Permute(0, 3, 1, 2)
    ),
    "depthwise separable": lambda: nn.Sequential(
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS), nn.Conv2d(CHANNELS, 6, 1)
    ),
    "unpadded convolution": lambda: nn.Conv2d(CHANNELS, 6, 3),
    "dilated convolution": lambda: nn.Conv2d(CHANNELS, 6, 3, padding=2, dilation=2),
}


class Permute(nn.Module):
    def __init__(self, *axes: int):
        super().__init__()
        self.axes = axes

    def forward(self, maps: Tensor) -> Tensor:
        return maps.permute(self.axes)


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_modules(make: Callable[[], nn.Module]) -> None:
    model = seeded(lambda a, b, inner: inner(a * b), make)
    assert_as_on_a_huge_canvas(model, noise(2, 3, 7, 10), PADDING_PX, 1)


AVERAGES: dict[str, Callable[[Tensor], Tensor]] = {
    "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1),
    "AdaptiveAvgPool2d((1, 1))": lambda x: nn.AdaptiveAvgPool2d((1, 1))(x).view(x.shape[0], -1),
    "mean((2, 3))": lambda x: x.mean((2, 3)),
    "mean([-1, -2]) keepdim": lambda x: x.mean([-1, -2], keepdim=True).squeeze(-1).squeeze(-1),
    "torch.mean": lambda x: torch.mean(x, dim=(2, 3)),
    "channels last": lambda x: x.permute(0, 2, 3, 1).mean((1, 2)),
}


@pytest.mark.parametrize("average", AVERAGES.values(), ids=AVERAGES)
def test_the_average_over_space_counts_what_differs_from_the_background(average: Callable[[Tensor], Tensor]) -> None:
    """Sum of (plane - background) / cells of the frame + background: the plane's far cells add nothing."""
    images = noise(2, 3, 7, 10)
    maps = seeded(lambda a, b: torch.relu(a + b))
    huge = on_a_huge_canvas(maps, images, PADDING_PX, 1)
    background = huge[..., PADDING_PX // 2, PADDING_PX // 2][..., None, None]
    frame = images.shape[2] * images.shape[3]
    expected = (huge - background).nan_to_num().sum((2, 3)) / frame + background[..., 0, 0]
    with torch.inference_mode():
        got = bl.convert(seeded(lambda a, b: average(torch.relu(a + b))), "infinite")(images)
        own = average(maps(images))
    assert type(got) is Tensor and got.shape == (2, CHANNELS)
    assert (got - expected).abs().max() <= 1e-12 * expected.abs().max()
    assert (got - own).abs().max() > 1e-3, "no power: the model's own padding gives the same"


def test_a_small_object_in_a_large_frame_has_the_unmodified_models_average() -> None:
    """Nothing of the object reaches the edge and no bias: the model's own padding is right, and `infinite` too."""
    images = torch.zeros(1, 3, 40, 44, dtype=torch.float64)
    images[..., 18:23, 20:25] = noise(1, 3, 5, 5)
    model = seeded(lambda a, b: torch.relu(a + b).mean((2, 3)))
    nn.init.zeros_(model.first.bias)
    nn.init.zeros_(model.second.bias)
    with torch.inference_mode():
        expected, got = model(images), bl.convert(model, "infinite")(images)
    assert (got - expected).abs().max() <= 1e-13


MAXIMA: dict[str, Callable[[Tensor], Tensor]] = {
    "amax": lambda x: x.amax((2, 3)),
    "adaptive_max_pool2d": lambda x: F.adaptive_max_pool2d(x, 1).flatten(1),
}


@pytest.mark.parametrize("maximum", MAXIMA.values(), ids=MAXIMA)
def test_the_maximum_over_space_includes_the_background(maximum: Callable[[Tensor], Tensor]) -> None:
    low = lambda a, b: -((a - 0.1) ** 2) - b**2  # noqa: E731  # a strong pixel lies below the background wherever it is felt
    images = noise(2, 3, 1, 1) * 50
    huge = on_a_huge_canvas(seeded(low), images, PADDING_PX, 1).nan_to_num(-torch.inf)
    with torch.inference_mode():
        got = bl.convert(seeded(lambda a, b: maximum(low(a, b))), "infinite")(images)
        own = maximum(low(*(conv(images) for conv in (seeded(low).first, seeded(low).second))))
    assert (got - huge.amax((2, 3))).abs().max() <= 1e-12
    assert (got > own + 1).all(), "no power: the background is not the maximum"


@pytest.mark.parametrize("border", ["valid", "full"])
def test_full_and_valid_average_over_their_window(border: str) -> None:
    images = noise(2, 3, 7, 10)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conv = nn.Conv2d(3, CHANNELS, 3, padding=1, dtype=torch.float64)
    window = F.conv2d(images, conv.weight, conv.bias, padding=2 if border == "full" else 0)
    with torch.inference_mode():
        got = bl.convert(nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten()), border)(images)
    assert (got - window.mean((2, 3))).abs().max() <= 1e-12


def signal_after(border: str, *modules: nn.Module) -> bl.Signal:
    model = nn.Sequential(*modules)
    return bl.convert(model, border, output="signal")(noise(2, 3, 7, 10))


def seeded_conv() -> nn.Conv2d:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conv = nn.Conv2d(3, CHANNELS, 3, padding=1, dtype=torch.float64)
        nn.init.normal_(conv.bias)
    return conv


@pytest.mark.parametrize("border", ["valid", "zero", "full", "infinite"])
def test_batch_norm_in_training_uses_the_window_and_carries_the_background(border: str) -> None:
    conv, norm, expected_norm = seeded_conv(), nn.BatchNorm2d(CHANNELS).double(), nn.BatchNorm2d(CHANNELS).double()
    model = bl.convert(nn.Sequential(conv, norm).train(), border, output="signal")
    with torch.no_grad():
        before, after = signal_after(border, conv), model(noise(2, 3, 7, 10))
        expected = expected_norm(before.window)
    assert (after.window - expected).abs().max() <= 1e-12
    trained = dict(model.named_buffers())
    for name, value in expected_norm.named_buffers():
        assert torch.allclose(trained[f"1.{name}"], value, rtol=1e-12, atol=1e-14), name
    assert torch.equal(norm.running_mean, torch.zeros(CHANNELS, dtype=torch.float64)), "the caller's model is untouched"
    if border == "infinite":
        variance, mean = torch.var_mean(before.window, (0, 2, 3), correction=0, keepdim=True)
        expected_background = (before.background - mean) / (variance + norm.eps).sqrt()
        assert (after.background - expected_background).abs().max() <= 1e-12


@pytest.mark.parametrize("groups", [1, 2, CHANNELS])
@pytest.mark.parametrize("border", ["zero", "full", "infinite"])
def test_group_norm_uses_each_samples_window(border: str, groups: int) -> None:
    conv = seeded_conv()
    norm = nn.GroupNorm(groups, CHANNELS).double()
    nn.init.normal_(norm.bias)
    with torch.inference_mode():
        before, after = signal_after(border, conv), signal_after(border, conv, norm)
        assert (after.window - norm(before.window)).abs().max() <= 1e-12
        if border == "infinite":
            grouped = before.window.unflatten(1, (groups, -1))
            variance, mean = torch.var_mean(grouped, (2, 3, 4), correction=0, keepdim=True)
            background = before.background.expand(2, CHANNELS, 1, 1).unflatten(1, (groups, -1))
            expected = ((background - mean) / (variance + norm.eps).sqrt()).flatten(1, 2) + norm.bias.view(1, -1, 1, 1)
            assert (after.background - expected).abs().max() <= 1e-12


def test_dropout_leaves_the_background_alone() -> None:
    conv = seeded_conv()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        before, after = signal_after("infinite", conv), signal_after("infinite", conv, nn.Dropout(0.5).train())
    assert torch.equal(after.background.expand(2, CHANNELS, 1, 1), before.background.expand(2, CHANNELS, 1, 1))
    assert ((after.window == 0) | torch.isclose(after.window, 2 * before.window)).all()
    assert 0.3 < (after.window == 0).double().mean() < 0.7


def test_sizes_that_a_model_computes_are_the_frames() -> None:
    """Size arithmetic inside a model sees what the unmodified model would see, not the grown window."""
    seen = []

    def body(a: Tensor, b: Tensor) -> Tensor:
        seen.append((tuple(a.shape), a.size(2), a.size(), a.dim(), a.ndim, a.numel(), b.shape[-1], len(a)))
        return a + b

    images = noise(2, 3, 7, 10)
    with torch.inference_mode():
        seeded(body)(images)
        for border in ("zero", "full", "infinite", "valid"):
            bl.convert(seeded(body), border, output="signal")(images)
    assert len(seen) == 5
    assert all(sizes == seen[0] for sizes in seen[1:])


FOLLOWERS: dict[str, Callable[[Tensor, nn.Module], Tensor]] = {
    "BatchNorm": lambda maps, norm: norm(maps),
    "BatchNorm and the map itself": lambda maps, norm: norm(maps) + maps,
    "the map changed in place, then BatchNorm": lambda maps, norm: norm(maps.mul_(2).relu_()),
    "BatchNorm, and a change in place": lambda maps, norm: norm(maps) + maps.clone().relu_(),
    "pool": lambda maps, norm: norm(F.max_pool2d(maps, 3, 2, 1)),
    "channels cut and joined": lambda maps, norm: norm(torch.cat([maps[:, :3], maps[:, 3:].sigmoid()], 1)),
}


@pytest.mark.parametrize("phase", ["fixed", "adaptive"])
@pytest.mark.parametrize("follow", FOLLOWERS.values(), ids=FOLLOWERS)
def test_a_convolution_without_bias_in_training_is_one_with_a_bias_of_zero(
    follow: Callable[[Tensor, nn.Module], Tensor], phase: str
) -> None:
    """The one without bias leaves only its deviation behind, which BatchNorm reads; the other one a whole window."""

    class Net(nn.Module):
        def __init__(self, *, bias: bool) -> None:
            super().__init__()
            self.first = seeded_conv()
            self.second = nn.Conv2d(CHANNELS, CHANNELS, 3, 2, padding=1, bias=bias, dtype=torch.float64)
            self.third = nn.Conv2d(CHANNELS, 6, 3, 2, padding=1, bias=bias, dtype=torch.float64)
            self.norm = nn.BatchNorm2d(CHANNELS, dtype=torch.float64)

        def forward(self, images: Tensor) -> Tensor:
            return self.third(follow(self.second(self.first(images)), self.norm)).square().mean((2, 3))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        without, zero = Net(bias=False), Net(bias=True)
    zero.load_state_dict(
        {name: torch.zeros_like(value) for name, value in zero.state_dict().items()} | without.state_dict()
    )
    results = []
    for model in (without, zero):
        model = bl.convert(model.train(), "infinite", phase=phase)
        with torch.no_grad():
            model(noise(2, 3, 7, 10))  # whatever is remembered here must not be met again below
        loss = model(noise(2, 3, 7, 10)).square().sum()
        loss.backward()
        results.append((loss, {name: p.grad for name, p in model.named_parameters()}, dict(model.named_buffers())))
    (loss, gradients, buffers), (expected_loss, expected_gradients, expected_buffers) = results
    assert abs(loss - expected_loss) <= 1e-12 * expected_loss
    largest = max(float(gradient.abs().max()) for gradient in expected_gradients.values())
    for name, gradient in gradients.items():
        assert gradient is not None and gradient.shape == expected_gradients[name].shape, name
        assert (gradient - expected_gradients[name]).abs().max() <= 1e-12 * largest, name
    assert gradients["second.weight"].abs().max() > 1e-3 * largest, "no power: no gradient gets through"
    for name, value in buffers.items():
        assert torch.allclose(value, expected_buffers[name], rtol=1e-12, atol=1e-14), name


def test_a_window_first_asked_for_without_gradients_still_has_them() -> None:
    model = nn.Sequential(nn.Conv2d(3, CHANNELS, 3, bias=False, dtype=torch.float64))
    signal = bl.convert(model.train(), "infinite", output="signal")(noise(2, 3, 7, 10))
    with torch.no_grad():
        window = signal.window
    window.sum().backward()
    assert model[0].weight.grad is None, "the caller's model is untouched"
    assert window.requires_grad


def test_amounts_may_be_lists() -> None:
    class Listed(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            maps = F.conv2d(images, torch.ones(2, 1, 3, 3), None, [2, 2], [1, 1], [1, 1])
            return F.avg_pool2d(F.max_pool2d(maps, [3, 3], [1, 1], [1, 1]), [2, 2], [2, 2], [0, 0])

    images = torch.rand(1, 1, 16, 16)
    assert torch.equal(bl.convert(Listed(), "zero")(images), Listed()(images))
    assert bl.convert(Listed(), "infinite")(images).shape == (1, 2, 4, 4)
