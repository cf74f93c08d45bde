"""Networks drawn at random of convolutions, pools, reductions and resamplings, as people write them.

Under `zero` they are the unmodified model bit for bit; under `infinite` their output does not see the position of an
object, or they are refused by name.
"""

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import borderless as bl
from support.bodies import noise

CHANNELS, CANVAS_PX = 3, 96
W = noise(CHANNELS, CHANNELS) / 2


class Layer(nn.Module):
    """A function of a map."""

    def __init__(self, name: str, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.name, self.run = name, run

    def forward(self, maps: Tensor) -> Tensor:
        return self.run(maps)

    def extra_repr(self) -> str:
        return self.name


def context(y: Tensor) -> Tensor:
    tokens, weights = y.flatten(2), y[:, :1].flatten(2).softmax(-1)
    return y + (tokens @ weights.transpose(1, 2)).unsqueeze(-1)


def pooled_and_back(y: Tensor) -> Tensor:
    values, indices = F.max_pool2d(y, 2, return_indices=True)
    return F.max_unpool2d(values * 2, indices, 2, output_size=y.shape)


def unfolded(y: Tensor) -> Tensor:
    cells = F.unfold(y, 3, padding=1).view(len(y), CHANNELS, 9, *y.shape[2:])
    return (cells * noise(1, 1, 9, 1, 1)).sum(2)


def statistics(y: Tensor) -> Tensor:
    x = y.flatten(2)
    weights = (x * 2).softmax(2)
    mean = (weights * x).sum(2)
    return torch.cat([mean, torch.einsum("ncl,nkl->nck", weights, x.tanh()).flatten(1)], 1)


LAYERS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "prelu": lambda y: F.prelu(y.movedim(1, -1), W[0, :1]).movedim(-1, 1),
    "threshold": lambda y: F.threshold(y, 0.2, 0.1),
    "einsum": lambda y: torch.einsum("nchw,cd->ndhw", y, W),
    "matmul": lambda y: (y.permute(0, 2, 3, 1) @ W).permute(0, 3, 1, 2),
    "matmul of tokens": lambda y: (W @ y.flatten(2)).view(y.shape),
    "cosine gate": lambda y: y * F.cosine_similarity(y, y.flip(1) + 1, dim=1).unsqueeze(1),
    "mean gate": lambda y: y * y.flatten(2).mean(-1)[:, :, None, None].sigmoid(),
    "max gate": lambda y: y * y.view(*y.shape[:2], -1).max(-1, keepdim=True)[0].unsqueeze(-1).sigmoid(),
    "global context": context,
    "rows": lambda y: y * y.mean(3, keepdim=True).sigmoid(),
    "columns": lambda y: y + nn.AdaptiveMaxPool2d((1, None))(y),
    "clamped": lambda y: torch.minimum(y, y.aminmax(dim=1, keepdim=True).max * 0.5),
    "global feature": lambda y: y + y.amax((2, 3), keepdim=True).expand(-1, -1, y.size(2), y.size(3)),
    "max pool": lambda y: F.max_pool2d(y, 3, 2, 1),
    "average pool": lambda y: F.avg_pool2d(y, 2),
    "lp_pool": lambda y: F.lp_pool2d(y, 2, 2),
    "and back": pooled_and_back,
    "unfolded": unfolded,
    "half bilinear": lambda y: F.interpolate(y, scale_factor=0.5, mode="bilinear"),
    "half area": lambda y: F.interpolate(y, scale_factor=0.5, mode="area"),
    "half bicubic": lambda y: F.interpolate(y, scale_factor=0.5, mode="bicubic", antialias=True),
    "a third": lambda y: F.interpolate(y, scale_factor=1 / 3, mode="bilinear"),
    "twice bilinear": lambda y: F.interpolate(y, scale_factor=2, mode="bilinear"),
    "twice bicubic": lambda y: F.interpolate(y, scale_factor=2, mode="bicubic"),
    "softmax": lambda y: y.softmax(1),
    "rows softmax": lambda y: y.softmax(3),
}
HEADS: dict[str, Callable[[Tensor], Tensor]] = {
    "flatten mean": lambda y: y.flatten(2).mean(-1),
    "mean mean": lambda y: y.mean(3).mean(2),
    "max max": lambda y: y.max(3)[0].max(2)[0],
    "tokens amax": lambda y: y.flatten(2).transpose(1, 2).amax(1),
    "statistics": statistics,
    "pool of the frame": lambda y: F.max_pool2d(y, y.shape[2:]).flatten(1),
    "average of the frame": lambda y: F.avg_pool2d(y, y.shape[2:]).flatten(1),
    "more than the frame": lambda y: F.avg_pool2d(y, 640, ceil_mode=True).flatten(1),
    "any": lambda y: (y > 0.1).any(3).any(2).to(y.dtype),
}


@st.composite
def networks(draw: st.DrawFn) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(2, CHANNELS, 3, draw(st.integers(1, 2)), 1)]
    for name in draw(st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=4)):
        layers.append(Layer(name, LAYERS[name]))
        if draw(st.booleans()):
            layers.append(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=draw(st.booleans())))
    head = draw(st.sampled_from(sorted(HEADS)))
    model = nn.Sequential(*layers, Layer(head, HEADS[head])).double().eval()
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.4, generator=generator)
    return model


drawn = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


@drawn
@given(model=networks(), height=st.integers(24, 40), width=st.integers(24, 40))
@torch.no_grad()
def test_zero_is_the_unmodified_model(model: nn.Module, height: int, width: int) -> None:
    images = noise(2, 2, height, width)
    try:
        expected = model(images)
    except RuntimeError:  # too small a map
        assume(False)
    try:
        got = bl.convert(model, "zero", strict=True)(images)
    except bl.BorderlessError as error:
        event(str(error)[:80])
        return
    assert torch.equal(got.nan_to_num(7.0), expected.nan_to_num(7.0))


def with_object(by: tuple[int, int]) -> Tensor:
    canvas = torch.zeros(1, 2, CANVAS_PX, CANVAS_PX, dtype=torch.float64)
    canvas[:, :, 36 + by[0] : 47 + by[0], 36 + by[1] : 45 + by[1]] = noise(1, 2, 11, 9)
    return canvas


def strides(model: nn.Module) -> int:
    found = 1
    for layer in model:  # pyright: ignore[reportGeneralTypeIssues]
        if isinstance(layer, nn.Conv2d):
            found *= layer.stride[0]
        elif layer.name == "a third":
            found *= 3
        elif "half" in layer.name or "pool" in layer.name or layer.name == "and back":
            found *= 2
    return found


@pytest.mark.filterwarnings("ignore::borderless.RoundingWarning")
@pytest.mark.parametrize("phase", ["fixed", "adaptive"])
@drawn
@given(model=networks(), steps=st.tuples(st.integers(-36, 48), st.integers(-36, 48)))
@torch.no_grad()
def test_infinite_does_not_see_the_position(phase: str, model: nn.Module, steps: tuple[int, int]) -> None:
    stride = strides(model) if phase == "fixed" else 1
    row, column = (int(s / stride) * stride for s in steps)
    blind = bl.convert(model, "infinite", phase=phase, strict=True)  # pyright: ignore[reportArgumentType]
    try:
        expected, got = blind(with_object((0, 0))), blind(with_object((row, column)))
    except bl.BorderlessError as error:
        event(str(error)[:80])
        return
    if not expected.isfinite().all():
        return
    assert (got - expected).abs().max() <= 1e-10 * max(1.0, float(expected.abs().max()))
