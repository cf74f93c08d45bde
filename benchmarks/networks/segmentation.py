"""segmentation_models_pytorch."""

import segmentation_models_pytorch as smp
from torch import nn

from benchmarks.networks import Network


def _unet(kind: str, encoder: str = "resnet18", **options: object) -> nn.Module:
    return getattr(smp, kind)(encoder, encoder_weights=None, classes=2, **options)


NETWORKS = {
    f"smp/{kind}-resnet18": Network(lambda kind=kind: _unet(kind))
    for kind in (
        "DeepLabV3Plus",
        "FPN",
        "Linknet",
        "MAnet",
        "PSPNet",
        "Segformer",
        "UPerNet",
        "Unet",
        "UnetPlusPlus",
    )
}
NETWORKS |= {
    "smp/Unet-aux-classes": Network(lambda: _unet("Unet", aux_params={"classes": 4})),
    "smp/Unet-efficientnet-b0": Network(lambda: _unet("Unet", "efficientnet-b0"), (3, 128, 128)),
    "smp/Unet-mit_b0": Network(lambda: _unet("Unet", "mit_b0")),
    "smp/Unet-tu-convnext": Network(lambda: _unet("Unet", "tu-convnext_atto")),
}
