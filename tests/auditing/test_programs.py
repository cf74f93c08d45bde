"""Programs are measured from outside: as the model that they were made from; what needs layers is named."""

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import borderless as bl
from borderless.auditing.run import Audit
from borderless.auditing.verdict import judge
from borderless.cli.main import main
from borderless.errors import CheckpointError, ImageError
from borderless.measures.programs import NEEDS_LAYERS
from borderless.models import load_program
from support.planted import network

SIDE = 24


def images(count: int = 4) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def saved(kind: str, folder: Path, model: nn.Module, batch: int = 2, is_fixed: bool = False) -> Path:
    example = torch.zeros(batch, 3, SIDE, SIDE)
    path = folder / f"model{ {'script': '.pt', 'export': '.pt2', 'onnx': '.onnx'}[kind] }"
    dynamic: Any = None if is_fixed else {"input": {0: torch.export.Dim("n")}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "script":
            torch.jit.save(torch.jit.trace(model, example), path)
        elif kind == "export":
            torch.export.save(torch.export.export(model, (example,), dynamic_shapes=dynamic), path)
        else:
            torch.onnx.export(model, (example,), path, dynamic_shapes=dynamic, dynamo=True, verbose=False)
    return path


OPTIONS: dict[str, Any] = {"parts": ["sensitivity", "shifts"], "position_count": 4, "object_count": 2, "passes": 1}
ONNX = pytest.param("onnx", marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def model() -> Audit:
    return bl.audit(network(), images(), **OPTIONS)


@pytest.mark.parametrize("kind", ["script", "export", ONNX])
def test_a_program_is_measured_as_its_model_is(kind: str, tmp_path: Path, model: Audit) -> None:
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
    found = bl.audit(load_program(saved(kind, tmp_path, network())), images(), **OPTIONS)
    assert found.on_photograph is not None and model.on_photograph is not None
    assert found.on_photograph.flips == model.on_photograph.flips
    assert found.on_photograph.change == pytest.approx(model.on_photograph.change, rel=1e-4)
    assert found.fragility == model.fragility or kind == "onnx"
    assert found.shifts["circular"].value == model.shifts["circular"].value
    closed = {step for step, why in found.missing.items() if why == NEEDS_LAYERS}
    assert closed == {"layout", "influence", "objects on a canvas"}
    assert found.sensitivity is None and judge(found)[0].level == "info"
    assert "Skipped: objects on a canvas. Needs the network's layers" in str(found)
    if kind != "script":  # sizes are fixed in the others
        assert "the shape that this" in found.missing["shifts, zhang2019"]


@pytest.mark.parametrize("kind", ["export", ONNX])
def test_a_program_of_a_fixed_batch_takes_any_number(kind: str, tmp_path: Path) -> None:
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
    program = load_program(saved(kind, tmp_path, network(), 2, is_fixed=True))
    with torch.no_grad():
        expected = network()(images(5))
    torch.testing.assert_close(program(images(5)), expected)
    with pytest.raises(ImageError, match=f"Expected images of 3 × {SIDE} × {SIDE}, the shape that"):
        program(torch.zeros(1, 3, 32, 32))


class Planted:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


def test_a_program_with_pickled_objects_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = saved("export", tmp_path, network())
    name = next(name for name in zipfile.ZipFile(path).namelist() if name.endswith("sample_inputs/model.pt"))
    changed = tmp_path / "changed.pt2"
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(changed, "w") as out:
        for entry in archive.namelist():
            out.writestr(entry, pickle.dumps(Planted()) if entry == name else archive.read(entry))
    with pytest.raises(CheckpointError, match=r"with pickled objects .*sample_inputs/model.pt.*not loaded"):
        load_program(changed)
    code = tmp_path / "code.pt2"
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(code, "w") as out:
        for entry in (*archive.namelist(), "model/data/aotinductor/model.so"):
            out.writestr(entry, b"" if "aot" in entry else archive.read(entry))
    with pytest.raises(CheckpointError, match="with compiled code"):
        load_program(code)
    assert not Path("ran").exists()


@pytest.mark.parametrize(("name", "content"), [("torn.pt2", b"PK"), ("torn.onnx", b"no"), ("weights.pt", b"")])
def test_other_files_are_refused_in_one_sentence(name: str, content: bytes, tmp_path: Path) -> None:
    if name.endswith("onnx"):
        pytest.importorskip("onnxruntime")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"^Expected a program .*$"):
        load_program(tmp_path / name)


def test_a_program_is_named_on_the_command_line(
    tmp_path: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved("export", tmp_path, network())
    words = [
        str(path),
        "--images",
        str(photographs),
        "--count",
        "2",
        "--objects",
        "1",
        "--folder",
        str(tmp_path / "out"),
    ]
    assert main(["audit", *words, "--size", str(SIDE)]) == 0
    out = capsys.readouterr().out
    assert "no cause could be measured" in out and "Skipped: reach. Needs the network's layers" in out
    assert "in the program model.pt2" in (tmp_path / "out" / "report.html").read_text()
    assert main(["audit", *words, "--size", "32"]) == 2
    assert "the shape that this exported program was made for" in capsys.readouterr().err
