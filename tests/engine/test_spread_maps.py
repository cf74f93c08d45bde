"""A tensor that is the same everywhere joins a map as a value for each channel; nothing else does."""

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import borderless as bl
from borderless.engine.rules.spread_maps import is_constant_along

SIZE = (7, 9)


def images() -> Tensor:
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))


class Pooled(nn.Module):
    """A global pool, spread over the map again by `spread`, and a kernel that reads beyond the window."""

    def __init__(self, spread: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(8, 2, 5, padding=2)
        self.spread = spread

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.last(torch.cat([y, self.spread(F.adaptive_avg_pool2d(y, 1), y)], 1))


def expanded(g: Tensor, y: Tensor) -> Tensor:
    return g.expand(-1, -1, *y.shape[2:])


SPREADS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    **{
        mode: lambda g, y, mode=mode: F.interpolate(g, size=y.shape[2:], mode=mode)
        for mode in ("nearest", "bilinear", "bicubic", "area")
    },
    "repeat": lambda g, y: g.repeat(1, 1, *y.shape[2:]),
    "expand": expanded,
    "expand, contiguous": lambda g, y: expanded(g, y).contiguous(),
    "activated": lambda g, y: F.interpolate(g.sigmoid().logit(), size=y.shape[2:]).sigmoid().logit(),
    "scaled by another": lambda g, y: F.interpolate(g, size=y.shape[2:]) * 2 * (0 * g + 0.5),
}


@pytest.mark.parametrize("mode", ["no_grad", "grad", "inference", "frozen"])
@pytest.mark.parametrize("spread", SPREADS.values(), ids=SPREADS)
def test_what_is_spread_from_one_cell_joins_as_a_constant(spread: Callable[..., Tensor], mode: str) -> None:
    model = bl.convert(Pooled(spread), "infinite", strict=True)
    with torch.no_grad():
        expected = bl.convert(Pooled(expanded), "infinite")(images())
    if mode == "frozen":
        got = bl.freeze(model, images()).module()(images())
    else:
        context = {"no_grad": torch.no_grad, "grad": torch.enable_grad, "inference": torch.inference_mode}[mode]
        with context():
            got = model(images())
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


FILLED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "zeros": lambda g, y: torch.zeros(y.shape),
    "new_zeros": lambda g, y: y.new_zeros(y.shape),
    "ones and more": lambda g, y: torch.ones(y.shape) * 2 - torch.full(y.shape, 2.0),
    "in place": lambda g, y: torch.ones(y.shape).mul_(0),
}


@pytest.mark.parametrize("mode", ["eager", "frozen"])
@pytest.mark.parametrize("fill", FILLED.values(), ids=FILLED)
def test_what_is_filled_joins_as_a_constant(fill: Callable[..., Tensor], mode: str) -> None:
    model = bl.convert(Pooled(fill), "infinite", strict=True)
    expected = bl.convert(Pooled(lambda g, y: expanded(g * 0, y)), "infinite")(images())
    got = model(images()) if mode == "eager" else bl.freeze(model, images()).module()(images())
    torch.testing.assert_close(got, expected)


def with_a_corner(g: Tensor, y: Tensor) -> Tensor:
    spread = F.interpolate(g, size=y.shape[2:])
    spread[:, :, 0, 0] = 7.0
    return spread.mul_(2)


@pytest.mark.parametrize("border", ["zero", "valid", "full", "infinite", "reflect"])
def test_a_pooled_map_is_written_to_as_in_the_unmodified_model(border: str) -> None:
    class Writes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return with_a_corner(F.adaptive_avg_pool2d(x, 1), x)

    got = bl.convert(Writes(), border)(images())
    torch.testing.assert_close(got, Writes()(images()))
    assert got.is_contiguous()


@pytest.mark.parametrize("frozen", [False, True])
def test_a_pooled_map_that_was_written_to_is_no_constant(frozen: bool) -> None:
    model = bl.convert(Pooled(with_a_corner), "infinite")
    with pytest.warns(bl.PositionDependentWarning, match="torch.cat"):
        bl.freeze(model, images()) if frozen else model(images())


def test_a_position_embedding_that_is_still_zero_keeps_its_gradients() -> None:
    class Embeds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.position = nn.Parameter(torch.zeros(1, 3, *SIZE))

        def forward(self, x: Tensor) -> Tensor:
            return (x + self.position).square().sum()

    model = Embeds()
    with pytest.warns(bl.PositionDependentWarning), torch.no_grad():
        bl.convert(model, "infinite")(images())
    with pytest.warns(bl.PositionDependentWarning):
        bl.convert_(model, "infinite")(images()).backward()
    torch.testing.assert_close(model.position.grad, 2 * images().sum(0, keepdim=True))


