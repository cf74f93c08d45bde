"""Models that take more than one image: through the call, `explain`, `place`, `freeze` and `save_onnx`."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import borderless as bl
from borderless.errors import ConversionError, ImageError


class Timed(nn.Module):
    """A convolution whose channels a time step scales, as in a diffusion model."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.embedding = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(1, 4)

    def forward(self, images: Tensor, time: Tensor, *, scale: float = 1.0, shift: Tensor | None = None) -> Tensor:
        gate = self.embedding(time.reshape(-1, 1).to(images.dtype))
        maps = self.conv(images) * gate[:, :, None, None] * scale
        pooled = maps.relu().mean((2, 3))
        return pooled if shift is None else pooled + shift


TIME = torch.tensor([3.0])
OTHERS: dict[str, Any] = {"scale": 2.0, "shift": torch.tensor([[1.0, 2.0, 3.0, 4.0]])}


def images(*shape: int) -> Tensor:
    return torch.randn(*(shape or (2, 3, 12, 12)), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model() -> nn.Module:
    return Timed().eval()


def test_explain_passes_them_on(model: nn.Module) -> None:
    found = bl.explain(model, (12, 12), args=(TIME,), kwargs=OTHERS)
    assert [layer.module for layer in found.layers] == ["conv"]
    assert found.macs_own >= 12 * 12 * 27 * 4


@pytest.mark.parametrize("border", ["zero", "circular", "infinite"])
def test_place_passes_them_on(model: nn.Module, border: str) -> None:
    patches, positions = images(2, 3, 4, 4), [(0, 0), (5, 3)]
    canvases = torch.zeros(2, 2, 3, 12, 12)
    for i, (row, column) in enumerate(positions):
        canvases[i, :, :, row : row + 4, column : column + 4] = patches
    converted = bl.convert(model, border)
    with torch.no_grad():
        expected = converted(canvases.flatten(0, 1), TIME, **OTHERS).unflatten(0, (2, 2))
    got = bl.place(converted, patches, positions, canvas=(12, 12), args=(TIME,), kwargs=OTHERS)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_place_takes_one_image(model: nn.Module) -> None:
    with pytest.raises(ImageError, match="Expected one image, the canvas"):
        bl.place(model, images(1, 3, 4, 4), [(0, 0)], canvas=(12, 12), args=(images(),))


@pytest.mark.parametrize("dynamic_batch", [False, True])
def test_freeze_passes_them_on(model: nn.Module, dynamic_batch: bool) -> None:
    converted = bl.convert(model, "infinite", phase="adaptive")
    times = torch.tensor([3.0, 5.0])
    program = bl.freeze(converted, images(), dynamic_batch=dynamic_batch, args=(times,), kwargs=OTHERS)
    more = {**OTHERS, "shift": torch.zeros(1, 4)}
    with torch.no_grad():
        assert torch.allclose(program.module()(images(), times, **OTHERS), converted(images(), times, **OTHERS))
        assert torch.allclose(program.module()(images(), -times, **more), converted(images(), -times, **more))
        if dynamic_batch:
            batch, times = images(5, 3, 12, 12), torch.arange(5.0)
            assert torch.allclose(program.module()(batch, times, **OTHERS), converted(batch, times, **OTHERS))


@pytest.mark.filterwarnings("ignore")  # PyTorch's exporter warns about its own imports
def test_save_onnx_passes_them_on(model: nn.Module, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    converted, times = bl.convert(model, "infinite"), torch.tensor([3.0, 5.0])
    path = bl.save_onnx(converted, images(), tmp_path / "model.onnx", args=(times,), kwargs=OTHERS)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    batch, times = images(3, 3, 12, 12), torch.arange(3.0)
    given = [batch, times, OTHERS["shift"]]
    names = [each.name for each in session.get_inputs()]
    got = session.run(None, {name: tensor.numpy() for name, tensor in zip(names, given, strict=True)})[0]
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(got), converted(batch, times, **OTHERS), rtol=1e-4, atol=1e-4)


def test_arguments_that_are_missing_are_named(model: nn.Module) -> None:
    missing = r"(?s)Expected the arguments of Timed.forward.*'time'.*args="
    converted = bl.convert(model, "zero")
    with pytest.raises(ConversionError, match=missing):
        bl.explain(model, (12, 12))
    with pytest.raises(ConversionError, match=missing):
        bl.place(model, images(1, 3, 4, 4), [(0, 0)], canvas=(12, 12))
    for dynamic_batch in (False, True):
        with pytest.raises(ConversionError, match=missing):
            bl.freeze(converted, images(), dynamic_batch=dynamic_batch)
    with pytest.raises(ConversionError, match="unexpected keyword argument 'speed'"):
        bl.explain(model, (12, 12), args=(TIME,), kwargs={"speed": 1})


def test_a_type_error_of_the_model_stays() -> None:
    class Wrong(nn.Conv2d):
        def forward(self, batch: Tensor) -> Tensor:
            return super().forward(batch) + super().forward()

    model = Wrong(3, 4, 3).eval()
    uses = [
        lambda: bl.explain(model, (12, 12)),
        lambda: bl.place(model, images(1, 3, 4, 4), [(0, 0)], canvas=(12, 12)),
        lambda: bl.freeze(bl.convert(model, "full"), images()),
    ]
    for use in uses:
        with pytest.raises(TypeError, match="missing 1 required positional argument") as caught:
            use()
        assert not isinstance(caught.value, ConversionError)


# Beside the image


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, batch: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        self.type = type(other)
        return self.conv(batch).mean((2, 3)), other


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8])
def test_labels_and_masks_are_let_through(dtype: torch.dtype) -> None:
    model, other = bl.convert(Masked(), "infinite"), torch.ones(2, 12, 12, dtype=dtype)
    _, got = model(images(), other)
    assert got is other and model.type is Tensor
    _, got = model(batch=images(), other=other)
    assert got is other
    with pytest.raises(ImageError, match=rf"an image of {dtype} and shape \(2, 12, 12\).*floating-point"):
        model(other, other)


