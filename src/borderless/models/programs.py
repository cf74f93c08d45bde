"""Networks from files that hold programs: TorchScript, programs of torch.export, and ONNX.

Such a file is a program that runs when the network does, with the operations of PyTorch or ONNX alone. Nothing else in
it is executed: a file whose tensors are pickled Python objects, or that brings compiled code, is refused.
"""

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from borderless.errors import CheckpointError, MissingPackage
from borderless.measures.programs import Program

SUFFIXES = (".pt2", ".onnx")


def is_program_file(path: Path) -> bool:
    """Return whether a file holds a program that `load_program` reads."""
    return path.suffix.lower() in SUFFIXES or any("/code/" in name for name in _entries(path))


def load_program(path: Path | str) -> Program:
    """Return the program in a file, as a network that can be run and not looked into.

    Args:
        path: TorchScript (torch.jit.save), a program of torch.export.save (.pt2), or an ONNX file (.onnx). Each is a
            program: open only files that you would run.

    Raises:
        CheckpointError: It is no such file, cut short, or holds more than a program of PyTorch's operations.
        MissingPackage: ONNX without onnxruntime.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"Expected a file with a program at {path} but got none; check the path.")
    suffix = path.suffix.lower()
    load: Callable[[Path], Program] = {".onnx": _onnx, ".pt2": _exported}.get(suffix, _script)
    try:
        return load(path)
    except (CheckpointError, MissingPackage):
        raise
    except Exception as error:  # a damaged file can fail anywhere
        line = next(iter(str(error).splitlines()), "")
        raise CheckpointError(
            f"Expected a program in {path} but it cannot be read ({type(error).__name__}: {line}); save it again."
        ) from error


def _script(path: Path) -> Program:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch recommends torch.export
        return Program(torch.jit.load(path, map_location="cpu").eval(), "TorchScript")


def _exported(path: Path) -> Program:
    _check_pickles(path)
    found = torch.export.load(path)
    inputs = [node.meta["val"] for node in found.graph.nodes if node.name in found.graph_signature.user_inputs]
    if len(inputs) != 1 or not isinstance(inputs[0], Tensor) or inputs[0].ndim != 4:
        raise CheckpointError(
            f"Expected a program of one input (N, C, H, W) but got {path} with {len(inputs)} inputs; export a module "
            "that takes images alone."
        )
    shape = [n if isinstance(n, int) else None for n in inputs[0].shape]
    return Program(found.module(), "exported program", shape)


def _check_pickles(path: Path) -> None:
    """Refuse an archive with anything that loading would execute: torch.export.load unpickles whatever it finds."""
    entries = _entries(path)
    if not any(name.endswith("archive_format") for name in entries):
        raise CheckpointError(
            f"Expected a program of torch.export.save but got {path}, an archive of another or an older format; save "
            "it with PyTorch 2.8 or newer."
        )
    with zipfile.ZipFile(path) as archive:
        for name in entries:
            kind = ""
            if "aotinductor" in name:
                kind = "compiled code"
            elif name.endswith("_config.json") and "use_pickle" in (text := archive.read(name).decode()):
                content = json.loads(text).get("config", {})
                kind = "pickled objects" if any(one.get("use_pickle") for one in content.values()) else ""
            elif name.endswith((".pt", ".pkl")) and not _is_plain(archive.read(name)):
                kind = "pickled objects"
            if kind:
                raise CheckpointError(
                    f"Expected tensors and operations alone but got {path} with {kind} ({name}); not loaded, since "
                    "that could run code from the file: export a module without them."
                )


def _is_plain(content: bytes) -> bool:
    """Return whether what torch.save wrote holds tensors and plain containers alone."""
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception:  # a damaged file can fail anywhere
        return False
    return True


def _onnx(path: Path) -> Program:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackage(
            f"Expected the package onnxruntime, which runs {path}, but got none; install it with: pip install "
            '"borderless[export]"'
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in ("tensor(float)", "tensor(float16)"):
        listed = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
        raise CheckpointError(
            f"Expected a program of one input (N, C, H, W) of floats but got {path} with {listed}; export a module "
            "that takes images alone."
        )
    name, kind = inputs[0].name, torch.float16 if "16" in inputs[0].type else torch.float32

    def run(images: Tensor) -> Any:
        outputs = session.run(None, {name: images.detach().cpu().to(kind).contiguous().numpy()})
        found = [torch.as_tensor(one) for one in outputs]
        return found[0] if len(found) == 1 else tuple(found)

    return Program(run, "ONNX file", [n if isinstance(n, int) else None for n in inputs[0].shape])


def _entries(path: Path) -> list[str]:
    if not zipfile.is_zipfile(path):
        return []
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()
