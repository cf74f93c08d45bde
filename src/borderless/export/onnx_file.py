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

    Height and width are fixed by the example: another size needs another file. onnxruntime runs the file on the
    example, and on its first image alone; it replaces `path` only if its outputs equal the model's within 1e-4 of the
    largest number.

    Args:
        model: A converted model.
        example: Images ``(N, C, *space)``.
        path: The file to write.
        dynamic_batch: Whether the file takes batches of any size; the example then holds two images or more.
        args: Further positional arguments of the model, as for `freeze`; their tensors are inputs of the file, anything
            else is a constant in it.
        kwargs: Keyword arguments of the model, likewise.

    Returns:
        `path`.

    Raises:
        ConversionError: The model is not converted, or the outputs differ.
        MissingPackage: The extra `export` is not installed.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  what torch.onnx writes with
    except ImportError as error:
        raise MissingPackage(
            f"Expected the packages that write and check ONNX files but got no {error.name}; install them with: pip "
            'install "borderless[export]"'
        ) from error
    path = Path(path)
    if path.is_dir() or not path.parent.is_dir():
        raise ConversionError(f"Expected the name of a file in a folder that exists but got {path}.")
    program = freeze(model, example, dynamic_batch=dynamic_batch, args=args, kwargs=kwargs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch and its ONNX writer warn about themselves
        written = torch.onnx.export(program, dynamo=True, verbose=False)
    if written is None:
        raise ConversionError(
            f"Expected an ONNX program but got none for {type(model).__name__} from torch.onnx.export."
        )
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
                f"Expected the ONNX program to equal {type(model).__name__} within {TOLERANCE:.0e} of the largest "
                f"number but got a difference of {difference:.1e} for {len(tensors[0])} images; nothing was written."
            )
