"""Reductions, products and pools as people write them: exact under every border, or refused by name.

Oracles: under `zero` the unmodified model, bit for bit; under `infinite` the same object elsewhere, by multiples of the
stride or, with an adaptive phase, by any shift; of a placement the model on whole canvases.
"""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import borderless as bl
from support.bodies import noise, seeded
from support.endless_plane import assert_as_on_a_huge_canvas

CHANNELS = 4


class Idiom(nn.Module):
    """A strided convolution, `body`, and, if a map comes out, a convolution and a mean over space."""

    def __init__(self, body: Callable[..., Tensor], stride: int = 2) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, CHANNELS, 3, stride, 1)
        self.last = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.body = body
        self.double().eval()
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data.normal_(0, 0.4, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        found = self.body(self.first(images).tanh())
        if found.ndim == 4 and found.shape[2] > 1 and found.shape[3] > 1:
            return self.last(found[:, :CHANNELS]).tanh().mean((2, 3))
        return found


W = noise(CHANNELS, CHANNELS)


def coordinate_attention(y: Tensor) -> Tensor:
    rows, columns = F.adaptive_avg_pool2d(y, (None, 1)), F.adaptive_avg_pool2d(y, (1, None))
    return y * (2 * rows).sigmoid() * columns.tanh().sigmoid()


def attentive_statistics(y: Tensor) -> Tensor:
    x = y.flatten(2)
    weights = (x.mean(1, keepdim=True) * x).softmax(2)
    mean = (weights * x).sum(2)
    spread = ((weights * x**2).sum(2) - mean**2).clamp(min=1e-4).sqrt()
    return torch.cat([mean, spread], 1)


def context(y: Tensor) -> Tensor:
    """The global context block of GCNet."""
    x = y.flatten(2)
    weights = (y[:, :1] * 2).flatten(2).softmax(2)
    return y + torch.matmul(x, weights.transpose(1, 2)).unsqueeze(-1)


def unpooled(y: Tensor) -> Tensor:
    values, indices = F.max_pool2d(y, 2, 2, return_indices=True)
    return F.max_unpool2d(values.tanh() + 1, indices, 2, 2)


def unpooled_where_kernels_overlap(y: Tensor) -> Tensor:
    """The kernels of the pool overlap: of cells that return to one, the last in row-major order stays (ENet)."""
    values, indices = F.max_pool2d(y, 3, 2, 1, return_indices=True)
    values = F.avg_pool2d(values, 3, 1, 1) + values.tanh()
    return F.max_unpool2d(values, indices, 2) + F.max_unpool2d(values * 2, indices, 3, 2, 1, output_size=y.shape)


def unpooled_with_ceil_mode(y: Tensor) -> Tensor:
    values, indices = F.max_pool2d(y, 2, 2, ceil_mode=True, return_indices=True)
    return F.max_unpool2d(F.avg_pool2d(values, 3, 1, 1), indices, 2, 2)


def weighed(y: Tensor) -> Tensor:
    """Another weight for each cell of a block and around it, so that each counts and what is not known spreads."""
    return F.conv2d(y, noise(2, CHANNELS, 4, 4), stride=2, padding=1)


def with_indices(y: Tensor) -> Tensor:
    values, indices = nn.MaxPool2d(2, 2, return_indices=True)(y)
    deeper, more = nn.MaxPool2d((2, 1), (2, 1), return_indices=True)(values)
    deeper = nn.MaxUnpool2d((2, 1), (2, 1))(deeper * 2, more, output_size=values.size())
    return nn.MaxUnpool2d(2, 2)(deeper, indices, output_size=y.shape)


IDIOMS: dict[str, Callable[[Tensor], Tensor]] = {
    "flatten mean": lambda y: y.flatten(2).mean(-1),
    "view max": lambda y: y.view(y.size(0), CHANNELS, -1).max(-1)[0],
    "view max keepdim": lambda y: y.view(y.size(0), CHANNELS, -1).max(dim=2, keepdim=True).values,
    "tokens mean": lambda y: y.flatten(2).transpose(1, 2).mean(1),
    "tokens sum, std": lambda y: torch.cat([y.flatten(2).sum(2), y.flatten(2).std(2)], 1),
    "tokens amax": lambda y: y.flatten(2).transpose(1, 2).amax(1),
    "tokens min": lambda y: torch.min(y.flatten(2), 2)[0],
    "max max": lambda y: y.max(3)[0].max(2)[0],
    "min keepdim": lambda y: torch.min(y, 2, keepdim=True)[0] * y,
    "amax amax": lambda y: y.amax(-1).amax(-1),
    "mean mean": lambda y: y.mean(3).mean(2),
    "sum amax": lambda y: y.sum(2).amax(2),
    "mean of all": lambda y: y.mean((1, 2, 3)),
    "rows gate": lambda y: y * y.mean(3, keepdim=True),
    "columns gate": lambda y: y - y.amax(2, keepdim=True),
    "line first": lambda y: y.mean(3, keepdim=True) * y + 1,
    "coordinate attention": coordinate_attention,
    "expanded line": lambda y: torch.cat([y[:, :2], y.mean(2, keepdim=True).expand(-1, -1, y.size(2), -1)[:, :2]], 1),
    "adaptive max of rows": lambda y: y + nn.AdaptiveMaxPool2d((1, None))(y),
    "aminmax": lambda y: torch.cat([t.amax(2) for t in y.aminmax(dim=3)], 1),
    "aminmax of all": lambda y: torch.stack(list(torch.aminmax(y)))[None],
    "aminmax of channels": lambda y: (y - y.aminmax(dim=1, keepdim=True).min) * 0.5,
    "isnan any": lambda y: y.mean((2, 3)) if not y.isnan().any() else y.amax((2, 3)),
    "all": lambda y: (y > -2).all(dim=3).all(dim=2).to(y.dtype),
    "einsum": lambda y: torch.einsum("nchw,cd->ndhw", y, W),
    "einsum with an ellipsis": lambda y: torch.einsum("n...c,cd->n...d", y.permute(0, 2, 3, 1), W).permute(0, 3, 1, 2),
    "einsum of two maps": lambda y: torch.einsum("nchw,nchw->nhw", y, y.tanh()).unsqueeze(1) * y,
    "einsum over space": lambda y: torch.einsum("nchw,nkhw->nck", y, y.sigmoid()).flatten(1),
    "matmul": lambda y: (y.permute(0, 2, 3, 1) @ W).permute(0, 3, 1, 2),
    "matmul of tokens": lambda y: (y.flatten(2).transpose(1, 2) @ W).transpose(1, 2).reshape(y.shape),
    "matmul from the left": lambda y: (W @ y.flatten(2)).view(y.shape),
    "global context": context,
    "attentive statistics": attentive_statistics,
    "softmax of a row": lambda y: y.softmax(3) * 10,
    "log_softmax of tokens": lambda y: y.flatten(2).log_softmax(-1).amax(-1),
    "cosine": lambda y: F.cosine_similarity(y, y.flip(1) + 0.5, dim=1).unsqueeze(1) * y,
    "cosine with a prototype": lambda y: F.cosine_similarity(y, W[None, :, :1, None], 1).unsqueeze(1) * y,
    "prelu channels last": lambda y: F.prelu(y.permute(0, 2, 3, 1), W[0, :1]).permute(0, 3, 1, 2),
    "threshold": lambda y: F.threshold(y, 0.1, 0.5),
    "lp_pool": lambda y: F.lp_pool2d(y, 2, 3, 2),
    "lp_pool inf": lambda y: F.lp_pool2d(y, float("inf"), 2),
    "max pool of the frame": lambda y: F.max_pool2d(y, y.shape[2:]).flatten(1),
    "average pool of more than the frame": lambda y: F.avg_pool2d(y, 640, ceil_mode=True).flatten(1),
    "unpool": unpooled,
    "unpool, overlapping": unpooled_where_kernels_overlap,
    "unpool twice": with_indices,
    "unfold": lambda y: F.unfold(y, 3, padding=1).view(y.size(0), CHANNELS, 9, *y.shape[2:]).amax(2),
    "unfold with a stride": lambda y: F.unfold(y, 2, stride=2).mean(2),
    "half bilinear": lambda y: F.interpolate(y, scale_factor=0.5, mode="bilinear"),
    "half area": lambda y: F.interpolate(y, scale_factor=0.5, mode="area"),
    "half bicubic": lambda y: F.interpolate(y, scale_factor=0.5, mode="bicubic"),
    "half antialiased": lambda y: F.interpolate(y, scale_factor=0.5, mode="bilinear", antialias=True),
    "a quarter": lambda y: F.interpolate(y, size=(y.size(2) // 4, y.size(3) // 4), mode="bilinear"),
    "twice bicubic": lambda y: F.interpolate(y, scale_factor=2, mode="bicubic"),
    "zeros of the shape": lambda y: torch.cat([y[:, :2], torch.zeros(y.shape, dtype=y.dtype)], 1),
    "global feature repeated": lambda y: torch.cat([y[:, :2], y.mean((2, 3), True).repeat(1, 1, *y.shape[2:])], 1),
    "global feature expanded": lambda y: torch.cat([y.amax((2, 3), True).expand(-1, -1, y.size(2), y.size(3)), y], 1),
}
# On an unlimited plane these reach past any window, wherever the background is not 0.
LINES = {
    *("min keepdim", "rows gate", "columns gate", "line first", "coordinate attention", "expanded line"),
    *("adaptive max of rows", "softmax of a row"),
}
every_idiom = pytest.mark.parametrize("name", IDIOMS)


def idiom(name: str) -> Idiom:
    return Idiom(IDIOMS[name])


@every_idiom
@torch.no_grad()
def test_zero_is_the_unmodified_model(name: str) -> None:
    model, images = idiom(name), noise(2, 3, 32, 40)
    assert torch.equal(bl.convert(model, "zero", strict=True)(images), model(images))


def moved(by: tuple[int, int]) -> Tensor:
    canvas = torch.zeros(2, 3, 64, 64, dtype=torch.float64)
    canvas[:, :, 24 + by[0] : 33 + by[0], 20 + by[1] : 31 + by[1]] = noise(2, 3, 9, 11)
    return canvas


def assert_blind_to_position(model: nn.Module, phase: str) -> None:
    blind = bl.convert(model, "infinite", phase=phase, strict=True)  # pyright: ignore[reportArgumentType]
    shifts = [(8, -16), (-24, 24)] if phase == "fixed" else [(3, -5), (-24, -20), (-14, 33)]
    expected = blind(moved((0, 0)))
    assert expected.isfinite().all() and expected.abs().max() > 1e-3
    for shift in shifts:
        assert (blind(moved(shift)) - expected).abs().max() <= 1e-12 * max(1, float(expected.abs().max()))


@pytest.mark.parametrize("phase", ["fixed", "adaptive"])
@every_idiom
@torch.no_grad()
def test_infinite_does_not_see_the_position(name: str, phase: str) -> None:
    if name not in LINES:
        assert_blind_to_position(idiom(name), phase)
        return
    with pytest.raises(bl.PositionDependentError, match="reach past the window along all of that row or column"):
        assert_blind_to_position(idiom(name), phase)


@pytest.mark.parametrize("phase", ["fixed", "adaptive"])
@pytest.mark.parametrize("name", ["rows gate", "line first", "coordinate attention"])
@torch.no_grad()
def test_lines_are_exact_where_the_background_is_zero(name: str, phase: str) -> None:
    model = Idiom((lambda y: IDIOMS["rows gate"](y) * y) if name == "line first" else IDIOMS[name])
    nn.init.zeros_(model.first.bias)  # pyright: ignore[reportArgumentType]
    assert_blind_to_position(model, phase)


@pytest.mark.parametrize("border", [None, "full", "infinite"])
@every_idiom
@torch.no_grad()
def test_placed_is_dense(name: str, border: str | None) -> None:
    if name in LINES and border == "infinite":
        pytest.skip("refused")
    model = idiom(name)
    model = model if border is None else bl.convert(model, border, strict=True)  # pyright: ignore[reportArgumentType]
    patch, positions = noise(1, 3, 7, 5), [(0, 0), (10, 13), (25, 27)]
    canvases = torch.zeros(3, 3, 32, 32, dtype=torch.float64)
    for canvas, (row, column) in zip(canvases, positions, strict=True):
        canvas[:, row : row + 7, column : column + 5] = patch[0]
    expected = torch.stack([model(canvas[None]) for canvas in canvases])
    got = bl.place(model, patch, positions, canvas=(32, 32))
    assert (got - expected).abs().max() <= 1e-11 * max(1, float(expected.abs().max()))


DENSE: dict[str, tuple[int, Callable[[Tensor, Tensor], Tensor]]] = {
    "einsum": (1, lambda a, b: torch.einsum("nchw,cd,nchw->ndhw", a, W, b)),
    "matmul": (1, lambda a, b: (a.movedim(1, -1) @ W).movedim(-1, 1) * b),
    "tokens": (1, lambda a, b: (W @ a.flatten(2)).view(b.shape) + b),
    "cosine": (1, lambda a, b: F.cosine_similarity(a, b, 1).unsqueeze(1)),
    "threshold": (1, lambda a, b: F.threshold(a + b, 0.3, -1.0)),
    "lp_pool": (2, lambda a, b: F.lp_pool2d(a + b, 2, 3, 2)),
    "unfold": (
        1,
        lambda a, b: (
            F.unfold(a, (3, 2), 2, (2, 1))
            .view(len(a), 6 * CHANNELS, *b.shape[2:])
            .mul(noise(6 * CHANNELS, 1, 1))
            .sum(1, True)
        ),
    ),
    "unfold with a stride": (
        2,
        lambda a, b: F.unfold(a + b, 2, stride=2).view(len(a), -1, a.size(2) // 2, a.size(3) // 2),
    ),
    "half bilinear": (2, lambda a, b: F.interpolate(a + b, scale_factor=0.5, mode="bilinear")),
    "half area": (2, lambda a, b: F.interpolate(a + b, scale_factor=0.5, mode="area")),
    "half bicubic": (2, lambda a, b: F.interpolate(a + b, scale_factor=0.5, mode="bicubic")),
    "half antialiased": (2, lambda a, b: F.interpolate(a + b, scale_factor=0.5, mode="bicubic", antialias=True)),
    "a quarter bilinear": (4, lambda a, b: F.interpolate(a + b, scale_factor=0.25, mode="bilinear")),
    "a third antialiased": (
        3,
        lambda a, b: F.interpolate(a, size=(a.size(2) // 3, a.size(3) // 3), mode="bilinear", antialias=True),
    ),
    "a third bicubic": (3, lambda a, b: F.interpolate(a, scale_factor=1 / 3, mode="bicubic")),
    "twice bicubic, then half": (
        1,
        lambda a, b: F.interpolate(F.interpolate(a, scale_factor=2, mode="bicubic"), scale_factor=0.5, mode="bilinear"),
    ),
    "unpool": (2, lambda a, b: F.avg_pool2d(unpooled((a + b).relu()), 2)),
    "unpool, overlapping": (4, lambda a, b: F.avg_pool2d(unpooled_where_kernels_overlap(a + b), 4)),
    "unpool, overlapping, each cell": (2, lambda a, b: weighed(unpooled_where_kernels_overlap(a * b))),
    "unpool, ceil_mode": (2, lambda a, b: weighed(unpooled_with_ceil_mode(a + b))),
    "unpool twice": (4, lambda a, b: F.avg_pool2d(with_indices((a + b).relu()), 4)),
}


@pytest.mark.parametrize("name", DENSE)
@torch.no_grad()
def test_dense_maps_are_those_of_the_unlimited_plane(name: str) -> None:
    stride, body = DENSE[name]
    model, images = seeded(body), noise(2, 3, 24, 36)
    assert torch.equal(bl.convert(model, "zero", strict=True)(images), model(images))
    assert_as_on_a_huge_canvas(model, images, 48, stride)


@pytest.mark.parametrize("border", ["full", "infinite"])
@pytest.mark.parametrize(
    ("body", "reader"),
    [
        (lambda y: F.max_pool2d(y, 2, return_indices=True)[1] + 1, r"torch\.Tensor\.add, .* of .*max_pool2d,"),
        (lambda y: y.max(3)[1].amax(2), r"torch\.Tensor\.amax, .* of torch\.Tensor\.max,"),
        (lambda y: y.max(3).indices, "the output, or an attribute, of the model, .* of torch.Tensor.max,"),
    ],
)
@torch.no_grad()
def test_indices_of_maxima_may_not_be_read(body: Callable[[Tensor], Tensor], reader: str, border: str) -> None:
    with pytest.raises(bl.UnsupportedOperation, match=reader + ".*absolute positions. Write max_unpool"):
        bl.convert(Idiom(body), border)(noise(1, 3, 20, 24))  # pyright: ignore[reportArgumentType]


@torch.no_grad()
def test_the_place_of_a_maximum_over_space_is_that_of_the_frame() -> None:
    images = noise(2, 3, 20, 24)
    found: list[Callable[[Tensor], Tensor]] = [
        lambda y: y.flatten(2).max(2).indices,
        lambda y: y.flatten(2).transpose(1, 2).min(dim=1, keepdim=True)[1] % y.size(3),
        lambda y: F.adaptive_max_pool2d(y, 1, return_indices=True)[1] // y.size(3),
        lambda y: y.flatten(2).argmax(2),
    ]
    for body in found:
        maps = bl.convert(Idiom(body).first, "infinite")(images).tanh()
        got = bl.convert(Idiom(body), "infinite", strict=True)(images)
        assert torch.equal(got, body(maps)) and got.shape == Idiom(body)(images).shape
        assert len(bl.explain(Idiom(body), (20, 24)).departures) == 1


@torch.no_grad()
def test_indices_are_the_models_own_under_zero() -> None:
    model = Idiom(lambda y: F.max_pool2d(y, 3, 2, 1, return_indices=True)[1].double())
    images = noise(2, 3, 21, 26)
    assert torch.equal(bl.convert(model, "zero")(images), model(images))


@torch.no_grad()
def test_pools_of_other_sizes_cannot_be_undone() -> None:
    def body(y: Tensor) -> Tensor:
        values, indices = F.max_pool2d(y, 3, 3, return_indices=True)
        return F.max_unpool2d(values, indices, 3, 3)

    with pytest.raises(bl.UnsupportedOperation, match=r"count the cells of \(10, 13\) .* or give output_size the size"):
        bl.convert(Idiom(body), "infinite")(noise(1, 3, 20, 25))


REFUSED: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "fold": ("conv_transpose2d", lambda y: F.fold(F.unfold(y, 2), (y.size(2), y.size(3)), 2)),
    "gumbel_softmax": ("Write softmax over the channels", lambda y: F.gumbel_softmax(y, dim=1)),
    "attention": (
        "as attention does.* that treat each cell alike",
        lambda y: torch.einsum("ncl,ncm->nlm", y.flatten(2), y.flatten(2)),
    ),
    "einsum over rows": ("one spatial axis", lambda y: torch.einsum("nchw,nchw->nch", y, y)),
    "einsum over the batch": ("sums over the batch", lambda y: torch.einsum("nchw->chw", y)),
    "cosine over space": (
        "takes the cells of a frame together",
        lambda y: F.cosine_similarity(y.flatten(2), y.flatten(2) + 1, 2),
    ),
    "rows and columns": ("one after the other", lambda y: y.mean(3, True) * y.mean(2, True)),
    "a line without keepdim": ("keepdim=True", lambda y: y.transpose(0, 1)[:1].transpose(0, 1) * y.mean(3)),
}


@pytest.mark.parametrize("name", REFUSED)
@torch.no_grad()
def test_refusals_say_what_to_write(name: str) -> None:
    text, body = REFUSED[name]
    with pytest.raises(bl.BorderlessError, match=text):
        bl.convert(Idiom(body), "infinite", strict=True)(noise(1, 3, 20, 24))


class CoordinateAttention(nn.Module):
    """Hou et al. (CVPR 2021), each line by itself: convolutions of one cell, a norm, a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.Conv2d(4, 4, 3, padding=1)
        self.squeeze, self.rows = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, (3, 1), padding=(1, 0))
        self.norm, self.columns = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)
        self.double()
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data.normal_(0, 0.5, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        y = self.first(images).tanh()
        rows = self.rows(self.norm(self.squeeze(y.mean(3, keepdim=True))).relu()).sigmoid()
        columns = self.columns(self.norm(self.squeeze(F.adaptive_avg_pool2d(y, (1, None))))).sigmoid()
        return self.last(y * rows * columns).tanh().mean((2, 3))


@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_coordinate_attention(training: bool) -> None:
    model, images = CoordinateAttention().train(training), noise(2, 3, 32, 40)
    unmodified = copy.deepcopy(model)
    assert torch.equal(bl.convert(model, "zero", strict=True)(images), unmodified(images))
    for phase in ("fixed", "adaptive"):
        assert_blind_to_position(CoordinateAttention().train(training), phase)


def test_coordinate_attention_is_placed() -> None:
    patch = noise(2, 3, 7, 5)
    canvas = torch.zeros(2, 3, 32, 32, dtype=torch.float64)
    canvas[:, :, 20:27, 3:8] = patch
    for border in ("zero", "full", "infinite"):
        model = bl.convert(CoordinateAttention().eval(), border, strict=True)
        with torch.no_grad():
            assert (bl.place(model, patch, [(20, 3)], canvas=(32, 32))[0] - model(canvas)).abs().max() <= 1e-12


class Darker(nn.Module):
    """Convolutions that spread the image far beyond its frame, and a softmax for which the background is largest."""

    def __init__(self) -> None:
        super().__init__()
        self.spread = nn.Sequential(nn.Conv2d(1, 1, 9, padding=4), nn.Conv2d(1, 1, 9, padding=4)).double()
        for parameter in self.parameters():
            nn.init.ones_(parameter)

    def forward(self, images: Tensor) -> Tensor:
        return (-self.spread(images)).flatten(2).softmax(2)


@pytest.mark.filterwarnings("ignore::borderless.RoundingWarning")
@torch.no_grad()
def test_a_softmax_whose_weights_do_not_add_up_is_refused() -> None:
    with pytest.raises(bl.ImageError, match=r"weights with a positive sum in torch\.Tensor\.softmax over space"):
        bl.convert(Darker(), "infinite")(torch.ones(1, 1, 4, 4, dtype=torch.float64))
