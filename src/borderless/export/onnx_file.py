"""A converted model as an ONNX file, checked against the model before it is handed over. Needs the extra `export`."""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from borderless.conversion import conversion_of
from borderless.engine.image_arguments import with_image
from borderless.engine.torch_internals import tree_leaves, tree_map
from borderless.errors import ConversionError, MissingPackage
from borderless.export.exported_program import freeze, has_batch
from borderless.runtime.evaluation import evaluating

TOLERANCE = 1e-4  # of the largest number in the model's answer


def save_onnx(
    model: nn.Module,
    example: Tensor,
    path: str | Path,
    *,
    dynamic_batch: bool = True,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
) -> Path:
    """Write a converted `model`, in eval mode, as ONNX to `path`, for images of the size of `example`.

    With `dynamic_batch` (the default) the file takes batches of any size, and the example holds two images or more. The
    file is run by onnxruntime on the example, and on its first image alone, and replaces `path` only if it answers as
    the model does, within 1e-4 of the largest number. Returns the path. args, kwargs: as for `freeze`; their tensors
    are inputs of the file, anything else is written into it.

    Raises ConversionError if the model is not converted or the answers differ, MissingPackage without the extra.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  what torch.onnx writes with
    except ImportError as error:
        raise MissingPackage(
            f"got no package {error.name}, which writes and checks ONNX files; install it with: "
            'pip install "borderless[export]"'
        ) from error
    path = Path(path)
    if path.is_dir() or not path.parent.is_dir():
        raise ConversionError(f"got the path {path}; needed: the name of a file in a folder that exists")
    program = freeze(model, example, dynamic_batch=dynamic_batch, args=args, kwargs=kwargs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch and its ONNX writer warn about themselves
        written = torch.onnx.export(program, dynamo=True, verbose=False)
    if written is None:
        raise ConversionError(f"got no ONNX program for {type(model).__name__} from torch.onnx.export")
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        draft = Path(folder) / path.name
        written.save(draft, external_data=False)
        session = onnxruntime.InferenceSession(draft, providers=["CPUExecutionProvider"])
        conversion = conversion_of(model)
        assert conversion is not None  # freeze has asked
        given = with_image(model, conversion.images, example, args, kwargs or {})
        _check(model, given, session)
        if dynamic_batch:
            _check(model, tree_map(lambda leaf: leaf[:1] if has_batch(leaf, len(example)) else leaf, given), session)
        draft.replace(path)
    return path


def _check(model: nn.Module, given: tuple[tuple[Any, ...], dict[str, Any]], session: Any) -> None:
    args, kwargs = given
    with evaluating(model):
        answers = model(*args, **kwargs)
    expected = [leaf for leaf in tree_leaves(answers) if isinstance(leaf, Tensor)]
    tensors = [leaf.detach().cpu().numpy() for leaf in tree_leaves(given) if isinstance(leaf, Tensor)]
    got = session.run(None, {put.name: tensor for put, tensor in zip(session.get_inputs(), tensors, strict=True)})
    for ours, theirs in zip(expected, got, strict=True):
        difference = (ours.cpu() - torch.from_numpy(theirs)).abs().max() / ours.abs().max().cpu()
        if not difference <= TOLERANCE:
            raise ConversionError(
                f"got an ONNX program whose answer for {len(tensors[0])} images differs from {type(model).__name__}'s "
                f"by {difference:.1e} of the largest number; needed: {TOLERANCE:.0e}; nothing was written"
            )
