"""`borderless audit` as it is typed: networks, files, folders, the page, the exit status."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from borderless.cli.main import main
from borderless.models import load

TINY = "timm/test_resnet"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "mine.pt"
    torch.save(load(TINY, num_classes=4).state_dict(), path)
    return path


def audit(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main(["audit", *map(str, words)])
    out, err = capsys.readouterr()
    return status, out, err


def test_weights_with_their_architecture(
    capsys: pytest.CaptureFixture[str], photographs: Path, weights: Path, tmp_path: Path
) -> None:
    common = ("--arch", TINY, "--classes", 4, "--images", photographs, "--size", 40)
    status, out, err = audit(capsys, weights, *common, "--folder", tmp_path / "one", "--fail-above=100")
    assert status == 0, err
    assert f"The report is in {tmp_path / 'one' / 'report.html'}" in out
    record = json.loads((tmp_path / "one" / "audit.json").read_text())
    assert record["model"]["name"] == "mine"
    assert record["images"]["count"] == 7
    assert record["sensitivity"]["border"]["places"] > 0
    status, _, err = audit(capsys, weights, *common, "--folder", tmp_path / "two", "--fail-above=-1")
    assert status == 1
    assert "more than the -1 % of --fail-above" in err
    status, out, _ = audit(capsys, "--compare", tmp_path / "one", tmp_path / "two" / "audit.json")
    assert status == 0
    assert "cost of infinite" in out
    page = (tmp_path / "one" / "against-two.html").read_text()
    assert "mine (A)" in page
    assert "mine (B)" in page


def test_a_pickled_model_is_refused_with_the_safe_way(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "whole.pt"
    torch.save(nn.Conv2d(3, 4, 3), path)
    status, _, err = audit(capsys, path)
    assert status == 2
    assert "--arch" in err
    assert "runs code from the file" in err
    status, _, err = audit(capsys, path, "--arch", "resnet18")
    assert status == 2
    assert "could run code from the file" in err
    assert "save model.state_dict()" in err


def test_programs_are_told_apart_from_weights(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:  # as torch.jit.save lays it out
        archive.writestr("script/code/__torch__.py", "class A(Module): ...")
        archive.writestr("script/data.pkl", b"")
    (tmp_path / "program.pt2").write_bytes(b"PK")
    for name in ("script.pt", "program.pt2"):
        status, _, err = audit(capsys, tmp_path / name, "--arch", "resnet18")
        assert status == 2
        assert "a compiled or exported program" in err
        assert "save model.state_dict() of the model" in err


def test_a_real_exported_program_and_a_missing_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    program = torch.export.export(nn.Conv2d(3, 4, 3), (torch.zeros(1, 3, 8, 8),))
    torch.export.save(program, tmp_path / "real.pt2")
    status, _, err = audit(capsys, tmp_path / "real.pt2")
    assert status == 2
    assert "exported program" in err
    status, _, err = audit(capsys, tmp_path / "missing.pth", "--arch", "resnet18")
    assert status == 2
    assert "which does not exist" in err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--images", "x"), "write it first"),
        (("resnett18",), "did you mean"),
        (("resnet18", "--arch", "resnet50"), "Expected a file of weights with --arch"),
        (("resnet18", "--weights", "random", "--images", "nowhere"), "which is no folder"),
        (("resnet18", "--weights", "random", "--size", "0"), "one pixel, one image"),
        (("resnet18", "--device", "cuda:99"), "Expected cpu, or cuda"),
        (("--compare", "a"), "two folders"),
        (("--compare", "a", "b"), "cannot be read as an audit"),
    ],
)
def test_what_is_wrong_is_said(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], text: str) -> None:
    status, _, err = audit(capsys, *words)
    assert status == 2
    assert text.lower() in err.lower()


def test_a_record_of_another_schema_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text(json.dumps({"schema": 0}))
    status, _, err = audit(capsys, "--compare", tmp_path, tmp_path)
    assert status == 2
    assert "with the schema 0; needed: 1" in err


def test_class_folders_are_labels_if_the_network_has_as_many_classes(
    capsys: pytest.CaptureFixture[str], photographs: Path, weights: Path, tmp_path: Path
) -> None:
    for i, picture in enumerate(sorted(photographs.iterdir())):
        folder = photographs / f"class{i % 4}"
        folder.mkdir(exist_ok=True)
        picture.rename(folder / picture.name)
    (photographs / "class0" / "torn.png").write_bytes(b"\x89PNG")
    common = ("--arch", TINY, "--images", photographs, "--size", 40, "--folder", tmp_path / "out")
    status, _, err = audit(capsys, weights, *common, "--classes", 4)
    assert status == 0, err
    record = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert record["images"]["accuracy"] is not None
    assert record["sensitivity"]["accuracy_elsewhere"] is not None
    assert record["images"]["skipped"][0].startswith("class0/torn.png: cannot be read")
    assert "1 files were left out" in (tmp_path / "out" / "report.html").read_text()


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = audit(capsys, "--help")
    assert status == 0
    assert "borderless audit FILE --arch NAME" in out
    assert "--fail-above" in out


@pytest.mark.slow
def test_random_weights_follow_the_seed_and_are_told(
    capsys: pytest.CaptureFixture[str], photographs: Path, tmp_path: Path
) -> None:
    records = []
    for folder, seed in (("one", 0), ("two", 0), ("three", 1)):
        words = (TINY, "--weights", "random", "--images", photographs, "--size", 40, "--seed", seed)
        status, _, err = audit(capsys, *words, "--folder", tmp_path / folder)
        assert status == 0, err
        records.append(json.loads((tmp_path / folder / "audit.json").read_text()))
    one, two, three = (record["sensitivity"]["all_places"] for record in records)
    assert one == two != three
    assert records[0]["notes"] == ["its weights are random, drawn with seed 0"]
