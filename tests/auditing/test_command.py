"""`borderless audit` as it is typed: networks, files, folders, the page, the exit status."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from borderless.auditing import run
from borderless.auditing.command import AuditOutcome
from borderless.auditing.comparison import write_comparison
from borderless.auditing.record import read
from borderless.auditing.result import Finding
from borderless.auditing.tasks.classification import WORDS
from borderless.cli.main import main
from borderless.errors import CheckpointError
from borderless.models import load

TINY = "timm/test_resnet"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "mine.pt"
    torch.save(load(TINY, num_classes=4).state_dict(), path)
    return path


@pytest.fixture
def sensitivity_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other parts take most of the time of an audit."""
    chosen = run._chosen
    monkeypatch.setattr(run, "_chosen", lambda _, *rest: chosen(["sensitivity"], *rest))


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
    assert record["sensitivity"]["border"]["positions"] > 0
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    status, out, _ = audit(capsys, "--compare", tmp_path / "one", tmp_path / "two" / "audit.json")
    assert status == 0
    assert "cost of infinite" in out
    page = (tmp_path / "one" / "against-two.html").read_text()
    assert "mine (A)" in page
    assert "mine (B)" in page


@pytest.mark.parametrize(
    ("share", "status", "text"),
    [
        (0.5, 1, "50.0 % of the predictions change with the position, more than the 5 % of --fail-above"),
        (0.05, 0, ""),
        (None, 1, "what --fail-above is about could not be measured"),
    ],
)
def test_an_audit_is_a_check(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    share: float | None,
    status: int,
    text: str,
) -> None:
    finding = Finding("verdict", "warning", "It <em>does</em>.")
    outcome = AuditOutcome([finding], Path("there/report.html"), share, WORDS, "classification")
    monkeypatch.setattr("borderless.auditing.command.run", lambda *_: outcome)
    found, out, err = audit(capsys, TINY, "--fail-above", "5")
    assert (found, out.splitlines()[0]) == (status, "Warning  It does.")
    assert text in err


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
    assert "Expected a file of weights" in err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--images", "x"), "write: borderless audit"),
        (("resnett18",), "did you mean"),
        (("resnet18", "--arch", "resnet50"), "Expected a file of weights with --arch"),
        (("resnet18", "--weights", "random", "--images", "nowhere"), "Expected a folder of images"),
        (("resnet18", "--weights", "random", "--size", "0"), "Expected size to be from 1 to 16384"),
        (("resnet18", "--device", "cuda:99"), "Expected cpu, or cuda"),
        (("--compare", "a"), "Expected two audits"),
        (("--compare", "a", "b"), "Expected an audit.json but got a"),
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
    assert "Expected a record of schema 1 to 3 but got schema 0" in err


@pytest.mark.usefixtures("sensitivity_alone")
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
    assert "1 files: class0/torn.png" in (tmp_path / "out" / "report.html").read_text()


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = audit(capsys, "--help")
    assert status == 0
    assert "borderless audit FILE --arch NAME" in out
    assert "--fail-above" in out


@pytest.mark.nightly
@pytest.mark.usefixtures("sensitivity_alone")
def test_random_weights_follow_the_seed_and_are_told(
    capsys: pytest.CaptureFixture[str], photographs: Path, tmp_path: Path
) -> None:
    records = []
    for folder, seed in (("one", 0), ("two", 0), ("three", 1)):
        words = (TINY, "--weights", "random", "--images", photographs, "--size", 40, "--seed", seed)
        status, _, err = audit(capsys, *words, "--folder", tmp_path / folder)
        assert status == 0, err
        records.append(json.loads((tmp_path / folder / "audit.json").read_text()))
    one, two, three = (record["sensitivity"]["all_positions"] for record in records)
    assert one == two != three
    assert records[0]["model"]["weights"] == "random, drawn with seed 0"


def test_a_folder_that_cannot_be_written_to_ends_before_the_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("borderless.models.request.NetworkRequest.load", lambda _: pytest.fail("the work began"))
    for folder in ("/proc/x", "/dev/null/x"):
        status, _, err = audit(capsys, TINY, "--weights", "random", "--folder", folder)
        assert status == 2
        assert f"Expected a folder to write to but got {folder}" in err
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--size", "99999999"), "Expected size to be from 1 to 16384"),
        (("--size", "-5"), "Expected size to be from 1"),
        (("--classes", "0"), "Expected classes to be from 1 to 100000 but got classes=0"),
        (("--classes", "-3"), "but got classes=-3"),
        (("--classes", "99999999999"), "but got classes=99999999999"),
        (("--seed", str(10**23)), "Expected seed to be from 0"),
        (("--device", "meta"), "Expected cpu, or cuda"),
        (("--fail-above", "nan"), "Expected fail_above to be from 0 to 100 but got fail_above=nan"),
        (("--fail-above", "-1"), "but got fail_above=-1.0"),
        (("--fail-above", "inf"), "but got fail_above=inf"),
        (("--count", "0"), "Expected count to be from 1"),
        (("--objects", "0"), "Expected objects to be from 1 to 64"),
        (("--batch-size", "nan"), "Expected a whole number for --batch-size but got 'nan'"),
        (("--workers", "-1"), "Expected workers to be from 0"),
        (("--imges", "x"), "did you mean --images or --mean?"),
    ],
)
def test_absurd_numbers_and_misspelt_options_are_one_sentence(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], text: str
) -> None:
    status, out, err = audit(capsys, TINY, "--weights", "random", *words)
    assert (status, out) == (2, "")
    assert text in err
    assert err.count("\n") == 1


def test_a_missing_file_is_said_to_be_missing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, _, err = audit(capsys, tmp_path / "nofile.pt")
    assert status == 2
    assert f"Expected a file of weights at {tmp_path / 'nofile.pt'} but got none" in err


def test_a_pipe_is_no_file_of_weights(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.pt"
    os.mkfifo(pipe)  # reading it would wait forever
    status, _, err = audit(capsys, pipe, "--arch", "resnet18")
    assert status == 2
    assert f"Expected a file of weights at {pipe} but got none" in err
    with pytest.raises(CheckpointError, match=r"Expected a .* file but got .*pipe\.pt"):
        load("resnet18", pipe)


def test_an_older_record_is_compared_in_the_words_of_today(tmp_path: Path) -> None:
    record = {
        "schema": 1,
        "model": {"name": "old"},
        "images": {"count": 8, "size": [224, 224], "accuracy": None},
        "seed": 0,
        "findings": [{"level": level, "text": level} for level in ("bad", "mind", "good", "open")],
        "sensitivity": {"all_places": {"flips": 0.25, "places": 24}, "worst_place": [0, 8]},
    }
    (tmp_path / "audit.json").write_text(json.dumps(record))
    found = read(tmp_path)
    assert [finding["level"] for finding in found["findings"]] == ["fail", "warning", "pass", "info"]
    assert found["sensitivity"] == {"all_positions": {"flips": 0.25, "positions": 24}, "worst_position": [0, 8]}
    page, (table,) = write_comparison(found, read(tmp_path), tmp_path / "both.html")
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["predictions that change on an empty canvas, %"] == ["25", "25"]
    assert rows["predictions that change on photographs, %"] == ["–", "–"]
    assert '<span class="badge">Warning</span>' in page.read_text()
