"""torchvision's detectors, whole and as backbones, and its optical flow."""

from typing import Any

from torch import Tensor, nn
from torchvision.models import detection, optical_flow
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from benchmarks.networks import Network

SHAPE = (3, 128, 128)
WHOLE = {"num_classes": 3, "min_size": 128, "max_size": 128}


def _listed(images: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A list of (C, H, W), as torchvision's detectors take images."""
    return (list(images),), {}


def _with_themselves(images: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (images, images), {"num_flow_updates": 2}


def _fpn() -> nn.Module:
    return resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d)


def _anchors() -> AnchorGenerator:
    return AnchorGenerator(((16,), (32,), (64,), (128,), (256,)), ((1.0,),) * 5)


def _ready(name: str) -> nn.Module:
    return getattr(detection, name)(weights=None, weights_backbone=None)


class BackboneAndTowers(nn.Module):
    """Of RetinaNet, all that is a map: the pyramid and both heads, before boxes are read from them."""

    def __init__(self) -> None:
        super().__init__()
        self.model = detection.RetinaNet(_fpn(), anchor_generator=_anchors(), **WHOLE)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = self.model.backbone(images).values()
        head = self.model.head
        return [head.classification_head.conv(m) for m in maps] + [head.regression_head.conv(m) for m in maps]


NETWORKS = {
    "tvdet/FCOS(resnet18-fpn)-WHOLE": Network(
        lambda: detection.FCOS(_fpn(), anchor_generator=_anchors(), **WHOLE), SHAPE, _listed
    ),
    "tvdet/FasterRCNN(resnet18-fpn)-WHOLE": Network(lambda: detection.FasterRCNN(_fpn(), **WHOLE), SHAPE, _listed),
    "tvdet/FasterRCNN(resnet18-fpn).backbone": Network(lambda: detection.FasterRCNN(_fpn(), **WHOLE).backbone, SHAPE),
    "tvdet/MaskRCNN(resnet18-fpn)-WHOLE": Network(lambda: detection.MaskRCNN(_fpn(), **WHOLE), SHAPE, _listed),
    "tvdet/RetinaNet backbone+towers": Network(BackboneAndTowers, SHAPE),
    "tvdet/RetinaNet(resnet18-fpn)-WHOLE": Network(
        lambda: detection.RetinaNet(_fpn(), anchor_generator=_anchors(), **WHOLE), SHAPE, _listed
    ),
    "tvdet/raft_small": Network(lambda: optical_flow.raft_small(), SHAPE, _with_themselves),
    "tvdet/ssdlite320-WHOLE": Network(lambda: _ready("ssdlite320_mobilenet_v3_large"), SHAPE, _listed),
}
NETWORKS |= {
    f"tvdet/{name}.backbone": Network(lambda name=name: _ready(name).backbone, shape)
    for name, shape in {
        "fasterrcnn_mobilenet_v3_large_320_fpn": SHAPE,
        "fasterrcnn_resnet50_fpn": SHAPE,
        "fcos_resnet50_fpn": (3, 192, 192),
        "retinanet_resnet50_fpn": (3, 192, 192),
        "ssd300_vgg16": (3, 300, 300),
        "ssdlite320_mobilenet_v3_large": (3, 320, 320),
    }.items()
}
