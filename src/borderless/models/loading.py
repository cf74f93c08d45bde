"""`load`: any network by name, with random weights, a library's weights, or weights from a file."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from borderless.errors import UnknownName, WeightMismatch, WeightsUnavailable
from borderless.models import packaged
from borderless.models.catalogue import BUILDERS, TORCHVISION_TWINS, names
from borderless.models.checkpoint import SUFFIXES, fill_, read_weights
from borderless.models.choices import ARCHITECTURE
from borderless.runtime.did_you_mean import unknown


def load(name: str, weights: str | os.PathLike[str] | None = None, **options: Any) -> nn.Module:
    """Return a network by name, in eval mode (call `.train()` to train it), on the CPU.

    Args:
        name: One of `borderless.models.names()`, `torchvision/NAME`, `timm/NAME`, or NAME alone, which is looked up in
            torchvision first.
        weights: None: random, from PyTorch's generator. A path: a string that ends in .pt, .pth, .tar or .safetensors
            or has a folder in it, or a `pathlib.Path`; the file holds a state dict, alone or in a dict under
            `state_dict` or `model`, and no code in it is run. "default" or a name such as "IMAGENET1K_V1":
            torchvision's, downloaded. "pretrained" or a tag such as "a1_in1k": timm's, downloaded. "packaged": those of
            an installed package; only for tf_efficientnet_lite0, see `borderless.models.packaged`.
        **options: Options of the network's builder, `num_classes=10`, for instance.

    Raises:
        UnknownName: There is no such network, library or weights.
        CheckpointError: A file is missing, damaged, or holds more than tensors.
        WeightMismatch: Entries are missing, too many, or of another shape.
        WeightsUnavailable: A download failed.
        MissingPackage: A package is needed and not installed.

    Example:
        >>> import torch
        >>> load("fconv_hardnet")(torch.zeros(1, 1, 32, 32)).shape
        torch.Size([1, 6272])
    """
    library, short = resolve(name)
    if weights is None:
        return _random(library, short, options).eval()
    if _is_path(weights):
        path = Path(weights)
        entries = read_weights(path)  # before the network is built: a wrong path is told at once
        model = _random(library, short, options)
        fill_(model, entries, name, path)
        return model.eval()
    if not isinstance(weights, str):
        raise UnknownName(
            f"Expected weights to be None, a name, or a path but got {weights!r}; see borderless.models.load"
        )
    if weights == "packaged":
        return _packaged(name, short, options)
    if library == "torchvision":
        return _torchvision_weights(name, short, weights, options).eval()
    if library == "timm":
        return _timm_weights(name, short, weights, options).eval()
    raise UnknownName(
        f"Expected random weights or a file for {name}, which has none to download, but got weights={weights!r}; leave "
        f"weights out, or give the path of a {', '.join(SUFFIXES)} file"
    )


def resolve(name: str) -> tuple[str, str]:
    """Return the source of the network ("borderless", "torchvision" or "timm"), and its name there.

    >>> resolve("timm/resnet18"), resolve("resnet18"), resolve("fconv_resnet18")
    (('timm', 'resnet18'), ('torchvision', 'resnet18'), ('borderless', 'fconv_resnet18'))

    Raises:
        UnknownName: There is none; the text has suggestions.
    """
    if name in BUILDERS:
        return "borderless", name
    if name in TORCHVISION_TWINS:
        return "torchvision", TORCHVISION_TWINS[name]
    import timm  # seconds to import: only who asks for a library's network pays
    import torchvision

    library, _, short = name.rpartition("/")
    known: dict[str, Sequence[str]] = {
        "torchvision": [
            *torchvision.models.list_models(module=torchvision.models),
            *torchvision.models.list_models(module=torchvision.models.segmentation),
        ],
        "timm": timm.list_models(),
    }
    if library not in ("", *known):
        raise UnknownName(unknown("library", library, list(known), "write torchvision/NAME, timm/NAME or only NAME"))
    asked = {place: listed for place, listed in known.items() if library in ("", place)}
    for place, listed in asked.items():
        if short in listed:
            return place, short
    others = {other for listed in asked.values() for other in listed}.union(() if library else names())
    text = "names are those of torchvision, of timm, and of borderless.models.names()"
    raise UnknownName(unknown("network", name, sorted(others), text, typed=short))


def _random(library: str, short: str, options: dict[str, Any]) -> nn.Module:
    if library == "borderless":
        return BUILDERS[short](**options)
    if library == "timm":
        import timm

        return timm.create_model(short, pretrained=False, **options)
    import torchvision

    if short in ("googlenet", "inception_v3"):
        # They would warn about a slow initialization that random weights do not need.
        options = {"init_weights": False, **options}
    if short in torchvision.models.list_models(module=torchvision.models.segmentation):
        options = {"weights_backbone": None, **options}  # which it would download
    return torchvision.models.get_model(short, weights=None, **options)


def _is_path(weights: str | os.PathLike[str]) -> bool:
    if not isinstance(weights, str):
        return isinstance(weights, os.PathLike)
    return weights.endswith(SUFFIXES) or os.sep in weights or "/" in weights


def _packaged(name: str, short: str, options: dict[str, Any]) -> nn.Module:
    if short != ARCHITECTURE:
        raise UnknownName(
            f"Expected {ARCHITECTURE}, the only network with weights in a package, but got weights='packaged' for "
            f"{name}; leave weights out, or give a path"
        )
    if options:
        raise WeightMismatch(
            f"Expected no options with weights='packaged', which need {name} as it is, but got {', '.join(options)}; "
            "leave them out"
        )
    return packaged.load_packaged()


def _torchvision_weights(name: str, short: str, weights: str, options: dict[str, Any]) -> nn.Module:
    import torchvision

    known = torchvision.models.get_model_weights(short)
    if weights.upper() not in known.__members__:
        raise UnknownName(_unknown_weights(name, weights, ["default", *(member.name for member in known)]))
    try:
        return torchvision.models.get_model(short, weights=known[weights.upper()], **options)
    except OSError as error:
        raise _unavailable(name, weights, error) from error


def _timm_weights(name: str, short: str, weights: str, options: dict[str, Any]) -> nn.Module:
    import timm

    tagged = f"{short}.{weights}"
    known = timm.list_models(short, pretrained=True)
    if not known or (weights != "pretrained" and tagged not in known):
        tags = [other.removeprefix(f"{short}.") for other in known if other != short]
        raise UnknownName(_unknown_weights(name, weights, ["pretrained", *tags] if known else []))
    try:
        return timm.create_model(short if weights == "pretrained" else tagged, pretrained=True, **options)
    except OSError as error:
        raise _unavailable(name, weights, error) from error


def _unknown_weights(name: str, weights: str, known: Sequence[str]) -> str:
    listed = f"its weights are {', '.join(known)}" if known else "it has none to download"
    return (
        f"Expected existing weights but got {weights!r} for {name}; {listed}; choose one, or give a path with a folder "
        "or a suffix in it"
    )


def _unavailable(name: str, weights: str, error: OSError) -> WeightsUnavailable:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return WeightsUnavailable(
        f"Expected a network connection, once, for the weights {weights!r} of {name} but got a failed download "
        f"({reason}); without one, download the file elsewhere and give its path instead, or take {ARCHITECTURE}, "
        "whose weights come in a package"
    )
