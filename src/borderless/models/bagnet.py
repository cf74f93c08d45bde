"""BagNet: a ResNet-50 whose output cells see patches of 9, 17 or 33 px, as published and with other borders.

All convolutions are 1×1 but one 3×3 in the stem and one in the first block of the first 2, 3 or 4 stages. As published
(V-Conv) the 3×3 do not pad, and the shortcut drops its last rows and columns to fit: cell j of a block adds what
its window starts with. With same convolution (S-Conv) and full convolution (F-Conv, shortcut padded by 1 pixel as in
the paper's bottleneck) it adds the window's center. State dicts have the names of the `bagnets` package in all three;
weights trained with one border make another function under the next, even far from the edge.

Brendel and Bethge, "Approximating CNNs with Bag-of-local-Features models works surprisingly well on ImageNet", ICLR
2019, https://arxiv.org/abs/1904.00760, and their code. Legend: n × 3 × height × width in, n × classes out.
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

Arm = Literal["valid", "same", "full"]

# How many stages begin with a 3×3 convolution, for each patch size in pixels.
STAGES_WITH_3X3 = {9: 2, 17: 3, 33: 4}

# Zeros on each side of a 3×3 convolution.
_PADDING: dict[Arm, int] = {"valid": 0, "same": 1, "full": 2}

# Channels between the 1×1 convolutions, blocks, and stride of the four stages.
_STAGES = ((64, 3, 2), (128, 4, 2), (256, 6, 2), (512, 3, 1))
_EXPANSION = 4


class BagNet(nn.Module):
    """Logits n × num_classes: the average over patches of `patch_px` (9, 17 or 33) pixels, every 8 pixels.

    arm: how the 3×3 convolutions end at the edge; "valid" is the published network and takes images of `patch_px` and
    more.
    """

    def __init__(self, patch_px: int = 33, arm: Arm = "valid", *, num_classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 1, bias=False)
        self.conv2 = nn.Conv2d(64, 64, 3, padding=_PADDING[arm], bias=False)
        self.bn1 = nn.BatchNorm2d(64, momentum=0.001)
        channels = 64
        for index, (width, depth, stride) in enumerate(_STAGES):
            stage: list[nn.Module] = []
            for block in range(depth):
                kernel = 3 if block == 0 and index < STAGES_WITH_3X3[patch_px] else 1
                stage.append(_Block(channels, width, kernel, stride if block == 0 else 1, arm))
                channels = width * _EXPANSION
            self.add_module(f"layer{index + 1}", nn.Sequential(*stage))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes) of images (N, 3, height, width)."""
        maps = F.relu(self.bn1(self.conv2(self.conv1(images))), inplace=True)
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            maps = self.get_submodule(stage)(maps)
        return self.fc(self.avgpool(maps).flatten(1))


class _Block(nn.Module):
    def __init__(self, channels: int, width: int, kernel: int, stride: int, arm: Arm) -> None:
        super().__init__()
        out = width * _EXPANSION
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(
            width, width, kernel, stride=stride, padding=_PADDING[arm] if kernel == 3 else 0, bias=False
        )
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))
        self.shortcut_grows = arm == "full" and kernel == 3

    def forward(self, maps: Tensor) -> Tensor:
        branch = F.relu(self.bn1(self.conv1(maps)), inplace=True)
        branch = F.relu(self.bn2(self.conv2(branch)), inplace=True)
        branch = self.bn3(self.conv3(branch))
        shortcut = F.pad(maps, (1, 1, 1, 1)) if self.shortcut_grows else maps
        if self.downsample is not None:
            shortcut = self.downsample(shortcut)
        branch += shortcut[:, :, : branch.shape[2], : branch.shape[3]]
        return F.relu(branch, inplace=True)
