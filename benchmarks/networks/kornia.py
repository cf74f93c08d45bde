"""kornia: filters, detectors and descriptors of local features."""

from typing import Any

import kornia
import torch
from torch import Tensor, nn

from benchmarks.networks import Network

GRAY, PATCH = (1, 64, 64), (1, 32, 32)


class Harris(nn.Module):
    """CornerHarris keeps its weight as a buffer; a layer before it makes the answer depend on weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 1, 3, padding=1)
        self.corners = kornia.feature.CornerHarris(torch.tensor([0.04]))

    def forward(self, images: Tensor) -> Tensor:
        return self.corners(self.first(images))


def _dictionary(images: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return ({"image0": images, "image1": images},), {}


NETWORKS = {
    "kornia/BlurPool2D": Network(lambda: kornia.filters.BlurPool2D(3), GRAY),
    "kornia/CornerHarris": Network(Harris, GRAY),
    "kornia/DISK-unet": Network(lambda: kornia.feature.DISK(), (3, 64, 64)),
    "kornia/DISK.unet": Network(lambda: kornia.feature.DISK().unet, (3, 64, 64)),
    "kornia/GaussianBlur2d": Network(lambda: kornia.filters.GaussianBlur2d((5, 5), (1.5, 1.5)), GRAY),
    "kornia/HardNet": Network(lambda: kornia.feature.HardNet(pretrained=False), PATCH),
    "kornia/HyNet": Network(lambda: kornia.feature.HyNet(pretrained=False), PATCH),
    "kornia/KeyNet": Network(lambda: kornia.feature.KeyNet(pretrained=False), GRAY),
    "kornia/Laplacian": Network(lambda: kornia.filters.Laplacian(5), GRAY),
    "kornia/LoFTR": Network(lambda: kornia.feature.LoFTR(pretrained=None), GRAY, _dictionary),
    "kornia/MaxBlurPool2D": Network(lambda: kornia.filters.MaxBlurPool2D(3), GRAY),
    "kornia/MedianBlur": Network(lambda: kornia.filters.MedianBlur((3, 3)), GRAY),
    "kornia/Sobel": Network(lambda: kornia.filters.Sobel(), GRAY),
    "kornia/SpatialSoftArgmax2d": Network(lambda: kornia.geometry.SpatialSoftArgmax2d(), GRAY),
    "kornia/TFeat": Network(lambda: kornia.feature.TFeat(pretrained=False), PATCH),
}
