"""What is recommended is tried: a fix that removes the cause leaves nothing, and its cost and agreement are told."""

import html
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import borderless as bl
from borderless.auditing.parts.fixes import AS_IT_IS, Fix
from borderless.auditing.verdict import judge
from borderless.measures.shift_averaging import ShiftAveraged
from support.planted import network
from support.planted_tasks import BLIND_PX, Blind, Boxes, squares


def fixes_of(model: nn.Module, images: Tensor, *parts: str, **options: Any) -> dict[str, Fix]:
    found = bl.audit(model.eval(), images, parts=["fixes", *parts], **options).results["fixes"]
    return {fix.name: fix for fix in found}


def test_each_fix_of_a_classifier_removes_its_cause(tmp_path: Path) -> None:
    images = torch.randn(4, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    found = bl.audit(network().eval(), images, parts=["fixes"])
    named = {fix.name: fix for fix in found.results["fixes"]}
    own, infinite, adaptive = named[AS_IT_IS], named["infinite"], named["infinite, adaptive phase"]
    assert (own.kept, own.cost) == (1, 1) and own.change > 0.01
    assert infinite.change > 0.01 > 1e-5 > adaptive.change  # the stride is left without an adaptive phase
    assert infinite.cost == adaptive.cost == found.layout.costs["infinite"] if found.layout else False
    for name in ("blur before strides", "mean over 4 shifts"):
        assert named[name].change < own.change
    assert named["mean over 4 shifts"].cost == 4
    told = next(finding for finding in judge(found) if finding.name == "fixes")
    assert told.numbers["fix"] == "infinite, adaptive phase"
    assert "keeps 100 % of its predictions" in told.text
    page = html.unescape(found.save(tmp_path).read_text())
    assert "bl.convert(model, \"infinite\", phase='adaptive')" in page
    assert [one["name"] for one in found.to_dict()["fixes"]] == list(named)


def test_the_smallest_reach_that_is_enough_is_tried_on_a_segmenter() -> None:
    named = fixes_of(Blind(), squares(), "reach")
    assert named[AS_IT_IS].left > 0.2
    assert named["infinite"].left == named["infinite"].change == 0
    reach = named["infinite, reach 0"]
    assert reach.change == 0 and reach.cost < 1.01 < named["infinite"].cost
    images = squares()[:4]  # labels that differ between both networks, of all: the object's within the blind margin
    with torch.no_grad():
        labels = [model(images).argmax(1) for model in (Blind().eval(), bl.convert(Blind().eval(), "infinite"))]
    assert reach.kept == pytest.approx(float((labels[0] == labels[1]).double().mean()))
    assert BLIND_PX and reach.kept < 1
    assert "mean over 4 shifts" not in named  # outputs would have to be moved back


def test_of_a_detector_the_backbone_is_tried() -> None:
    given = squares(side=28)
    named = fixes_of(Boxes(), given, objects=given[:4, :, 8:20, 8:20])
    assert named[AS_IT_IS].left > 0.3
    assert named["infinite"].left == named["infinite"].change == 0


def test_nothing_is_tried_on_a_converted_network_and_nothing_said_where_nothing_changes() -> None:
    images = torch.randn(4, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    found = bl.audit(bl.convert(network().eval(), "infinite"), images, parts=["fixes"])
    assert found.missing["fixes"] == "Needs a network that is not converted yet"
    silent = bl.audit(Blind(False).eval(), squares(), parts=["fixes"])
    assert silent.results["fixes"][0].change == 0
    assert "fixes" not in [finding.name for finding in judge(silent)]


def test_the_mean_over_shifts_is_that_of_images_moved_down_and_right() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3, stride=4), nn.Flatten())
    image = torch.zeros(1, 1, 16, 16)
    image[..., 5:9, 6:10] = torch.rand(4, 4)
    moved = [torch.roll(image, (row, column), (2, 3)) for row in (0, 2) for column in (0, 2)]
    expected = torch.stack([model(one) for one in moved]).mean(0)
    torch.testing.assert_close(ShiftAveraged(model, (4, 4))(image), expected)


def test_what_cannot_be_changed_is_said_and_the_others_are_kept(tmp_path: Path) -> None:
    """Pools that are functions, not modules, cannot be blurred."""

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(F.max_pool2d(self.first(x).relu(), 2)).mean((2, 3))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Functional().eval()
    found = bl.audit(model, squares(), parts=["fixes", "sensitivity"])
    named = [fix.name for fix in found.results["fixes"]]
    assert "infinite, adaptive phase" in named and "blur before strides" not in named
    text = found.save(tmp_path).read_text()
    assert "Against the strides" in text and "bl.blur(model)" not in text, "it is not advised"
    assert "Not possible here: <em>blur before strides</em>. Expected a model with strided convolutions" in text
