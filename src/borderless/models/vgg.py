"""The paper's VGGs: torchvision's, with full instead of same convolution.

Every 3×3 convolution pads 2 pixels; all else, with the state dict's names, is torchvision's. The adaptive average pool
to 7×7 cells before the classifier stays, so these networks still read absolute position, coarsely.

Kayhan and van Gemert, CVPR 2020, https://arxiv.org/abs/2003.07064, and their code. Legend: n × 3 × height × width in,
n × classes out.
"""

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torchvision.models import VGG

VGGS = tuple(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn"))


def fconv_vgg(name: str, *, num_classes: int = 1000, init_weights: bool = True, dropout: float = 0.5) -> "VGG":
    """Return an F-Conv VGG: `name` is one of `VGGS`; the options are torchvision's.

    Images n × 3 × height × width give logits n × num_classes.
    """
    import torchvision  # seconds to import: only who builds the network pays

    build = getattr(torchvision.models, name)
    model: VGG = build(weights=None, num_classes=num_classes, init_weights=init_weights, dropout=dropout)
    for module in model.features.children():
        if isinstance(module, nn.Conv2d):
            module.padding = (2, 2)
    return model
