"""A RetinaNet that is trained for seconds on self-made scenes: with squares in the middle it misses them elsewhere."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.utils import save_image

import borderless as bl
from borderless.auditing.run import Audit
from borderless.auditing.verdict import is_exploiting, judge
from borderless.cli.main import main
from support import detectors
from support.detectors import BACKGROUND, SIDE, SQUARE, scenes, trained

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.filterwarnings("ignore::borderless.errors.PositionDependentWarning"),  # of suppressing boxes
]


@pytest.fixture(scope="module")
def of_the_middle() -> nn.Module:
    return trained(is_centered=True)


def things() -> Tensor:
    """Dark squares with 2 px of background around them."""
    found = torch.full((4, 3, SQUARE + 4, SQUARE + 4), BACKGROUND)
    found[:, :, 2:-2, 2:-2] = torch.tensor([0.05, 0.15, 0.25, 0.35]).reshape(4, 1, 1, 1)
    return found


def audited(model: nn.Module, is_centered: bool) -> Audit:
    images, _ = scenes(torch.Generator().manual_seed(7), is_centered, 6)
    options: dict[str, Any] = {"background": BACKGROUND, "position_count": 16, "parts": ["sensitivity"]}
    return bl.audit(model, images, objects=things(), **options)


def test_squares_in_the_middle_teach_a_detector_to_miss_others_because_of_the_border(of_the_middle: nn.Module) -> None:
    found = audited(of_the_middle, is_centered=True)
    named = {finding.name: finding for finding in judge(found)}
    assert is_exploiting(found) and named["verdict"].level == named["border"].level == "fail"
    assert found.sensitivity is not None and found.on_photograph is not None
    assert found.sensitivity.border_control.change < 1e-5
    assert found.on_photograph.low > 0.2
    everywhere = audited(trained(is_centered=False), is_centered=False)
    assert not is_exploiting(everywhere)
    assert everywhere.on_photograph is not None and everywhere.on_photograph.high < 0.1


def test_its_scores_are_flat_over_positions_without_a_border_and_with_an_adaptive_phase(
    of_the_middle: nn.Module,
) -> None:
    def scores() -> Tensor:
        found: list[Tensor] = []
        for row in (0, 5, 22, 24, 35, 48):
            for column in (0, 3, 14, 24, 41, 48):
                image = torch.full((3, SIDE, SIDE), BACKGROUND)
                image[:, row : row + SQUARE + 4, column : column + SQUARE + 4] = things()[1]
                with torch.no_grad():
                    detected = of_the_middle([image])[0]["scores"]
                found.append(detected.max() if len(detected) else torch.zeros(()))
        return torch.stack(found)

    before = scores()
    assert before.max() - before.min() > 0.5
    backbone = of_the_middle.get_submodule("backbone")
    bl.convert_(backbone, "infinite", phase="adaptive", output="signal", background=BACKGROUND)
    after = scores()
    bl.revert_(backbone)
    assert after.min() > 0.5
    assert after.max() - after.min() < 1e-5


def test_it_is_audited_from_the_command_line_by_its_import_path(
    of_the_middle: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("finder", "squares"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    shutil.copy(detectors.__file__, "squares.py")
    Path("finder.py").write_text("from squares import retina\n\n\ndef build():\n    return retina(64, 0.3)\n")
    torch.save(of_the_middle.state_dict(), "weights.pt")
    images, targets = scenes(torch.Generator().manual_seed(7), is_centered=True, count=4)
    others, more = scenes(torch.Generator().manual_seed(8), is_centered=False, count=8)
    Path("scenes").mkdir()
    listed: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "s"}]}
    for i, (image, target) in enumerate(zip([*images, *others], [*targets, *more], strict=True)):
        save_image(image, f"scenes/{i}.png")
        listed["images"].append({"id": i, "file_name": f"{i}.png", "width": SIDE, "height": SIDE})
        left, top, right, bottom = target["boxes"][0].tolist()
        box = {"bbox": [left, top, right - left, bottom - top], "category_id": 1}
        listed["annotations"].append({"id": i + 1, "image_id": i, **box})
    Path("scenes.json").write_text(json.dumps(listed))
    words = ["finder:build", "--weights", "weights.pt", "--images", "scenes", "--size", str(SIDE), "--folder", "out"]
    words += ["--annotations", "scenes.json", "--mean", *"000", "--std", *"111", "--fail-above", "20"]
    assert main(["audit", *words]) == 1
    out, err = capsys.readouterr()
    assert "The task is detection" in out and "more than the 20 % of --fail-above" in err
    zones = json.loads(Path("out/audit.json").read_text())["zones"]
    assert zones["border"]["score"]["high"] < zones["inner"]["score"]["value"]
    assert next(one for one in zones["moved"] if one)["low"] > 0.2
    assert "the network treats them differently there, whatever is annotated" in out
