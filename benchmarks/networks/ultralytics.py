"""ultralytics: YOLO of several versions, whole (in eval mode they decode boxes), and without the head that decodes."""

from torch import nn
from ultralytics.nn.tasks import ClassificationModel, DetectionModel, PoseModel, SegmentationModel

from benchmarks.networks import Network

MODELS = {
    "yolo11n-cls": ClassificationModel,
    "yolov8n-cls": ClassificationModel,
    "yolo11n": DetectionModel,
    "yolov10n": DetectionModel,
    "yolov3-tiny": DetectionModel,
    "yolov5n": DetectionModel,
    "yolov8n": DetectionModel,
    "yolov9t": DetectionModel,
    "yolov8n-pose": PoseModel,
    "yolov8n-seg": SegmentationModel,
}


class _Inputs(nn.Module):
    def forward(self, maps: list) -> list:
        return maps


def _backbone_and_neck(name: str) -> nn.Module:
    model = DetectionModel(f"{name}.yaml", verbose=False)
    inputs = _Inputs()
    inputs.i, inputs.f, inputs.type = model.model[-1].i, model.model[-1].f, "inputs"
    model.model[-1] = inputs
    return model


NETWORKS = {
    f"ultralytics/{name}.yaml": Network(lambda name=name, kind=kind: kind(f"{name}.yaml", verbose=False))
    for name, kind in MODELS.items()
}
NETWORKS |= {
    f"ultralytics/{name}.yaml-backbone+neck": Network(lambda name=name: _backbone_and_neck(name))
    for name in ("yolov3-tiny", "yolov5n", "yolov8n", "yolov9t")
}
