"""A converted model as an ONNX file, checked against the model before it is handed over. Needs the extra `export`."""

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from borderless.conversion import conversion_of
from borderless.engine.image_arguments import with_image
from borderless.engine.torch_internals import tree_leaves, tree_map
from borderless.errors import ConversionError, MissingPackage
from borderless.export.dynamic_sizes import AXES, freeze_sizes
from borderless.export.exported_program import checked_example, freeze, has_batch
from borderless.runtime.evaluation import evaluating

TOLERANCE = 1e-4  # of the largest number in the model's output


@overload
def save_onnx(
    model: nn.Module,
    example: Tensor,
    path: str | Path,
    *,
    dynamic: Sequence[str] = ...,
    sizes: None = None,
    args: tuple[Any, ...] = ...,
    kwargs: dict[str, Any] | None = ...,
) -> Path: ...
@overload
def save_onnx(
    model: nn.Module,
    example: Tensor,
    path: str | Path,
    *,
    dynamic: Sequence[str] = ...,
    sizes: Sequence[Sequence[int]],
    args: tuple[Any, ...] = ...,
    kwargs: dict[str, Any] | None = ...,
) -> list[Path]: ...
def save_onnx(
    model: nn.Module,
    example: Tensor,
    path: str | Path,
    *,
    dynamic: Sequence[str] = ("batch",),
    sizes: Sequence[Sequence[int]] | None = None,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
) -> Path | list[Path]:
    """Write a converted `model`, in eval mode, as ONNX to `path`, for images of the size of `example`.

    Height and width are fixed by the example unless `dynamic` names them. Then the file computes with the size of its
    images, where border and phase allow it: under `zero` as a rule, under `circular` and `valid` for multiples of the
    total stride, which the names of the file's dimensions say ("8*s14"). onnxruntime runs the file on the
    example, on its first image alone and on another size; it replaces `path` only if its outputs equal the model's
    within 1e-4 of the largest number.

    Args:
        model: A converted model.
        example: Images ``(N, C, *space)``.
        path: The file to write.
        dynamic: The dimensions of images that may change, of "batch", "height" and "width".
        sizes: (height, width) of images; one file is written for each, named NAME-HEIGHTxWIDTH. None: that of the
            example.
        args: Further positional arguments of the model, as for `freeze`; their tensors are inputs of the file, anything
            else is a constant in it.
        kwargs: Keyword arguments of the model, likewise.

    Returns:
        `path`; with `sizes` the paths of the files.

    Raises:
        ConversionError: The model is not converted, the outputs differ, or the program of another size is another one.
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
    example = checked_example(example, "batch" in dynamic, bool(args or kwargs))
    path = Path(path)
    if path.is_dir() or not path.parent.is_dir():
        raise ConversionError(f"Expected the name of a file in a folder that exists but got {path}.")
    is_sized = _check_dynamic(model, example, dynamic, sizes, args, kwargs)
    if sizes is not None:
        scaled = [(tuple(size), F.interpolate(example, tuple(size))) for size in sizes]
        return [
            save_onnx(model, images, path.with_stem(f"{path.stem}-{h}x{w}"), dynamic=dynamic, args=args, kwargs=kwargs)
            for (h, w), images in scaled
        ]
    others = []
    if is_sized:
        program, multiple = freeze_sizes(model, example, dynamic)
        more = {name: (0, multiple * (2 if name == "width" else 1)) for name in dynamic}
        others = [F.pad(example, (*more.get("width", (0, 0)), *more.get("height", (0, 0))), mode="replicate")]
    else:
        program = freeze(model, example, dynamic_batch="batch" in dynamic, args=args, kwargs=kwargs)
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
        if "batch" in dynamic:
            _check(model, tree_map(lambda leaf: leaf[:1] if has_batch(leaf, len(example)) else leaf, given), session)
        for images in others:
            _check(model, ((images,), {}), session)
        draft.replace(path)
    return path


def _check_dynamic(
    model: nn.Module,
    example: Tensor,
    dynamic: Sequence[str],
    sizes: Sequence[Sequence[int]] | None,
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None,
) -> bool:
    """Return whether height or width may change."""
    unknown = [name for name in dynamic if name not in AXES]
    if unknown or isinstance(dynamic, str):
        raise ConversionError(f"Expected dynamic to name some of {', '.join(AXES)} but got {dynamic!r}.")
    if sizes is not None and (not sizes or any(len(size) != 2 or min(size) < 1 for size in sizes)):
        raise ConversionError(f"Expected sizes as [(height, width), …], at least one, but got {sizes!r}.")
    is_sized = "height" in dynamic or "width" in dynamic
    conversion = conversion_of(model)
    if not is_sized or conversion is None:  # `freeze` refuses a model that is not converted
        return is_sized and conversion is not None
    if sizes is not None:
        raise ConversionError(
            f"Expected sizes for files of fixed height and width but got dynamic={tuple(dynamic)} too; leave one out."
        )
    if example.ndim != 4 or args or kwargs or conversion.images is not None:
        raise ConversionError(
            "Expected a model that takes images (N, C, H, W) alone, for a file of many sizes, but got other arguments; "
            "write one file a size with sizes=[(height, width), …]."
        )
    if conversion.border.is_adaptive:
        raise ConversionError(
            f"Expected a fixed phase for a file of many sizes but got {conversion.border!r}, whose choice depends on "
            "the size; write one file a size with sizes=[(height, width), …], or convert with phase='fixed'."
        )
    return True


def _check(model: nn.Module, given: tuple[tuple[Any, ...], dict[str, Any]], session: Any) -> None:
    args, kwargs = given
    with evaluating(model):
        outputs = model(*args, **kwargs)
    expected = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]
    tensors = [leaf.detach().cpu().numpy() for leaf in tree_leaves(given) if isinstance(leaf, Tensor)]
    got = session.run(None, {put.name: tensor for put, tensor in zip(session.get_inputs(), tensors, strict=True)})
    for ours, theirs in zip(expected, got, strict=True):
        difference = (ours.cpu() - torch.from_numpy(theirs)).abs().max() / ours.abs().max().cpu()
        if not difference <= TOLERANCE:
            raise ConversionError(
                f"Expected the ONNX program to equal {type(model).__name__} within {TOLERANCE:.0e} of the largest "
                f"number but got a difference of {difference:.1e} for {len(tensors[0])} images; nothing was written."
            )
