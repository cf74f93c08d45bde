"""Scores by zone on annotated pictures: a blind margin and hard objects along the border are told apart."""

import html
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import borderless as bl
from borderless.auditing import run
from borderless.auditing.comparison import write_comparison
from borderless.auditing.parts import sensitivity
from borderless.auditing.record import read
from borderless.auditing.result import Finding
from borderless.auditing.run import Audit
from borderless.auditing.verdict import judge
from borderless.cli.main import main
from borderless.data.pictures import from_folder
from borderless.errors import DataError, ImageError
from support.planted import network
from support.planted_tasks import Blind, Many
from support.scenes import Square, coco, masks, pictures, voc

pytest.importorskip("pycocotools")
SIDE = 48
# Three objects in the center and three along the border, where no object that is moved will touch them.
AT = [(22, 8), (0, 8), (8, 22), (22, 43), (22, 35), (43, 22)]
SCENES: list[list[Square]] = [[(row, column, 5, 1)] for row, column in AT]


def folder_of(path: Path, faint_border: bool = False) -> Path:
    folder = pictures(path / "pictures", SCENES, SIDE)
    for i in (1, 3, 5) if faint_border else ():
        dark = np.asarray(Image.open(folder / f"{i}.png")) // 2
        Image.fromarray(dark).save(folder / f"{i}.png")
    return folder


def audited(model: torch.nn.Module, folder: Path, annotations: Path, *parts: str, **options: Any) -> Audit:
    given = from_folder(folder, len(SCENES), SIDE, mean=(0, 0, 0), deviation=(1, 1, 1))
    return bl.audit(model.eval(), given, annotations=annotations, parts=["zones", *parts], position_count=16, **options)


def zones_of(found: Audit) -> Finding:
    return next(finding for finding in judge(found) if finding.name == "zones")


@pytest.mark.parametrize(
    ("is_blind", "is_faint", "level", "text"),
    [
        (True, False, "warning", "the network treats them differently there, whatever is annotated"),
        (False, True, "info", "too little to be the cause. The data is"),
        (False, False, "pass", "neither the data nor the network makes a difference"),
    ],
)
def test_data_and_network_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_blind: bool, is_faint: bool, level: str, text: str
) -> None:
    def too_long(*_: Any) -> None:
        raise ImageError("Photographs are enough")

    monkeypatch.setattr(sensitivity, "on_canvas", too_long)
    folder = folder_of(tmp_path, is_faint)
    found = audited(Many(is_blind), folder, coco(tmp_path / "coco.json", SCENES, SIDE), "sensitivity", object_count=3)
    told = zones_of(found)
    assert told.level == level and text in told.text
    zones = found.results["zones"].found
    assert zones.inner.score.value == 1
    assert zones.zones[0].score.value == (0 if is_blind or is_faint else 1)
    assert zones.zones[0].count == zones.inner.count == 3
    moved = found.to_dict()["zones"]["moved"]
    assert moved[0]["value"] > 0.9 if is_blind else moved[0]["value"] == 0
    assert moved[3]["value"] == 0
    if not is_blind:
        return
    page = html.unescape(found.save(tmp_path / "page").read_text())
    assert "From the border to the center" in page and "Zheng et al." in page
    assert (tmp_path / "page" / "zones.png").is_file()


def test_a_segmenter_that_is_blind_along_the_border_is_found_there(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    for annotations in (masks(tmp_path / "masks", SCENES, SIDE), coco(tmp_path / "coco.json", SCENES, SIDE)):
        found = audited(Blind(), folder, annotations)
        zones = found.results["zones"].found
        assert zones.zones[0].precision.high < zones.inner.precision.low == 1
        assert zones.by_distance[4:].min() == 1 > zones.by_distance[:4].max()
        assert zones_of(found).text.endswith("(the part sensitivity).")
    silent = audited(Blind(False), folder, annotations)
    assert silent.results["zones"].found.zones[0].precision.value == 1
    for name, audit in (("one", found), ("two", silent)):
        audit.save(tmp_path / name)
    _, (table,) = write_comparison(read(tmp_path / "one"), read(tmp_path / "two"), tmp_path / "both.html")
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["score in the center, %"] == ["100", "100"]
    assert (tmp_path / "one" / "zones-distance.png").is_file()


def test_annotations_that_a_task_cannot_be_scored_on_are_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    of_masks = masks(tmp_path / "masks", SCENES, SIDE)
    for model, path, text in (
        (Many(), of_masks, "Expected annotated boxes for the task detection but got masks without"),
        (
            Blind(),
            voc(tmp_path / "voc", SCENES, SIDE),
            "Expected annotated masks for the task segmentation but got VOC",
        ),
        (network(), of_masks, "Expected annotations for detection or segmentation but got the task classification"),
    ):
        with pytest.raises(DataError, match=text):
            audited(model, folder, path)
    with pytest.raises(DataError, match="Expected the path of a folder of images with annotations but got Tensor"):
        bl.audit(Blind().eval(), torch.rand(2, 3, 24, 24), annotations=of_masks)
    with pytest.raises(DataError, match="Expected annotations for the part zones but got none"):
        bl.audit(Blind().eval(), torch.rand(2, 3, 24, 24), parts=["zones"])


def test_labels_that_the_network_does_not_have_are_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    found = audited(Blind(), folder, masks(tmp_path / "masks", SCENES, SIDE, foreground=7))
    assert found.missing["zones"].startswith("Expected labels of pixels from 0 to 1, the network's, but got 7")
    others = audited(Many(), folder, coco(tmp_path / "coco.json", [[(*s[:3], 2) for s in one] for one in SCENES], SIDE))
    assert others.missing["zones"].startswith("Expected predictions of the annotated labels (2) but got others (1)")


def test_the_command_line_reads_annotations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = run._chosen
    monkeypatch.setattr(run, "_chosen", lambda _, task, is_annotated: chosen(["zones"], task, is_annotated))
    monkeypatch.chdir(tmp_path)
    for name in ("finder", "squares"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "finder.py").write_text("from support.planted_tasks import Many as build\n")
    folder = folder_of(tmp_path)
    words = ["finder:build", "--images", str(folder), "--size", str(SIDE), "--mean", *"000", "--std", *"111"]
    words += ["--annotations", str(voc(tmp_path / "voc", SCENES, SIDE)), "--folder", "out"]
    assert main(["audit", *words, "--class-names", "background", "square"]) == 0
    assert "Warning  By zone, on 6 annotated images: the recall at an overlap of 50 % is 0 %" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert (record["zones"]["kind"], record["zones"]["images"]) == ("VOC", 6)
    assert "--annotations" in record["command"] and "--class-names background square" in record["command"]
    assert main(["audit", *words, "--class-names", "background", "circle"]) == 2
    assert "but got square, which is not in background, circle" in capsys.readouterr().err
