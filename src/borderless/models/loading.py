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

    >>> import torch
    >>> load("fconv_hardnet")(torch.zeros(1, 1, 32, 32)).shape
    torch.Size([1, 6272])

    name: one of `borderless.models.names()`, `torchvision/NAME`, `timm/NAME`, or NAME alone, for which torchvision is
    asked first. options go to the network's builder: `num_classes=10`, for instance.

    weights:
        None: random, from PyTorch's generator.
        A path: a string that ends in .pt, .pth, .tar or .safetensors or has a folder in it, or a `pathlib.Path`. The
        file holds a state dict, alone or in a dict under `state_dict` or `model`. No code in it is run.
        "default" or a name such as "IMAGENET1K_V1": torchvision's, downloaded.
        "pretrained" or a tag such as "a1_in1k": timm's, downloaded.
        "packaged": those of an installed package; only for tf_efficientnet_lite0, see `borderless.models.packaged`.

    Raises:
        UnknownName: no such network, library or weights.
        CheckpointError: a file that is missing, damaged, or holds more than tensors.
        WeightMismatch: entries that are missing, too many, or of another shape.
        WeightsUnavailable: a download that failed.
        MissingPackage: a package that is needed and not installed.
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
        raise UnknownName(f"got weights={weights!r}; needed: None, a name, or a path; see borderless.models.load")
    if weights == "packaged":
        return _packaged(name, short, options)
    if library == "torchvision":
        return _torchvision_weights(name, short, weights, options).eval()
    if library == "timm":
        return _timm_weights(name, short, weights, options).eval()
    raise UnknownName(
        f"got weights={weights!r} for {name}, which has none to download; "
        f"leave weights out, or give the path of a {', '.join(SUFFIXES)} file"
    )


def resolve(name: str) -> tuple[str, str]:
    """Where the network comes from ("borderless", "torchvision" or "timm"), and its name there.

    >>> resolve("timm/resnet18"), resolve("resnet18"), resolve("fconv_resnet18")
    (('timm', 'resnet18'), ('torchvision', 'resnet18'), ('borderless', 'fconv_resnet18'))

    Raises `UnknownName` with suggestions.
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
            f"got weights='packaged' for {name}; only {ARCHITECTURE} has weights in a package; "
            "leave weights out, or give a path"
        )
    if options:
        raise WeightMismatch(
            f"got weights='packaged' with {', '.join(options)}; these weights need {name} as it is; "
            "leave the options out"
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
    return f"got weights={weights!r} for {name}; {listed}; choose one, or give a path with a folder or a suffix in it"


def _unavailable(name: str, weights: str, error: OSError) -> WeightsUnavailable:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return WeightsUnavailable(
        f"got no weights {weights!r} for {name}: the download failed ({reason}); needed: a network connection, once; "
        "without one, download the file elsewhere and give its path instead, or take "
        f"{ARCHITECTURE}, whose weights come in a package"
    )
