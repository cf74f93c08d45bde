"""HardNet, a descriptor of gray patches, with same and with full convolution.

Six 3×3 convolutions, two of them of stride 2, then one 8×8 convolution without padding; no biases, BatchNorm without
scale. Each patch is normalized by its own mean and deviation, each descriptor to length 1. With same convolution the
8×8 kernel covers the whole map of a 32 px patch and the descriptor has 128 numbers. As published, F-Conv only pads the
3×3 convolutions by 2: the map has 14×14 cells, the 8×8 kernel fits 7×7 times, and the descriptor has 6,272 numbers. To
compare at equal size, `last_kernel=14` covers the F-Conv map once, with 3 times the weights in that layer.

Mishchuk et al., "Working hard to know your neighbor's margins", NeurIPS 2017, https://arxiv.org/abs/1705.10872, and
Kayhan and van Gemert, CVPR 2020, https://arxiv.org/abs/2003.07064. Legend: n × 1 × 32 × 32 in, n × numbers out.
"""

import torch
from torch import Tensor, nn

# Output channels and stride of the 3×3 convolutions.
_LAYERS = ((32, 1), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1))

_PATCH_EPS = 1e-7
_LENGTH_EPS = 1e-10


class HardNet(nn.Module):
    """Descriptors n × (128 · cells) of length 1 from patches n × 1 × height × width.

    Attributes:
        cells: Number of positions at which the last kernel fits into the map: 1 for patches of 32 px and (padding,
            last_kernel) = (1, 8) or (2, 14), and 49 for (2, 8).
    """

    def __init__(self, padding: int = 1, last_kernel: int = 8) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for width, stride in _LAYERS:
            layers += [
                nn.Conv2d(channels, width, 3, stride=stride, padding=padding, bias=False),
                nn.BatchNorm2d(width, affine=False),
                nn.ReLU(),
            ]
            channels = width
        layers += [
            nn.Dropout(0.3),
            nn.Conv2d(channels, 128, last_kernel, bias=False),
            nn.BatchNorm2d(128, affine=False),
        ]
        self.features = nn.Sequential(*layers)
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.orthogonal_(module.weight, gain=0.6)

    def forward(self, patches: Tensor) -> Tensor:
        """Return descriptors of unit length (N, 128) of patches (N, channels, 32, 32)."""
        deviation, mean = torch.std_mean(patches.detach(), dim=(1, 2, 3), keepdim=True)
        descriptors = self.features((patches - mean) / (deviation + _PATCH_EPS)).flatten(1)
        return descriptors / (descriptors.square().sum(1, keepdim=True) + _LENGTH_EPS).sqrt()
