"""Weights from a file into a network: everything fits or nothing is used, and no code in the file is run.

A file of `torch.save` may hold any Python object, and unpickling one runs its code. So only tensors and plain
containers are read (`weights_only=True`); anything else in a file is named and refused.
"""

import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from borderless.errors import CheckpointError, MissingPackage, WeightMismatch

SUFFIXES = (".pt", ".pth", ".safetensors", ".tar")

# Where training scripts keep the state dict among other things, and what DataParallel puts before each name.
_CONTAINERS = ("state_dict", "model")
_PARALLEL = "module."

_NEEDED = "save model.state_dict() where the file was made, alone or in a dict under 'state_dict' or 'model'"

# How many entries an error names.
_NAMED = 3


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """Return the state dict in the file at `path`, on the CPU: a plain one, or one under `state_dict` or `model`.

    A prefix `module.` that all names have is taken off. `.safetensors` is read by that package, anything else by
    `torch.load(weights_only=True)`.

    Raises:
        CheckpointError: There is no such file, it is a folder, cut short or no checkpoint, or holds more than tensors.
        MissingPackage: `.safetensors` without that package.
    """
    if path.is_dir():
        raise CheckpointError(f"Expected a file but got the folder {path}; give the path of a checkpoint in it")
    if not path.is_file():
        what = "is no ordinary file" if path.exists() else "does not exist"
        raise CheckpointError(
            f"Expected a {', '.join(SUFFIXES)} file but got {path}, which {what}; give the path of one"
        )
    content = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    for container in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(container), Mapping):
            content = content[container]
            break
    if not isinstance(content, Mapping) or not content:
        kind = "an empty dict" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise CheckpointError(f"Expected a state dict but got {path}, which holds {kind}; {_NEEDED}")
    strange = [str(name) for name, entry in content.items() if not (isinstance(name, str) and torch.is_tensor(entry))]
    if strange:
        raise CheckpointError(
            f"Expected a state dict but got {path} with {_counted(strange, 'other than tensors')}; {_NEEDED}"
        )
    odd = [name for name, entry in content.items() if entry.layout != torch.strided or entry.is_meta]
    if odd:
        raise CheckpointError(
            f"Expected dense tensors with values in {path} but got {_counted(odd, 'sparse or without values')}; save "
            "dense weights (tensor.to_dense())."
        )
    if all(name.startswith(_PARALLEL) for name in content):
        return {name.removeprefix(_PARALLEL): entry for name, entry in content.items()}
    return content  # as it was read: an OrderedDict of PyTorch knows the versions of the modules it came from


def fill_(model: nn.Module, weights: Mapping[str, Tensor], name: str, source: Path) -> None:
    """Load `weights`, read from `source`, into `model`, called `name` in errors, in place.

    Raises:
        WeightMismatch: Entries are missing, too many, or of another shape; the model is then unusable.
    """
    state = model.state_dict()
    reshaped = [
        f"{entry} {tuple(weights[entry].shape)} instead of {tuple(tensor.shape)}"
        for entry, tensor in state.items()
        if entry in weights and weights[entry].shape != tensor.shape
    ]
    complex_ones = [
        entry
        for entry, tensor in state.items()
        if entry in weights and weights[entry].is_complex() > tensor.is_complex()
    ]
    if complex_ones:
        raise WeightMismatch(
            f"Expected real weights for {name} but got {_counted(complex_ones, 'with complex numbers')} from {source}; "
            "their imaginary parts would be lost: use weights of that network."
        )
    if reshaped:
        missing, extra = [entry for entry in state if entry not in weights], [e for e in weights if e not in state]
    else:
        # PyTorch knows which entries old files lack by right, such as BatchNorm's count of batches.
        missing, extra = model.load_state_dict(weights, strict=False)
    faults = [
        _counted(entries, kind)
        for entries, kind in ((missing, "missing"), (extra, "too many"), (reshaped, "of another shape"))
        if entries
    ]
    if faults:
        raise WeightMismatch(
            f"Expected the {len(state)} entries of {name} but got weights from {source} with {'; '.join(faults)}; use "
            "weights of that network, or build it with the options they were made with (such as num_classes=)"
        )


def _pickled(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a pickle's protocol: what it holds is checked anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"Expected a state dict but got {path}, which holds {_objects(path)}; not loaded, since that could run "
            f"code from the file; {_NEEDED}"
        ) from error
    except Exception as error:  # a damaged file can fail anywhere: OSError, EOFError, KeyError, RuntimeError
        raise _damaged(path, error) from error


def _objects(path: Path) -> str:
    """Return what besides tensors is in the file, as far as it can be told without loading it."""
    try:
        found = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # only files in the zip format can be looked through
        found = []
    return f"Python objects ({_first(found)})" if found else "more than tensors"


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingPackage(
            f"Expected the package safetensors, which reads {path}, but got none; install it with: pip install "
            "safetensors"
        ) from error
    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    return CheckpointError(
        f"Expected a whole file of torch.save or safetensors but got {path}, which is cut short or no checkpoint "
        f"({reason}); copy or download it again"
    )


def _counted(entries: Sequence[str], kind: str) -> str:
    return f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'} {kind} ({_first(entries)})"


def _first(entries: Sequence[str]) -> str:
    return ", ".join([*entries[:_NAMED], *(["..."] if len(entries) > _NAMED else [])])
