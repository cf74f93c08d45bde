"""The paper's networks by name: an arm of the comparison, then a network.

The arms are `sconv` (same convolution, the ordinary network), `fconv` (full convolution, as published) and, for BagNet,
`vconv` (no padding, the published BagNet, also available without a prefix). A suffix names what else differs:
`fconv_hardnet_128` has a descriptor of the size of `sconv_hardnet`'s, `fconv_resnet3d18_temporal` pads time as well.
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from borderless.models.bagnet import STAGES_WITH_3X3, Arm, BagNet
from borderless.models.hardnet import HardNet
from borderless.models.resnet import RESNETS, fconv_resnet
from borderless.models.resnet3d import DEPTHS, fconv_resnet3d, sconv_resnet3d
from borderless.models.vgg import VGGS, fconv_vgg

# These are torchvision's networks under the name that stands beside their F-Conv twin's.
TORCHVISION_TWINS = {f"sconv_{name}": name for name in (*RESNETS, *VGGS)}

_ARMS: dict[str, Arm] = {"vconv": "valid", "sconv": "same", "fconv": "full"}

BUILDERS: dict[str, Callable[..., nn.Module]] = {
    **{f"fconv_{name}": partial(fconv_resnet, name) for name in RESNETS},
    **{f"fconv_{name}": partial(fconv_vgg, name) for name in VGGS},
    "sconv_hardnet": partial(HardNet, padding=1),
    "fconv_hardnet": partial(HardNet, padding=2),
    "fconv_hardnet_128": partial(HardNet, padding=2, last_kernel=14),
    **{f"sconv_resnet3d{depth}": partial(sconv_resnet3d, depth) for depth in DEPTHS},
    **{f"fconv_resnet3d{depth}": partial(fconv_resnet3d, depth) for depth in DEPTHS},
    **{f"fconv_resnet3d{depth}_temporal": partial(fconv_resnet3d, depth, temporal=True) for depth in DEPTHS},
    **{f"bagnet{px}": partial(BagNet, px) for px in STAGES_WITH_3X3},
    **{f"{arm}_bagnet{px}": partial(BagNet, px, _ARMS[arm]) for arm in _ARMS for px in STAGES_WITH_3X3},
}


def names() -> tuple[str, ...]:
    """Return the networks of the paper that `load` builds, in alphabetical order.

    >>> [name for name in names() if "hardnet" in name]
    ['fconv_hardnet', 'fconv_hardnet_128', 'sconv_hardnet']
    """
    return tuple(sorted((*BUILDERS, *TORCHVISION_TWINS)))
