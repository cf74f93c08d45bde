"""A network that is named by its import path, from the command line to the page: the U-Net of the documentation."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import borderless as bl
from borderless.auditing import run
from borderless.cli.main import main
from borderless.data.imagenet import MEAN as IMAGENET
from support.planted import network

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "audit-tasks.md"
MORE = """

class Needy(UNet):
    def forward(self, images, lengths):
        return super().forward(images)


class Strange(UNet):
    def forward(self, images):
        return "labels"


def torn(picture):
    raise OSError("no such table")


def flat(picture):
    return to_tensor(picture)[0]


def as_it_is(picture):
    return to_tensor(picture.resize((16 + picture.getpixel((0, 0))[0], 64)))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with the module of the documentation and its weights."""
    source = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    (tmp_path / "unet.py").write_text(source + MORE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    import unet  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    torch.save(unet.build().state_dict(), tmp_path / "weights.pt")
    yield tmp_path
    del sys.modules["unet"]


@pytest.fixture
def margin_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other parts take most of the time of an audit."""
    chosen = run._chosen

    def alone(_: object, task: Any, is_annotated: bool) -> Any:
        return chosen([] if "margin" in task.SKIPS else ["margin"], task, is_annotated)

    monkeypatch.setattr(run, "_chosen", alone)


def audit(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main(["audit", *map(str, words)])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.slow
def test_a_unet_of_ones_own_is_audited_by_its_import_path(
    capsys: pytest.CaptureFixture[str], photographs: Path, folder: Path
) -> None:
    common = ("--weights", "weights.pt", "--images", photographs, "--size", 32, "--count", 4, "--objects", 2)
    status, out, err = audit(capsys, "unet:build", *common, "--fail-above", 100)
    assert status == 0, err
    assert "The task is segmentation, guessed from a tensor (4, 3, 32, 32)." in out
    made = folder / "runs" / "audit" / "unet-build"
    record = json.loads((made / "audit.json").read_text())
    assert record["model"]["weights"] == "file weights.pt"
    assert record["sensitivity"]["border"]["positions"] > 0
    assert record["sensitivity"]["border_control"]["change"] < 1e-4
    assert record["missing"] == {}
    assert "borderless audit unet:build --weights weights.pt --images" in record["command"]
    assert "One object at many positions" in (made / "report.html").read_text()
    status, out, _ = audit(capsys, "--compare", made, made)
    assert status == 0 and "padding changes outputs up to, px" in out


@pytest.mark.usefixtures("margin_alone")
def test_pictures_are_what_a_function_makes_of_them(capsys: pytest.CaptureFixture[str], photographs: Path) -> None:
    common = ("--images", photographs, "--count", 2, "--folder", "out")
    status, _, err = audit(capsys, "unet:build", *common, "--preprocess", "unet:preprocess")
    assert status == 0, err
    record = json.loads(Path("out/audit.json").read_text())
    assert record["images"]["size"] == [64, 64]
    assert record["images"]["preprocessing"] == "by unet:preprocess"
    assert record["images"]["mean"] == []
    status, _, err = audit(capsys, "unet:build", *common, "--size", 32, "--mean", 0, 0, 0, "--std", 1, 1, 1)
    assert status == 0, err
    record = json.loads(Path("out/audit.json").read_text())
    assert (record["images"]["mean"], record["images"]["deviation"]) == ([0, 0, 0], [1, 1, 1])
    assert "--mean 0.0 0.0 0.0 --std 1.0 1.0 1.0" in record["command"]


@pytest.mark.usefixtures("margin_alone")
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("nowhere:build",), "there is no nowhere in the current folder"),
        (("unet:bulid",), "did you mean build?"),
        (("unet:block",), "which needs inputs, outputs;"),
        (("unet:Needy",), "it cannot run on shape (2, 3, 32, 32), torch.float32 (TypeError: "),
        (("unet:Strange",), "Expected an output that a task fits"),
        (("unet:build", "--task", "regression"), "Expected an output for --task regression but UNet returns a tensor"),
        (("unet:build", "--arch", "resnet18"), "but got --arch resnet18; leave it out"),
        (("unet:build", "--weights", "none.pt"), "none.pt, which does not exist"),
        (("unet:build", "--std", "1", "0", "1"), "Expected a --std above 0 but got 1.0 0.0 1.0"),
        (("unet:build", "--preprocess", "unet:torn"), "but got OSError: no such table"),
        (("unet:build", "--preprocess", "unet:flat"), "but got torch.float32 of shape (40, 48)"),
        (("unet:build", "--preprocess", "unet:as_it_is"), "Expected inputs of one size from the preprocessing but got"),
        (("unet:build", "--preprocess", "unet:preprocess", "--mean", "0", "0", "0"), "Expected --preprocess alone"),
    ],
)
def test_each_mistake_is_one_sentence_and_status_2(
    capsys: pytest.CaptureFixture[str], photographs: Path, words: tuple[str, ...], text: str
) -> None:
    status, out, err = audit(capsys, *words, "--images", photographs, "--count", 2, "--size", 32, "--folder", "out")
    assert (status, out) == (2, "")
    *progress, sentence = err.splitlines()
    assert sentence.startswith("borderless: Expected ") and text in sentence
    assert progress in ([], ["audit: 0 %, 0:00 elapsed"])


def test_a_folder_is_read_from_python_too(photographs: Path) -> None:
    import unet  # pyright: ignore[reportMissingImports]

    found = bl.audit(unet.build(), photographs, count=2, size=32, parts=())
    assert (found.images, found.size, found.drawn_from) == (2, (32, 32), 7)
    assert found.origin.mean == IMAGENET
    for i, picture in enumerate(sorted(photographs.iterdir())):
        (photographs / f"class{i % 3}").mkdir(exist_ok=True)
        picture.rename(photographs / f"class{i % 3}" / picture.name)
    by_class = bl.audit(network(), str(photographs), size=32, parts=())
    assert by_class.accuracy is not None  # as many folders as classes
    assert by_class.origin.class_names == ("class0", "class1", "class2")
    of_four = torch.nn.Sequential(*network()[:-1], torch.nn.Linear(8, 4)).eval()
    assert bl.audit(of_four, str(photographs), size=32, parts=()).accuracy is None


@pytest.mark.usefixtures("margin_alone")
def test_weights_that_hold_more_than_tensors_are_refused_unread(
    capsys: pytest.CaptureFixture[str], photographs: Path
) -> None:
    import unet  # pyright: ignore[reportMissingImports]

    torch.save(unet.build(), "whole.pt")
    status, _, err = audit(capsys, "unet:build", "--weights", "whole.pt", "--images", photographs)
    assert status == 2
    assert "could run code from the file" in err
