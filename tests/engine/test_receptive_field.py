"""Receptive fields. Oracle: the gradient of one output cell, in float64, of a network whose weights are all positive.

Far from the edge the original padding does not matter: the intervals are those of cells in the middle of a wide image.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.segmentation.deeplabv3 import ASPP
from torchvision.ops import FeaturePyramidNetwork

import borderless as bl
from borderless.engine.geometry import Slide, Spread
from borderless.engine.receptive_field import PIXEL, Field, interpolated, renumbered, slid, spread_out, united


def conv(before: int, after: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, stride, dilation * (kernel // 2), dilation)


class Up(nn.Module):
    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode
        options = {"k2 s2": (2, 2), "k3 s2 p1 op1": (3, 2, 1, 1)}
        self.spread = nn.ConvTranspose2d(2, 2, *options[mode]) if mode in options else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        if not isinstance(self.spread, nn.Identity):
            return self.spread(maps)
        aligned = {"align_corners": False} if self.mode.startswith("bi") else {}
        return F.interpolate(maps, scale_factor=2, mode=self.mode, **aligned)


class UNet(nn.Module):
    def __init__(self, depth: int, mode: str) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            nn.Sequential(conv(2 if i else 1, 2), nn.ReLU(), conv(2, 2), nn.ReLU()) for i in range(depth + 1)
        )
        self.up = nn.ModuleList(Up(mode) for _ in range(depth))
        self.after = nn.ModuleList(nn.Sequential(conv(4, 2), nn.ReLU(), conv(2, 2), nn.ReLU()) for _ in range(depth))

    def forward(self, images: Tensor) -> Tensor:
        skipped: list[Tensor] = []
        maps = self.down[0](images)
        for down in list(self.down)[1:]:
            skipped.append(maps)
            maps = down(F.avg_pool2d(maps, 2))
        for up, after in zip(self.up, self.after, strict=True):
            maps = after(torch.cat([up(maps), skipped.pop()], 1))
        return maps


class Pyramid(nn.Module):
    """torchvision's feature pyramid on four strided stages; its finest map."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(conv(2 if i else 1, 2, stride=2), nn.ReLU(), conv(2, 2), nn.ReLU()) for i in range(4)
        )
        self.pyramid = FeaturePyramidNetwork([2] * 4, 2)

    def forward(self, maps: Tensor) -> Tensor:
        found = OrderedDict()
        for i, stage in enumerate(self.stages):
            maps = found[str(i)] = stage(maps)
        return self.pyramid(found)["0"]


def deeplab() -> nn.Module:
    """torchvision's ASPP, but for the branch that pools all of space, on a body of stride 4, upsampled to the image."""
    aspp = ASPP(2, (2, 3, 5), 2)
    aspp.convs = aspp.convs[:-1]
    aspp.project[0] = nn.Conv2d(2 * len(aspp.convs), 2, 1, bias=False)
    head = nn.Sequential(aspp, conv(2, 2), nn.ReLU())
    body = nn.Sequential(conv(1, 2, 7, 2), nn.ReLU(), nn.AvgPool2d(3, 2, 1), conv(2, 2), nn.ReLU())
    return nn.Sequential(body, head, nn.Upsample(scale_factor=4, mode="bilinear"))