# Models without what a measure counts


def test_a_model_without_multiply_adds_is_explained() -> None:
    found = bl.explain(nn.Sequential(nn.MaxPool2d(2)), (16, 16), channels=1)
    assert found.macs == found.macs_own == 0 and found.cost == 1
    assert "1.00 ×" in str(found)


@pytest.mark.parametrize("border", [None, "full", "infinite"])
def test_a_model_without_a_sliding_operation_is_placed(border: Any) -> None:
    model = nn.Sequential(nn.ReLU()).eval()
    model = model if border is None else bl.convert(model, border)
    canvases = torch.zeros(2, 1, 9, 9)
    patch = images(1, 1, 3, 3)
    canvases[0, :, :3, :3] = canvases[1, :, 4:7, 2:5] = patch[0]
    got = bl.place(model, patch[0], [(0, 0), (4, 2)], canvas=(9, 9))
    assert torch.equal(got, canvases.relu())


# freeze, of what it cannot keep


def test_sizes_from_values_are_refused_by_freeze() -> None:
    class Counted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.register_buffer("amount", torch.tensor(1))

        def forward(self, batch: Tensor) -> Tensor:
            return F.pad(self.conv(batch), [int(self.amount.item())] * 4)

    model = bl.convert(Counted(), "full")
    assert model(images()).shape == (2, 4, 12, 12)
    with pytest.raises(ConversionError, match=r"(?s)Expected sizes that follow from the shape.*item\(\).*from shapes"):
        bl.freeze(model, images())


# A change relative to nothing


@pytest.mark.parametrize("measure", [bl.equivariance_error, bl.testing.assert_equivariant])
def test_an_output_of_0_is_an_error(measure: Any) -> None:
    model = nn.Conv2d(3, 4, 3, padding=1).eval()
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    with pytest.raises(ImageError, match="Expected an output with values other than 0"):
        measure(model, images(), [(1, 0)])
