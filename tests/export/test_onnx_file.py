"""ONNX files: onnxruntime answers as the model does, for any batch, and a wrong file is never handed over."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import borderless as bl
from support.networks import patch, placed, relative_change, residual

onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's exporter warns about its own imports


def images(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 40, 40, generator=torch.Generator().manual_seed(seed))


def run(path: Path, batch: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: batch.numpy()})[0])


@pytest.mark.parametrize(("border", "phase"), [("full", "fixed"), ("infinite", "fixed"), ("infinite", "adaptive")])
def test_onnxruntime_answers_as_the_model(border: str, phase: str, tmp_path: Path) -> None:
    model = bl.convert(residual(), border, phase=phase).train()
    path = bl.save_onnx(model, images(1), tmp_path / "model.onnx")
    assert model.training
    model.eval()
    for count in (1, 2, 5):
        batch = images(count, seed=count)
        with torch.inference_mode():
            assert relative_change(model(batch), run(path, batch)) < 1e-5
            assert relative_change(residual()(batch), run(path, batch)) > 1e-4, "no power: the border does not show"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.nightly
def test_the_phase_is_chosen_in_the_file(tmp_path: Path) -> None:
    model = bl.convert(residual(), "infinite", phase="adaptive")
    path = bl.save_onnx(model, images(2), tmp_path / "model.onnx")
    answers = run(path, placed([patch(9, 1, torch.float32)] * 4, [(0, 0), (1, 2), (3, 1), (15, 18)], 40))
    assert relative_change(answers[:1], answers[1:]) < 2e-5


SIZES = ("batch", "height", "width")


@pytest.mark.parametrize(
    ("border", "multiple"), [("zero", 1), ("circular", 4), ("valid", 4), (("zero", "circular"), 4)]
)
def test_one_file_for_many_sizes(border: Any, multiple: int, tmp_path: Path) -> None:
    model = bl.convert(residual(), border)
    path = bl.save_onnx(model, images(2), tmp_path / "model.onnx", dynamic=SIZES)
    sizes = [(1, 40, 40), (3, 48, 64), (2, 80, 44)] + [(2, 41, 47)] * (multiple == 1)
    for count, height, width in sizes:
        batch = torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(height))
        with torch.inference_mode():
            assert relative_change(model(batch), run(path, batch)) < 1e-5, (height, width)
    taken = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).get_inputs()[0].shape
    assert [str(size).startswith(f"{multiple}*") for size in taken] == [False, False, *[multiple > 1] * 2], taken


def test_many_sizes_are_refused_by_name_where_one_program_cannot_do(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    text = r"Expected a Residual whose program .* under Border\('infinite'\); write one file a size with sizes="
    with pytest.raises(bl.ConversionError, match=text):
        bl.save_onnx(bl.convert(residual(), "infinite"), images(2), path, dynamic=SIZES)
    with pytest.raises(bl.ConversionError, match=r"Expected a fixed phase .* phase='fixed'"):
        bl.save_onnx(bl.convert(residual(), "zero", phase="adaptive"), images(2), path, dynamic=SIZES)
    zero = bl.convert(residual(), "zero")
    with pytest.raises(bl.ConversionError, match=r"dynamic to name some of batch, height, width but got \('depth',\)"):
        bl.save_onnx(zero, images(2), path, dynamic=("depth",))
    with pytest.raises(bl.ConversionError, match=r"Expected sizes as .* but got \[\]"):
        bl.save_onnx(zero, images(2), path, sizes=[])
    odd = torch.zeros(2, 3, 41, 40)
    with pytest.raises(bl.ConversionError, match=r"multiples of the total stride, 4, .* but got \(41, 40\)"):
        bl.save_onnx(bl.convert(residual(), "circular"), odd, path, dynamic=SIZES)
    assert not list(tmp_path.iterdir())


def test_one_file_for_each_size(tmp_path: Path) -> None:
    model = bl.convert(residual(), "infinite")
    paths = bl.save_onnx(model, images(1), tmp_path / "model.onnx", dynamic=(), sizes=[(32, 48), (40, 24)])
    assert [path.name for path in paths] == ["model-32x48.onnx", "model-40x24.onnx"]
    batch = torch.randn(1, 3, 40, 24, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert relative_change(model(batch), run(paths[1], batch)) < 1e-5


def test_a_file_that_answers_differently_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("before")
    monkeypatch.setattr("borderless.export.onnx_file.TOLERANCE", -1.0)
    with pytest.raises(bl.ConversionError, match=r"equal Residual within .* but got .* nothing was written"):
        bl.save_onnx(bl.convert(residual(), "full"), images(2), path)
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_errors_name_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = bl.convert(residual(), "full")
    with pytest.raises(bl.ConversionError, match="got a Residual that is not converted"):
        bl.save_onnx(residual(), images(2), tmp_path / "model.onnx")
    with pytest.raises(bl.ConversionError, match="Expected two images or more, for a batch of any size"):
        bl.save_onnx(model, images(1), tmp_path / "model.onnx", kwargs={"scale": 1.0})
    with pytest.raises(bl.ConversionError, match=r"second argument but got a str"):
        bl.save_onnx(model, str(tmp_path / "model.onnx"), images(2))  # pyright: ignore[reportArgumentType, reportCallIssue]
    for path in (tmp_path, tmp_path / "nowhere" / "model.onnx"):
        with pytest.raises(bl.ConversionError, match="the name of a file in a folder that exists"):
            bl.save_onnx(model, images(2), path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(bl.BorderlessError, match=r"pip install \"borderless\[export\]\""):
        bl.save_onnx(model, images(2), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_model_that_counts_its_batch_is_frozen_for_one_size_only() -> None:
    class Counts(nn.Module):
        def forward(self, batch: Tensor) -> Tensor:
            return batch.mean((2, 3)) * float(len(batch))

    model = bl.convert(Counts(), "full")
    assert bl.freeze(model, images(2)).module()(images(2)).shape == (2, 3)
    with pytest.raises(bl.ConversionError, match="freeze it for one batch size"):
        bl.freeze(model, images(2), dynamic_batch=True)