class Awkward(nn.Module):
    """Slices, crops, pads, shuffles, kernels of even size, and a join of what they leave."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(1, 4, 4, 2, 1), nn.Conv2d(1, 2, 2), conv(3, 2, dilation=3)

    def forward(self, images: Tensor) -> Tensor:
        fine = F.pixel_shuffle(self.a(images), 2)  # of period 2
        thin = F.pad(self.b(images), (3, -2, 3, -2))[:, :, ::2, 1::2]
        there = F.interpolate(thin, scale_factor=2, mode="bicubic")
        return self.c(torch.cat([fine, there], 1))[..., 1:, 3:]


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **{
        f"U-Net of depth {depth}, {mode}": lambda depth=depth, mode=mode: UNet(depth, mode)
        for depth in (1, 2, 3)
        for mode in ("nearest", "bilinear", "k2 s2", "k3 s2 p1 op1")
    },
    "feature pyramid": Pyramid,
    "DeepLabV3": deeplab,
    "dilated": lambda: nn.Sequential(
        conv(1, 2, dilation=2), nn.ReLU(), conv(2, 2, 5, dilation=3, stride=2), conv(2, 2)
    ),
    "awkward": Awkward,
}


def positive(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in model.double().eval().parameters():
        parameter.data.uniform_(0.5, 1.0, generator=generator)
    return model


def read_pixels(model: nn.Module, image: Tensor, cell: int) -> tuple[int, int]:
    """The pixels along the last axis from the first to the last with a gradient of an output cell."""
    image = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(image)[..., cell].sum(), image)
    touched = gradient.abs().sum((0, 1, 2)).nonzero()
    return int(touched[0]), int(touched[-1]) + 1


@pytest.mark.parametrize("name", NETWORKS)
def test_the_receptive_field_is_what_gradients_measure(name: str) -> None:
    model = positive(NETWORKS[name]())
    image = torch.rand(1, 1, 32, 352, dtype=torch.float64)
    signal = bl.convert(model, "zero", output="signal")(image)
    field, stride = signal.field[1], signal.lattice.stride[1]
    cell = signal.frame[1] // 2
    measured = {j: read_pixels(model, image, j) for j in range(cell, cell + len(field.intervals))}
    assert {j: field.of(j) for j in measured} == measured

    found = bl.explain(model, (32, 352))
    assert found.receptive_field[1] == max(stop - start for start, stop in measured.values())
    before = max(j * stride - start for j, (start, _) in measured.items())
    assert found.reach[1] == (before, max(stop - 1 - j * stride for j, (_, stop) in measured.items()))


@pytest.mark.parametrize("phase", ["fixed", "adaptive"])
@pytest.mark.parametrize(("mode", "px"), [("bilinear", 116), ("k2 s2", 100)])
def test_the_field_of_a_decoder_is_neither_too_small_nor_too_large(mode: str, px: int, phase: Any) -> None:
    assert bl.explain(UNet(3, mode), (32, 32), phase=phase).receptive_field == (px, px)


def test_explain_prints_the_reach_on_both_sides() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 4, 2, 1), nn.Conv2d(2, 2, 3))
    found = bl.explain(model, (32, 32), "zero")
    assert [layer.reach[0] for layer in found.layers] == [(1, 2), (1, 6)]
    assert "receptive field 8×8 pixels: 1×1 before and 6×6 after a cell's position" in str(found)
    finer = bl.explain(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Upsample(scale_factor=2, mode="bilinear")), (8, 8), "zero")
    assert "2×2 pixels: 1×1 before and 1/2×1/2 after" in str(finer)


def test_the_reach_of_all_pixels_is_counted_for_sizes_that_only_a_slice_has() -> None:
    class Slice(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images[:, :, ::2, ::3].mean((2, 3))

    assert bl.explain(Slice(), (12, 12), channels=1).total_stride == (2, 3)
    assert bl.explain(Slice(), (12, 12), channels=1).cost == 1


# Each operation by what its doctext says, one cell and one input at a time.
slides = st.builds(
    lambda k, s, p, d: Slide(k, s, p, p, d), st.integers(1, 5), st.integers(1, 4), st.integers(-3, 4), st.integers(1, 3)
)
spreads = st.builds(Spread, st.integers(1, 5), st.integers(1, 4), st.integers(0, 3), st.just(0), st.integers(1, 2))
cells = st.integers(-20, 20)


def through(steps: list[Slide | Spread]) -> Field:
    field = PIXEL
    for step in steps:
        field = slid(field, step) if isinstance(step, Slide) else spread_out(field, step)
    return field


def hull(field: Field, inputs: list[int]) -> tuple[int, int] | None:
    read = [interval for i in inputs if (interval := field.of(i)) is not None]
    return (min(start for start, _ in read), max(stop for _, stop in read)) if read else None


@settings(max_examples=100, deadline=None)
@given(steps=st.lists(slides | spreads, max_size=3), slide=slides, spread=spreads, j=cells, pads=st.integers(-4, 4))
def test_every_operation_reads_the_inputs_that_it_says(
    steps: list, slide: Slide, spread: Spread, j: int, pads: int
) -> None:
    field = through(steps)
    inputs = [slide.stride * j - slide.padding + slide.dilation * t for t in range(slide.kernel)]
    assert slid(field, slide).of(j) == hull(field, inputs)
    inputs = [
        i
        for i in range(-200, 200)
        for t in range(spread.kernel)
        if i * spread.stride - spread.padding + spread.dilation * t == j
    ]
    assert spread_out(field, spread).of(j) == hull(field, inputs)
    assert renumbered(field, pads).of(j + pads) == field.of(j)
    moved = renumbered(field, pads)
    both = [interval for interval in (field.of(j), moved.of(j)) if interval is not None]
    expected = (min(a for a, _ in both), max(b for _, b in both)) if both else None
    assert united((field, moved)).of(j) == expected


@settings(max_examples=100, deadline=None)
@given(steps=st.lists(slides | spreads, max_size=3), start=cells, size=st.integers(1, 30))
def test_which_cells_meet_pixels_and_which_lie_within_them(steps: list, start: int, size: int) -> None:
    field, stop = through(steps), start + size
    span = range(-400, 400)
    read = {j: interval for j in span if (interval := field.of(j)) is not None}
    meeting = [j for j, (a, b) in read.items() if a < stop and b > start]
    within = [j for j, (a, b) in read.items() if a >= start and b <= stop]
    assert field.meeting((start, stop)) == ((meeting[0], meeting[-1] + 1) if meeting else None)
    assert field.within((start, stop)) == ((within[0], within[-1] + 1) if within else None)
    assert field.read_by((start, stop)) == hull(field, list(range(start, stop)))


@pytest.mark.parametrize(("mode", "halo"), [("nearest", 0), ("bilinear", 1), ("bicubic", 2)])
@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5])
def test_interpolation_reads_the_cells_with_weight(mode: str, halo: int, factor: int) -> None:
    options = {} if mode == "nearest" else {"align_corners": False}
    weights = torch.eye(16, dtype=torch.float64)[None, :, None].expand(1, 16, 16, 16)
    result = F.interpolate(weights, scale_factor=factor, mode=mode, **options)[0, :, 8 * factor]
    field = interpolated(PIXEL, factor, halo)
    for j in range(6 * factor, 9 * factor):
        touched = (result[:, j].abs() > 1e-9).nonzero()
        assert field.of(j) == (int(touched[0]), int(touched[-1]) + 1)
