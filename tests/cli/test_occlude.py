"""`borderless occlude`: a picture and a record that the library's own numbers agree with."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import borderless as bl
from borderless.cli.main import main
from borderless.engine.border import BorderName
from borderless.models.request import NetworkRequest


@pytest.mark.parametrize("border", [None, ("zero", "circular")])
def test_picture_and_record(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    border: tuple[BorderName, ...] | None,
) -> None:
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    Image.fromarray(pixels).save("noise.png")
    weights = ("--weights", "random", "--side", "0")
    words = [*weights, *(["--border", *border] if border else [])]
    assert main(["occlude", "resnet18", "noise.png", "--size", "24", "--stride", "16", "--target", "7", *words]) == 0
    folder = Path("runs/occlude/resnet18-noise")
    record = json.loads((folder / "occlusion.json").read_text())
    assert f"The probability of {record['name']} is" in capsys.readouterr().out
    with Image.open(folder / "occlusion.png") as picture:
        assert picture.width > 400
    assert record["rows"] == [0, 16] and record["columns"] == [0, 16, 32] and record["class"] == 7

    request = NetworkRequest("resnet18", weights="random")
    mean, deviation = (torch.tensor(values).reshape(3, 1, 1) for values in request.normalization)
    image = (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - mean) / deviation
    image[:, 16:40, 32:56] = 0
    with torch.no_grad():
        model = request.load() if border is None else bl.convert(request.load(), border)
        likely = model(image[None]).double().softmax(1)[0, 7]
    assert record["probabilities"][1][2] == pytest.approx(float(likely), rel=1e-4)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--folder", "/proc/x"], "Expected a folder to write to but got /proc/x"),
        (["--target", "1000"], "Expected --target to be 0 to 999 but got 1000"),
    ],
)
def test_mistakes_are_told_before_the_work(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("borderless.cli.commands.occlude.occlude", lambda *_, **__: pytest.fail("it has worked"))
    Image.new("RGB", (40, 40)).save("black.png")
    assert main(["occlude", "resnet18", "black.png", "--weights", "random", "--side", "0", *words]) == 2
    assert expected in capsys.readouterr().err
