"""`borderless finetune` as it is typed: what it writes, what it says, and that it goes on where it was."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import borderless as bl
from borderless.cli.finetuning import shown
from borderless.cli.main import main
from borderless.data.labeled import load_labeled
from borderless.errors import ConversionError
from borderless.models import load
from borderless.models.head import with_classes
from borderless.training import evaluate

TINY = "timm/test_resnet"


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Two classes that differ in colour."""
    draw = np.random.default_rng(0)
    for name, colour in (("blue", (0.3, 0.3, 1.0)), ("red", (1.0, 0.3, 0.3))):
        folder = tmp_path / "photographs" / name
        folder.mkdir(parents=True)
        for i in range(14):
            grey = draw.integers(60, 255, (6, 6, 1)) * np.array(colour)
            image = Image.fromarray(grey.astype(np.uint8))
            image.resize((48, 44), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return tmp_path / "photographs"


def finetune(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main(["finetune", *map(str, words)])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.nightly
def test_a_network_with_other_classes(
    capsys: pytest.CaptureFixture[str], photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "made"
    words = [TINY, "--weights", "random", "--data", photographs, "--border", "infinite", "--phase", "adaptive"]
    words += ["--reach", 2, "--count", "window", "--size", 32, "--epochs", 6, "--learning-rate", 3e-3]
    words += ["--audit-images", 4, "--folder", folder]
    status, out, err = finetune(capsys, *words)
    assert status == 0, err
    assert "% fine-tuned" in out and "% converted" not in out
    assert f"Both audits side by side are in {folder / 'report.html'}" in out
    before, after = (json.loads((folder / when / "audit.json").read_text()) for when in ("before", "after"))
    assert (before["model"]["classes"], after["model"]["classes"]) == (1000, 2)
    assert before["images"]["accuracy"] is None
    record = json.loads((folder / "finetune.json").read_text())
    assert record["classes"] == ["blue", "red"]
    assert record["accuracy"] >= 0.75
    # The line that the command prints gives the same network back.
    monkeypatch.chdir(folder)
    assert record["load"] in out
    again = eval(record["load"], {"bl": bl, "load": load})
    test = shown(load_labeled(photographs).test, 32)
    assert evaluate(again, test, 16).accuracy == record["accuracy"]
    written = (folder / "best.pt").read_bytes()
    status, out, _ = finetune(capsys, *words)
    assert status == 0
    assert "epoch" not in out, "finished: nothing is trained"
    assert (folder / "best.pt").read_bytes() == written
    status, _, err = finetune(capsys, *words, "--seed", 1)
    assert status == 2
    assert "which has one with another seed" in err


@pytest.mark.slow
def test_weights_in_a_file_keep_their_classes(
    capsys: pytest.CaptureFixture[str], photographs: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    torch.save(load(TINY, num_classes=2).state_dict(), tmp_path / "mine.pt")
    words = ["--arch", TINY, "--classes", 2, "--data", photographs, "--border", "full", "--size", 32, "--epochs", 1]
    status, out, err = finetune(capsys, tmp_path / "mine.pt", *words, "--audit-images", 0, "--folder", tmp_path / "out")
    assert status == 0, err
    assert "% converted, " in out
    assert not (tmp_path / "out" / "before").exists()
    assert f'load("{TINY}", "best.pt", num_classes=2)' in out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((TINY,), "Expected --data, a folder of class folders"),
        (("--data", "x"), "write: borderless finetune resnet50"),
        ((TINY, "--data", "nowhere"), "which is no folder"),
        ((TINY, "--data", ".", "--device", "cuda:99"), "Expected cpu"),
        ((TINY, "--data", ".", "--size", "0"), "size=0"),
    ],
)
def test_what_is_wrong_is_said(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], text: str) -> None:
    status, _, err = finetune(capsys, *words)
    assert status == 2
    assert text in err


def test_one_class_is_refused(capsys: pytest.CaptureFixture[str], photographs: Path) -> None:
    for image in (photographs / "red").iterdir():
        image.unlink()
    (photographs / "red").rmdir()
    status, _, err = finetune(capsys, TINY, "--data", photographs)
    assert status == 2
    assert "Expected two or more folders of images" in err


def test_a_new_head_leaves_the_rest() -> None:
    torch.manual_seed(0)
    model, image = load(TINY, num_classes=5), torch.rand(1, 3, 32, 32)
    made, same, other = (with_classes(model, 3, image, seed) for seed in (0, 0, 1))
    assert made(image).shape == (1, 3)
    assert model(image).shape == (1, 5)
    names = [name for name, value in made.state_dict().items() if not _equal(value, model.state_dict().get(name))]
    assert names == ["fc.weight", "fc.bias"]
    assert torch.equal(made(image), same(image))
    assert not torch.equal(made(image), other(image))
    assert with_classes(model, 5, image, 0) is model
    with pytest.raises(ConversionError, match=r"Expected a classifier .* whose output is \(1, 4, 32, 32\)"):
        with_classes(nn.Conv2d(3, 4, 3, padding=1), 2, image, 0)


def _equal(one: torch.Tensor, other: torch.Tensor | None) -> bool:
    return other is not None and one.shape == other.shape and torch.equal(one, other)
