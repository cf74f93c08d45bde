"""The adaptive phase moves with whatever is on the map: uniform, symmetric, periodic things and single pixels too."""

from collections.abc import Callable

import hypothesis.strategies as st
import pytest
import timm
import torch
import torchvision
from hypothesis import given
from torch import Tensor, nn

import borderless as bl
from borderless.engine.phase import choose_phase

CANVAS_PX = 96
SHIFTS_PX = ((0, 1), (1, 0), (3, 5), (20, 17))  # odd and even, alone and together


def objects() -> dict[str, Tensor]:
    """(1, height, width) each, of at most 64 px."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")
    radius = ((rows - 23.5) ** 2 + (columns - 23.5) ** 2).sqrt()
    quarter = torch.randn(24, 24, generator=generator)
    half = torch.cat([quarter, quarter.flip(1)], 1)
    squares = torch.zeros(48, 48)
    squares[:16, :16] = squares[-16:, -16:] = 1
    found = {
        "square of 48": torch.ones(48, 48),
        "square of 64": torch.ones(64, 64),
        "disc": (radius < 22).float(),
        "ring": ((radius < 22) & (radius > 12)).float(),
        "stripes": (columns // 4 % 2).float(),
        "checkerboard": ((rows // 6 + columns // 6) % 2).float(),
        "two squares": squares,
        "mirrored noise": torch.cat([half, half.flip(0)]),
        "one pixel": torch.ones(1, 1),
        "noise": torch.randn(48, 48, generator=generator),
    }
    return {name: cells[None] for name, cells in found.items()}


class UNet(nn.Module):
    """Two strides down, two transposed convolutions up, a norm that reads all of space after each convolution."""

    def __init__(self, norm: Callable[[int], nn.Module]):
        super().__init__()

        def block(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
            return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), norm(outputs), nn.LeakyReLU(0.1))

        self.first, self.second, self.third = block(3, 8), block(8, 16, 2), block(16, 16, 2)
        self.up_third, self.up_second = nn.ConvTranspose2d(16, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)
        self.join_second, self.join_first = block(32, 16), block(16, 8)
        self.head = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        first = self.first(images)
        second = self.second(first)
        maps = self.join_second(torch.cat([self.up_third(self.third(second)), second], 1))
        maps = self.join_first(torch.cat([self.up_second(maps), first], 1))
        return self.head(maps.mean((2, 3)))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: torchvision.models.resnet18(num_classes=10),
    "resnet10t": lambda: timm.create_model("resnet10t", num_classes=10),
    "convnext_tiny": lambda: torchvision.models.convnext_tiny(num_classes=10),
    "convnext_atto": lambda: timm.create_model("convnext_atto", num_classes=10),
    "mobilenet_v3_small": lambda: torchvision.models.mobilenet_v3_small(num_classes=10),
    "U-Net with InstanceNorm": lambda: UNet(nn.InstanceNorm2d),
    "U-Net with GroupNorm": lambda: UNet(lambda channels: nn.GroupNorm(4, channels)),
}
QUICK = {
    ("mobilenet_v3_small", "float32"),
    ("U-Net with InstanceNorm", "float64"),
    ("U-Net with GroupNorm", "float32"),
    ("resnet18", "float32"),
}
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}


def marks(name: str, dtype: torch.dtype) -> list[pytest.MarkDecorator]:
    if name == "convnext_tiny" or (name, dtype) in (("convnext_atto", torch.float64), ("resnet18", torch.float64)):
        return [pytest.mark.nightly]
    return [] if (name, str(dtype)[6:]) in QUICK else [pytest.mark.slow]


def images(names: list[str], shift: tuple[int, int], dtype: torch.dtype) -> Tensor:
    canvas = torch.zeros(len(names), 3, CANVAS_PX, CANVAS_PX, dtype=dtype)
    row, column = 5 + shift[0], 3 + shift[1]
    for image, name in zip(canvas, names, strict=True):
        cells = objects()[name]
        image[:, row : row + cells.shape[1], column : column + cells.shape[2]] = cells
    return canvas


@pytest.mark.parametrize(
    ("name", "dtype"),
    [pytest.param(name, dtype, marks=marks(name, dtype)) for name in NETWORKS for dtype in TOLERANCE],
)
def test_awkward_objects_have_the_same_output_wherever_they_are(name: str, dtype: torch.dtype) -> None:
    model = bl.convert(NETWORKS[name]().to(dtype).eval(), "infinite", phase="adaptive")
    names, shifts = list(objects()), SHIFTS_PX
    if name == "convnext_tiny" or (name == "convnext_atto" and dtype == torch.float64):  # they take minutes
        names, shifts = ["square of 48", "disc", "stripes", "noise"], SHIFTS_PX[-2:]
    with torch.inference_mode():
        expected = model(images(names, (0, 0), dtype))
        largest = expected.abs().amax(1)
        for shift in shifts:
            change = (model(images(names, shift, dtype)) - expected).abs().amax(1) / largest
            assert change.max() <= TOLERANCE[dtype], f"{names[int(change.argmax())]} moved by {shift}"
        for batch in (names[:1], names[2:8]):
            alone = model(images(batch, SHIFTS_PX[-1], dtype))
            there = [names.index(one) for one in batch]
            assert ((alone - expected[there]).abs().amax(1) / largest[there]).max() <= TOLERANCE[dtype]


@given(st.data())
def test_the_choice_moves_with_the_map(data: st.DataObject) -> None:
    """Few different values, so that classes tie: the class chosen is that of the moved cells, in both precisions."""
    size = [data.draw(st.integers(1, 6)) for _ in range(2)]
    factor = tuple(data.draw(st.integers(1, 4)) for _ in range(2))
    cells = torch.tensor(data.draw(st.lists(st.integers(0, 2), min_size=size[0] * size[1], max_size=size[0] * size[1])))
    cells = cells.reshape(1, 1, *size)
    start = tuple(data.draw(st.integers(-9, 9)) for _ in range(2))
    shift = tuple(data.draw(st.integers(-9, 9)) for _ in range(2))
    if not cells.any():
        return
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        chosen = choose_phase(cells.to(dtype), (2, 3), start, factor)
        moved = tuple(a + s for a, s in zip(start, shift, strict=True))
        # A larger window around the same cells changes nothing either.
        wide = torch.nn.functional.pad(cells.to(dtype), [2, 1, 3, 0])
        again = choose_phase(wide, (2, 3), (moved[0] - 3, moved[1] - 2), factor)
        step = torch.tensor(factor)
        assert torch.equal((chosen + torch.tensor(shift)) % step, again)


def test_one_class_with_more_energy_is_chosen_wherever_the_centroid_is() -> None:
    cells = torch.zeros(1, 1, 9, 9)
    cells[..., 1::2, ::2] = 1.0
    cells[..., ::2, 1::2] = 0.999
    assert choose_phase(cells, (2, 3), (0, 0), (2, 2)).tolist() == [[1, 0]]


def test_an_empty_map_has_the_first_phase() -> None:
    assert choose_phase(torch.zeros(2, 3, 5, 5), (2, 3), (-1, 0), (2, 3)).tolist() == [[0, 0], [0, 0]]
