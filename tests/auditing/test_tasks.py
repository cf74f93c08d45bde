"""Audits of every task: what the output means is guessed or asked for, planted faults are found, others are not."""

import html
import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

import borderless as bl
from borderless.auditing.comparison import write_comparison
from borderless.auditing.record import read
from borderless.auditing.result import Finding
from borderless.auditing.run import Audit
from borderless.auditing.tasks import discover
from borderless.auditing.verdict import headline, is_exploiting, judge
from borderless.cli.options import Task
from borderless.errors import ImageError, UnknownName
from support.detectors import retina
from support.planted import network
from support.planted_tasks import BLIND_PX, Blind, Boxes, Coordinate, PaddedSum, squares


def images(count: int = 4, side: int = 24) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def audited(model: nn.Module, task: str | None, given: Tensor, *parts: str, **options: Any) -> Audit:
    return bl.audit(model.eval(), given, task=task, parts=parts or ("sensitivity",), position_count=16, **options)


def named(found: Audit) -> dict[str, Finding]:
    return {finding.name: finding for finding in judge(found)}


class Returning(nn.Module):
    """Returns what a function makes of the images."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Any:
        return self.function(images)


@pytest.mark.parametrize(
    ("function", "task", "text"),
    [
        (lambda x: x.mean((2, 3)), "classification", "a tensor (4, 3)"),
        (lambda x: {"aux": x.mean(), "out": x}, "segmentation", "a tensor (4, 3, 24, 24)"),
        (lambda x: x[:, :1], "dense", "a tensor (4, 1, 24, 24)"),
        (lambda x: x[:, 0], "dense", "a tensor (4, 24, 24)"),
        (lambda x: x.mean((1, 2, 3)), "regression", "a tensor (4,)"),
        (lambda x: x.mean((2, 3), keepdim=True), "embedding", "a tensor (4, 3, 1, 1)"),
    ],
)
def test_the_task_is_guessed_from_the_output_and_told(function: Any, task: str, text: str, tmp_path: Path) -> None:
    found = bl.audit(Returning(function), images(), parts=())
    assert (found.task, found.guessed_from) == (task, text)
    assert f"{task}, guessed from {text}" in found.save(tmp_path).read_text()
    assert found.to_dict()["model"]["task"] == task


@pytest.mark.parametrize(
    ("function", "task", "text"),
    [
        (
            lambda x: "text",
            None,
            r"an output that a task fits \(classification, .* but Returning returns a str",
        ),
        (lambda x: {"a": x.long()}, None, r"returns a dict \('a': torch.int64\) for 4 images of 3 × 24 × 24"),
        (lambda x: x.mean((2, 3)), "segmentation", r"--task segmentation but Returning returns a tensor \(4, 3\)"),
        (lambda x: x.mean((2, 3)) * 0, "regression", "Expected images with different outputs"),
        (lambda x: x.mean((2, 3)) * 0 + 1, "embedding", "Expected images with different embeddings"),
        (lambda x: x[:, :1] * 0, "dense", "Expected an output that varies"),
        (lambda x, y: x, None, r"cannot run on shape \(4, 3, 24, 24\).*TypeError.*missing 1 required positional"),
    ],
)
def test_what_no_task_fits_is_told_in_one_sentence(function: Any, task: str | None, text: str) -> None:
    with pytest.raises(ImageError, match=text) as told:
        bl.audit(Returning(function), images(), task=task, parts=())
    assert "\n" not in str(told.value)


def test_tasks_and_parts_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean segmentation"):
        bl.audit(network(), images(), task="segmentatoin")
    with pytest.raises(UnknownName, match="Expected parts for the task classification but got margin"):
        bl.audit(network(), images(), parts=["margin"])
    with pytest.raises(ImageError, match="Expected no labels for the task regression"):
        bl.audit(network(), images(), torch.zeros(4, dtype=torch.long), task="regression")


def test_the_command_line_knows_every_task() -> None:
    assert set(get_args(Task)) == set(discover())


@pytest.mark.parametrize(("task", "outputs"), [("segmentation", 2), ("segmentation", 1), ("dense", 1)])
def test_a_blind_margin_is_found_where_it_is_and_put_down_to_the_padding(task: str, outputs: int) -> None:
    found = audited(Blind(outputs=outputs), task, squares(), "sensitivity", "margin")
    findings = named(found)
    assert is_exploiting(found) and findings["verdict"].level == "fail"
    assert findings["margin"].numbers["depth_px"] == BLIND_PX
    assert found.results["padding"].by_distance[BLIND_PX:].max() == 0
    assert found.sensitivity is not None
    assert found.sensitivity.border_control.change < 1e-5  # silent where nothing should differ
    if task == "segmentation":
        assert f"within {BLIND_PX} px of the edge" in findings["margin"].text
        flips = {one.index: one.flips for one in found.results["crops"].classes}
        assert flips[0] == 0 < flips[1]  # only the object is missed


@pytest.mark.parametrize("task", ["segmentation", "dense"])
@pytest.mark.parametrize("change", ["converted", "without the fault"])
def test_the_same_network_converted_or_without_a_blind_margin_is_not_accused(task: str, change: str) -> None:
    outputs = 1 if task == "dense" else 2
    model = bl.convert(Blind(outputs=outputs).eval(), "infinite") if change == "converted" else Blind(False, outputs)
    found = audited(model, task, squares(), "sensitivity", "margin")
    findings = named(found)
    assert findings["verdict"].level == findings["margin"].level == "pass"
    assert "crops" not in findings
    assert found.results["crops"].rings.by_distance.max() < 1e-5


@pytest.mark.parametrize("task", ["regression", "embedding", "segmentation"])
def test_a_coordinate_is_named_and_not_put_down_to_the_padding(task: str) -> None:
    outputs = {"regression": 1, "embedding": 4, "segmentation": 2}[task]
    given = images()
    parts = ("sensitivity", "margin") if task == "segmentation" else ("sensitivity",)
    found = audited(Coordinate(is_dense=task == "segmentation", outputs=outputs), task, given, *parts)
    findings = named(found)
    assert "reads absolute position" in findings["position-read"].text
    assert findings["verdict"].level != "pass"
    assert not is_exploiting(found)  # it is not the border
    if task == "segmentation":
        assert findings["margin"].level == "pass"
    silent = named(audited(Coordinate(False, task == "segmentation", outputs), task, given, *parts))
    assert silent["verdict"].level == "pass"
    assert "position-read" not in silent


@pytest.mark.parametrize(("task", "outputs"), [("regression", 1), ("embedding", 3)])
def test_a_padding_that_changes_numbers_is_found_and_gone_without_a_border(task: str, outputs: int) -> None:
    model = PaddedSum(outputs)
    found = audited(model, task, squares(noise=0.2))
    assert is_exploiting(found)
    shown = headline(found)
    assert shown is not None and shown[0].flips > 0.05
    silent = audited(bl.convert(model.eval(), "infinite"), task, squares(noise=0.2))
    assert named(silent)["verdict"].level == "pass"


def test_a_detector_that_is_blind_at_the_border_misses_objects_there_because_of_its_backbone() -> None:
    given = squares(side=28)
    found = audited(Boxes(), "detection", given, objects=given[:4, :, 8:20, 8:20])
    assert found.task == "detection" and is_exploiting(found)
    assert found.sensitivity is not None
    missed = found.sensitivity.differs.mean(1)
    row, column = found.sensitivity.positions.T
    is_at_corner = ((row == 0) | (row == 16)) & ((column == 0) | (column == 16))
    assert missed[is_at_corner].all() and not missed[0]
    assert found.sensitivity.border_control.change < 1e-5
    fine = audited(Boxes(False), None, given, objects=given[:4, :, 8:20, 8:20])
    assert fine.guessed_from.startswith("a list of 8, each a dict ('boxes': a tensor (1, 4), ")
    assert named(fine)["verdict"].level == "pass"
    converted = Boxes()
    bl.convert_(converted.backbone, "infinite")
    assert named(audited(converted, None, given, objects=given[:4, :, 8:20, 8:20]))["verdict"].level == "pass"


def test_a_detector_that_detects_nothing_cannot_be_judged() -> None:
    found = audited(Boxes(), None, torch.zeros(4, 3, 28, 28))
    assert found.missing["objects on photographs"].startswith("Expected objects that are detected in the middle")
    assert named(found)["verdict"].level == "info"


def test_audits_of_a_task_are_saved_and_compared(tmp_path: Path) -> None:
    for name, model in (("one", Blind()), ("two", Blind(False))):
        found = bl.audit(model.eval(), squares(), name=name, parts=["margin", "sensitivity"], position_count=9)
        page = html.unescape(found.save(tmp_path / name).read_text())
        assert "How far from the edge outputs change" in page
        assert "of an object's pixels get another label with the position" in page
    record = json.loads((tmp_path / "one" / "audit.json").read_text())
    assert record["margin"]["depth_px"] == BLIND_PX
    assert {one["index"] for one in record["margin"]["classes"]} == {0, 1}
    assert record["headline"]["overlap"] < 1
    _, (table,) = write_comparison(read(tmp_path / "one"), read(tmp_path / "two"), tmp_path / "both.html")
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["padding changes outputs up to, px"] == [str(BLIND_PX), "0"]
    assert rows["overlap of labels on photographs, %"][1] == "100"


@pytest.mark.filterwarnings("ignore::borderless.errors.PositionDependentWarning")  # of suppressing boxes
def test_a_retinanet_is_flat_over_positions_once_its_backbone_has_no_border() -> None:
    model, given = retina(), torch.zeros(4, 3, 48, 48)
    things = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    options: dict[str, Any] = {"objects": things, "position_count": 9, "parts": ["sensitivity"]}
    found = bl.audit(model, given, **options)
    assert found.task == "detection"
    assert found.sensitivity is not None
    assert found.sensitivity.border.change > 1e-4
    assert found.sensitivity.border_control.change < 1e-5
    assert named(found)["border"].level == "warning"
    bl.convert_(model.get_submodule("backbone"), "infinite", phase="adaptive", output="signal")
    flat = bl.audit(model, given, **options).sensitivity
    assert flat is not None and flat.probability is not None
    seen = flat.probability[:, flat.differs.max(0) == 0]  # boxes are on a grid: between its cells some are missed
    assert seen.shape[1] and (seen.max(0) - seen.min(0)).max() < 1e-5