def test_a_sample_that_is_not_a_number_leaves_the_others_alone() -> None:
    model = bl.convert(Pooled(SPREADS["bilinear"]), "infinite", strict=True)
    broken = images()
    broken[0, 0, 0, 0] = torch.nan
    with torch.no_grad():
        torch.testing.assert_close(model(broken)[1], model(images())[1])


def test_nothing_is_left_behind_by_an_interrupt() -> None:
    class Interrupted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            F.interpolate(F.adaptive_avg_pool2d(x, 1), size=SIZE)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bl.convert(Interrupted(), "infinite")(images())
    with pytest.raises(KeyboardInterrupt):
        bl.freeze(bl.convert(Interrupted(), "infinite"), images())
    assert torch.overrides._get_current_function_mode_stack() == []
    assert F.interpolate(torch.ones(1, 1, 1, 1), size=(4, 4)).stride() == (16, 16, 4, 1)


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.bool]
)
def test_values_are_equal_up_to_rounding(dtype: torch.dtype) -> None:
    constant = torch.full((2, 3, 4, 5), 3.1).to(dtype)
    assert is_constant_along(constant, (-2, -1))
    constant[1, 2, 3, 4] = 0
    assert not is_constant_along(constant, (-2, -1))
    assert is_constant_along(torch.arange(4).reshape(4, 1).repeat(1, 3).to(dtype), (-1,))


def test_vmap_and_traces_cannot_look_at_values() -> None:
    """There only strides and autograd tell; else the tensor is said to have a value for each position."""
    model = bl.convert(Pooled(SPREADS["nearest"]), "infinite")
    with pytest.warns(bl.PositionDependentWarning), torch.no_grad():
        torch.func.vmap(lambda image: model(image[None])[0])(images())
    strict = bl.convert(Pooled(expanded), "infinite", strict=True)
    with torch.no_grad():
        got = torch.func.vmap(lambda image: strict(image[None])[0])(images())
        torch.testing.assert_close(got, strict(images()))


@pytest.mark.parametrize("leaf", [(1, 4, *SIZE), (4, 1, SIZE[1]), (1, 4 * SIZE[0] * SIZE[1])], ids=str)
def test_what_learns_a_value_for_each_position_is_no_constant_while_it_is_0(leaf: tuple[int, ...]) -> None:
    learned = torch.zeros(leaf, requires_grad=True)
    embedding = learned.reshape(1, 4, *SIZE) if len(leaf) == 2 else learned
    spread = F.interpolate(torch.ones(2, 4, 1, 1, requires_grad=True).sigmoid(), size=SIZE)
    assert is_constant_along(spread * torch.ones(1, 4, 1, 1, requires_grad=True).exp(), (-2, -1))
    assert not is_constant_along(spread * 2 + embedding, (-2, -1))
    assert not is_constant_along(spread * torch.rand(SIZE), (-2, -1)), "values tell where there are no gradients"


@pytest.mark.parametrize("border", ["zero", "full", "infinite"])
@pytest.mark.parametrize("join", [lambda a, b: a + b, lambda a, b: torch.cat([a, b], 1)], ids=["add", "cat"])
def test_a_constant_of_another_size_is_refused_as_pytorch_does(border: str, join: Callable[..., Tensor]) -> None:
    class Joins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, images: Tensor) -> Tensor:
            return join(self.conv(images), torch.zeros(len(images), 4, 5, 5))

    model = bl.convert(Joins(), border)
    with pytest.warns(bl.PositionDependentWarning), pytest.raises(RuntimeError, match=r"(?i)size"):
        model(torch.rand(2, 3, 8, 8))


@pytest.mark.parametrize("border", ["zero", "full", "infinite"])
def test_a_map_of_a_single_cell_spreads_over_a_constant(border: str) -> None:
    class Spreads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 8)

        def forward(self, images: Tensor) -> Tensor:
            return self.conv(images) + torch.ones(4, 5, 5)

    own = Spreads()
    # under the original padding one cell has no position
    with nullcontext() if border == "zero" else pytest.warns(bl.PositionDependentWarning):
        spread = bl.convert(own, border)(torch.ones(2, 3, 8, 8))
    assert spread.shape == own(torch.ones(2, 3, 8, 8)).shape == (2, 4, 5, 5)
