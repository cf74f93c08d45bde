"""torchvision's detectors: refused as a whole with the line to write; their backbones convert, heads go along."""

import copy
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.ops import MultiScaleRoIAlign

import borderless as bl

SIZES = {"min_size": 64, "max_size": 96}
WHOLE = {**SIZES, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}


class Tiny(nn.Module):
    """Maps of strides 4 and 8."""

    def __init__(self, channels: int = 8, a_level: bool = False) -> None:
        super().__init__()
        self.out_channels = [channels] * 2 if a_level else channels  # as SSD wants to be told
        self.fine = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, channels, 3, 2, 1), nn.ReLU()
        )
        self.coarse = nn.Sequential(nn.Conv2d(channels, channels, 3, 2, 1), nn.ReLU())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        fine = self.fine(images)
        return OrderedDict([("0", fine), ("1", self.coarse(fine))])


def anchors() -> AnchorGenerator:
    return AnchorGenerator(((8,), (16,)), ((0.5, 1.0, 2.0),) * 2)


def pool(size: int) -> MultiScaleRoIAlign:
    return MultiScaleRoIAlign(["0", "1"], size, 2)


TWO_STAGES: dict[str, Callable[[], nn.Module]] = {
    "FasterRCNN": lambda: detection.FasterRCNN(
        Tiny(), 3, rpn_anchor_generator=anchors(), box_roi_pool=pool(3), **WHOLE
    ),
    "MaskRCNN": lambda: detection.MaskRCNN(
        Tiny(), 3, rpn_anchor_generator=anchors(), box_roi_pool=pool(3), mask_roi_pool=pool(4), **WHOLE
    ),
    "KeypointRCNN": lambda: detection.KeypointRCNN(
        Tiny(), 2, rpn_anchor_generator=anchors(), box_roi_pool=pool(3), keypoint_roi_pool=pool(4), **WHOLE
    ),
}
ONE_STAGE: dict[str, Callable[[], nn.Module]] = {
    "RetinaNet": lambda: detection.RetinaNet(Tiny(), 3, anchor_generator=anchors(), **WHOLE),
    "FCOS": lambda: detection.FCOS(
        Tiny(32), 3, anchor_generator=AnchorGenerator(((8,), (16,)), ((1.0,),) * 2), **WHOLE
    ),
    "SSD": lambda: detection.ssd.SSD(
        Tiny(a_level=True), DefaultBoxGenerator([[2], [2]], scales=[0.1, 0.3, 0.5], steps=[4, 8]), (64, 64), 3
    ),
    "SSDlite": lambda: detection.ssd.SSD(
        Tiny(),
        (boxes := DefaultBoxGenerator([[2], [2]], scales=[0.1, 0.3, 0.5], steps=[4, 8])),
        (64, 64),
        3,
        head=detection.ssdlite.SSDLiteHead([8, 8], boxes.num_anchors_per_location(), 3, nn.BatchNorm2d),
    ),
}
DETECTORS = TWO_STAGES | ONE_STAGE
PICTURES = [torch.rand(3, 64, 80, generator=torch.Generator().manual_seed(i)) for i in range(2)]


def made(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DETECTORS[name]().eval()


def targets() -> list[dict[str, Tensor]]:
    keypoints = torch.tensor([[[20.0, 20.0, 1.0]] * 17])
    mask = torch.ones(1, 64, 80, dtype=torch.uint8)
    boxes = torch.tensor([[4.0, 4.0, 40.0, 40.0]])
    one = {"boxes": boxes, "labels": torch.tensor([1]), "masks": mask, "keypoints": keypoints}
    return [one, copy.deepcopy(one)]


def assert_trains(model: nn.Module) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.stack(list(model.train()(PICTURES, targets()).values())).sum().backward()
    gradient = model.backbone.fine[0].weight.grad
    assert gradient is not None and gradient.isfinite().all() and gradient.abs().sum() > 0


@pytest.mark.parametrize("name", DETECTORS)
def test_a_whole_detector_is_refused_with_the_line_to_write(name: str) -> None:
    model = made(name)
    line = r"as detectors take them.*bl\.convert_\(model\.backbone, 'infinite'\)"
    with pytest.raises(bl.BorderlessError, match=rf"a list of images such as \(3, 64, 80\), {line}"):
        bl.convert(model, "infinite")(PICTURES)
    if name != "RetinaNet":  # the only one that does not annotate what it takes
        with pytest.raises(bl.BorderlessError, match=rf"a model that takes such a list, {line}"):
            bl.explain(model, (64, 64))
    with pytest.raises(bl.BorderlessError, match=r"bl\.convert_\(model\.backbone, bl\.Border\('full', reach=2\)\)"):
        bl.convert(model, "full", reach=2)(PICTURES)


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("border", ["zero", "infinite"])
def test_with_a_converted_backbone_detectors_run_and_train(name: str, border: Any) -> None:
    model = made(name)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        before = model(PICTURES)
        bl.convert_(model.backbone, border)
        after = model(PICTURES)
    if border == "zero":
        assert all(torch.equal(a[key], b[key]) for a, b in zip(after, before, strict=True) for key in a)
    assert_trains(model)
    assert bl.border_of(model.backbone) == bl.Border(border)


@pytest.mark.parametrize("name", [name for name in ONE_STAGE if name != "FCOS"])  # whose statistics the canvas changes
def test_with_signals_the_heads_go_along(name: str) -> None:
    """The head on maps of the endless plane, cropped where it flattens: as on a hugely padded image."""
    model, images = made(name).double(), PICTURES[0][None, :, :, :64].double()
    plain = copy.deepcopy(model)
    bl.convert_(model.backbone, "infinite", output="signal")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        maps = list(model.backbone(images).values())
        got = model.head(maps)
        huge = plain.head(list(plain.backbone(torch.nn.functional.pad(images, [128] * 4)).values()))
    for key, value in got.items():
        levels = []
        start = 0
        for stride in (4, 8):
            side = (64 + 256) // stride
            count = side * side * (value.shape[1] // (16 * 16 + 8 * 8))
            level = huge[key][:, start : start + count].unflatten(1, (side, side, -1))
            start += count
            first, last = 128 // stride, (128 + 64) // stride
            levels.append(level[:, first:last, first:last].flatten(1, 3))
        torch.testing.assert_close(value.as_subclass(Tensor), torch.cat(levels, 1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", DETECTORS)
def test_with_signals_detectors_run_and_train(name: str) -> None:
    for border in (bl.Border("zero", at="boundary"), bl.Border("infinite", at="boundary")):
        model = made(name)
        before = model(PICTURES)
        bl.convert_(model.backbone, border, output="signal")
        with warnings.catch_warnings():
            warnings.simplefilter("error" if name in ONE_STAGE else "ignore")  # of roi_align, which has no rule
            after: Any = model(PICTURES)
            if border.name == "zero":
                assert all(torch.equal(a[key], b[key]) for a, b in zip(after, before, strict=True) for key in a)
            assert_trains(model)
