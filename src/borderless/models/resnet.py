"""The paper's 2-D ResNets: torchvision's, with full instead of same convolution.

F-Conv pads each convolution with kernel - 1 zeros, so both branches of a block must grow alike: two 3×3 convolutions
grow a map by 2 pixels a side, and the shortcut is zero-padded as much. Only paddings differ from torchvision's network,
and its state dicts load. The network with same convolution is torchvision's own.

Kayhan and van Gemert, CVPR 2020, https://arxiv.org/abs/2003.07064, and their code. Legend: n × 3 × height × width in,
n × classes out; maps of the four stages at 224 px: 65, 40, 27, 21 px (ResNet-18); 63, 39, 31, 21 px (ResNet-50).
"""

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torchvision.models import ResNet

RESNETS = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "wide_resnet50_2",
    "wide_resnet101_2",
)

# Zeros on each side of a block's shortcut that make its two branches agree. A basic block grows its input by 1 pixel a
# side in each of its two 3×3 convolutions. Where the first has stride 2, the input is padded before it is subsampled.
_BASIC_IDENTITY, _BASIC_STRIDED, _BOTTLENECK = 2, 3, 1


def fconv_resnet(name: str, *, num_classes: int = 1000, zero_init_residual: bool = False) -> "ResNet":
    """Return an F-Conv ResNet, ResNeXt or wide ResNet: `name` is one of `RESNETS`; the options are torchvision's.

    Images n × 3 × height × width give logits n × num_classes. The stem's max pool has kernel 2, stride 2, no padding.
    """
    import torchvision  # seconds to import: only who builds the network pays

    build = getattr(torchvision.models, name)
    model: ResNet = build(weights=None, num_classes=num_classes, zero_init_residual=zero_init_residual)
    pad_fully_(model)
    model.maxpool = nn.MaxPool2d(kernel_size=2, stride=2)
    return model


def pad_fully_(model: "ResNet", *, time: bool = False) -> None:
    """Turn same convolution over height and width into full convolution, in place; with `time`, over frames as well.

    `model` is a ResNet of torchvision, or one whose layers were inflated to three axes (frames, height, width).
    """
    from torchvision.models.resnet import BasicBlock, Bottleneck

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            kernel = module.kernel_size[0]
            _pad_(module, space=kernel - 1, time=kernel - 1 if time else kernel // 2)
    for block in list(model.modules()):
        if not isinstance(block, BasicBlock | Bottleneck):
            continue
        basic = isinstance(block, BasicBlock)
        if block.downsample is None:  # what stands here instead has no parameters: the state dict gets no new names
            pad = _BASIC_IDENTITY if basic else _BOTTLENECK
            frames = pad if time else 0
            if isinstance(block.conv1, nn.Conv3d):
                block.downsample = nn.ZeroPad3d((pad, pad, pad, pad, frames, frames))  # from the last axis to the first
            else:
                block.downsample = nn.ZeroPad2d(pad)
        else:
            pad = _BASIC_STRIDED if basic else _BOTTLENECK
            _pad_(block.downsample.get_submodule("0"), space=pad, time=pad if time else 0)


def _pad_(conv: nn.Module, *, space: int, time: int) -> None:
    if isinstance(conv, nn.Conv3d):
        conv.padding = (time, space, space)
    else:
        assert isinstance(conv, nn.Conv2d)
        conv.padding = (space, space)
