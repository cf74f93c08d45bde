"""Networks of `quadrant`: any network, returning the features that it pools over space instead of classes."""

import copy
from pathlib import Path

from torch import nn

from borderless.errors import ConfigError
from borderless.models.choices import ARCHITECTURE, FeaturePool, Init
from borderless.models.loading import load, resolve
from borderless.runtime.evaluation import seeded


def feature_network(arch: str, init: Init, pool: FeaturePool, seed: int, weights: Path | None = None) -> nn.Module:
    """Return a network that returns pooled features (batch, features), in eval mode.

    Args:
        arch: Name, as for `load`.
        init: Kind of weights.
        pool: "own" keeps the network's, "max" takes the largest value over all of space; "paper" is "max" for ResNets
            and BagNets and "own" for all others. So the paper says; its code replaces a BagNet's pool where the network
            does not look, and averages: "own".
        seed: Seed of random weights.
        weights: A file for "pretrained"; None: the library's.

    Raises:
        ConfigError: The pool or the last linear layer cannot be found.
    """
    with seeded(seed):
        model = load(arch, weights=(weights or _weights(arch)) if init == "pretrained" else None)
    library, short = resolve(arch)
    is_max = pool == "max" or (pool == "paper" and short.startswith(("resnet", "bagnet")))
    if library == "timm":
        model.reset_classifier(0, *(["max"] if is_max else []))  # pyright: ignore[reportCallIssue]
        return model.eval()
    if is_max:
        _replace_last(model, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d(1), arch)
    _replace_last(model, nn.Linear, nn.Identity(), arch)
    return model.eval()


def as_published(model: nn.Module) -> nn.Module:
    """Return a copy of a feature network as the paper's code has it: the max pool of a ResNet has kernel 2."""
    model = copy.deepcopy(model)
    if isinstance(pool := getattr(model, "maxpool", None), nn.MaxPool2d):
        pool.kernel_size = 2
    return model


def first_padding_px(model: nn.Module) -> int:
    """Return how many zeros the first convolution of `model` adds on each side."""
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    return max(int(side) for side in first.padding)


def _weights(arch: str) -> str:
    if arch == ARCHITECTURE:
        return "packaged"
    library, _ = resolve(arch)
    return {"torchvision": "default", "timm": "pretrained"}.get(library, "default")


def _replace_last(model: nn.Module, kind: type[nn.Module], new: nn.Module, arch: str) -> None:
    name = next((n for n, module in reversed(list(model.named_modules())) if isinstance(module, kind)), None)
    if name is None:
        raise ConfigError(
            f"Expected a network that pools with {kind.__name__} and ends in a linear layer but got {arch}, which has "
            f"no {kind.__name__}; set pool='own' for its own pool."
        )
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, new)
