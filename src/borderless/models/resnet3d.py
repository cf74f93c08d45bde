"""3D ResNets for clips: torchvision's ResNet with every layer inflated by a time axis, and their F-Conv versions.

The names of the state dict are those of Hara's 3D-ResNets-PyTorch (shortcut type B), which the paper trained: the 2-D
ones. `spatial` F-Conv pads height and width by kernel - 1 and leaves time as it was; `temporal` F-Conv pads all three.
The 3D max pool stays as it is, with kernel 3, stride 2, padding 1.

Hara et al., "Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet?", CVPR 2018,
https://arxiv.org/abs/1711.09577, and Kayhan and van Gemert, CVPR 2020, https://arxiv.org/abs/2003.07064, with the code
of both. Legend: n × 3 × frames × height × width in, n × classes out; made for 16 frames of 112 × 112 px.
"""

from typing import TYPE_CHECKING

from torch import nn

from borderless.models.resnet import pad_fully_

if TYPE_CHECKING:
    from torchvision.models import ResNet

DEPTHS = (18, 34, 50)

# (frames, height, width). The published temporal network halves the frames in its stem as well: it differs from the
# spatial one in more than its borders, and `stem_stride` separates the two.
STEM_STRIDE = (1, 2, 2)
TEMPORAL_STEM_STRIDE = (2, 2, 2)


def sconv_resnet3d(depth: int, *, num_classes: int = 400, stem_stride: tuple[int, int, int] = STEM_STRIDE) -> "ResNet":
    """Return a 3D ResNet with same convolution, `depth` 18, 34 or 50.

    Clips n × 3 × frames × height × width give logits. It averages the last map as a whole, as the F-Conv code does. The
    S-Conv code averages windows of 1 × 4 × 4 cells: the same for clips of 16 frames of 112 px.
    """
    import torchvision  # seconds to import: only who builds the network pays

    model = getattr(torchvision.models, f"resnet{depth}")(weights=None, num_classes=num_classes)
    _inflate_(model)
    model.conv1.stride = stem_stride
    model.maxpool = nn.MaxPool3d(kernel_size=3, stride=2, padding=1)
    model.avgpool = nn.AdaptiveAvgPool3d(1)
    return model


def fconv_resnet3d(
    depth: int,
    *,
    temporal: bool = False,
    num_classes: int = 400,
    stem_stride: tuple[int, int, int] | None = None,
) -> "ResNet":
    """Return a 3D ResNet with full convolution over space, or with `temporal=True` over space and time.

    Clips n × 3 × frames × height × width give logits. stem_stride: by default as published, `TEMPORAL_STEM_STRIDE`
    with `temporal=True`, else `STEM_STRIDE`.
    """
    stride = stem_stride or (TEMPORAL_STEM_STRIDE if temporal else STEM_STRIDE)
    model = sconv_resnet3d(depth, num_classes=num_classes, stem_stride=stride)
    pad_fully_(model, time=temporal)
    return model


def _inflate_(module: nn.Module) -> None:
    """Give each 2-D convolution and BatchNorm a third axis, of the same kernel, stride and padding, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d):
            (kernel, _), (stride, _), (padding, _) = child.kernel_size, child.stride, child.padding
            conv = nn.Conv3d(child.in_channels, child.out_channels, kernel, stride=stride, padding=padding, bias=False)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            setattr(module, name, conv)
        elif isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.BatchNorm3d(child.num_features))
        else:
            _inflate_(child)
