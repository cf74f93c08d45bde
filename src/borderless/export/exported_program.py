"""A converted model as a program of plain ATen operations, which runs where this library is not installed."""

import inspect
import operator
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule
from torch.overrides import TorchFunctionMode

from borderless.conversion import conversion_of, copied
from borderless.engine.image_arguments import with_image
from borderless.engine.inputs import arguments_named
from borderless.engine.naming import named
from borderless.engine.registry import find_rule
from borderless.engine.rules import casts, pointwise
from borderless.engine.rules.spread_maps import NOTE, constant_dims
from borderless.engine.signal import Signal
from borderless.engine.torch_internals import OpOverload, data_dependence_error, export_error, tree_map, version_of
from borderless.errors import ConversionError


def freeze(
    model: nn.Module,
    example: Tensor,
    *,
    dynamic_batch: bool = False,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
) -> ExportedProgram:
    """Export a converted `model`, in eval mode, as a program of plain ATen operations for images of `example`'s shape.

    The program computes what the model does, for any images of that size and batch, or of any batch with
    `dynamic_batch`; a sample's phase is a tensor in it, never a number of the example. Save it with
    `torch.export.save`, run it with `program.module()(images)`. The model is left as it is.

    Args:
        model: A converted model.
        example: Images ``(N, C, *space)``; the program takes this size only.
        dynamic_batch: Whether the program takes batches of any size; with further arguments, the example then holds two
            images or more.
        args: Further positional arguments of the model; with `dynamic_batch` tensors among them whose first dimension
            is the example's batch change their size with it.
        kwargs: Keyword arguments of the model, likewise.

    Raises:
        ConversionError: The model is not converted, takes other arguments or no batches of any size, has sizes that
            depend on values, or needs operations that are not ATen's.

    Example:
        >>> import torch, borderless as bl
        >>> model = bl.convert(torch.nn.Conv2d(1, 2, 3, padding=1), "infinite").eval()
        >>> bl.freeze(model, torch.zeros(1, 1, 8, 8)).module()(torch.zeros(1, 1, 8, 8)).shape
        torch.Size([1, 2, 8, 8])
    """
    if conversion_of(model) is None:
        raise ConversionError(
            f"Expected a converted model but got a {type(model).__name__} that is not converted; call "
            "bl.freeze(bl.convert(model, border), example)."
        )
    kwargs = kwargs or {}
    example = checked_example(example, dynamic_batch, bool(args or kwargs))
    frozen = copied(model).eval()
    kinds: set[str] = set()
    conversion = conversion_of(frozen)
    assert conversion is not None
    conversion.observer = lambda event: kinds.add(event.kind)
    call, options = with_image(model, conversion.images, example, args, kwargs)
    if isinstance(frozen, GraphModule):
        frozen = _Called(frozen)
    shapes = None
    if dynamic_batch:
        with arguments_named(model, args, kwargs, conversion.images):
            given = inspect.signature(frozen.forward).bind(*call, **options).arguments
        batch = Dim("batch", min=1)
        shapes = tree_map(lambda leaf: {0: batch} if has_batch(leaf, len(example)) else None, dict(given))
    try:
        with torch.no_grad(), arguments_named(model, args, kwargs, conversion.images), _Constants():
            program = torch.export.export(frozen, call, options, dynamic_shapes=shapes, strict=False)
        if "leaves" in kinds:  # what follows is not watched while a program is recorded
            with torch.no_grad():
                frozen(*call, **options)
    except data_dependence_error() as error:
        raise ConversionError(
            f"Expected sizes that follow from the shape of the images but got a {type(model).__name__} that computes a "
            "size or a branch from the values of a tensor (tensor.item(), tensor.tolist(), int(tensor)). Compute it "
            "from shapes alone, or write it into the model as a number"
        ) from error
    except export_error() as error:
        raise ConversionError(
            f"Expected a model that does not compute with its batch size but got a {type(model).__name__} that does, "
            f"so dynamic_batch=True cannot be kept: {str(error).splitlines()[0]}; freeze it for one batch size."
        ) from error
    foreign = sorted({str(node.target) for node in program.graph.nodes if not _is_plain(node)})
    if foreign:
        raise ConversionError(
            "Expected a model of plain torch functions but got operations that are not ATen's in the exported "
            f"{type(model).__name__}: {', '.join(foreign)}."
        )
    return program


def checked_example(example: Tensor, is_batch_free: bool, has_other_arguments: bool) -> Tensor:
    """Return the example, twice where its batch is one image and may change: PyTorch takes one for a constant.

    Raises:
        ConversionError: It is no tensor, or there are other arguments to go with one image.
    """
    if not isinstance(example, Tensor):
        raise ConversionError(f"Expected example images as the second argument but got a {type(example).__name__}.")
    if not is_batch_free or len(example) > 1:
        return example
    if has_other_arguments:
        raise ConversionError(
            f"Expected two images or more, for a batch of any size, but got an example of shape {tuple(example.shape)} "
            "and other arguments; give two of each, or one batch size (dynamic=() of save_onnx)."
        )
    return example.repeat(2, *([1] * (example.ndim - 1)))


class _Called(nn.Module):
    """Calls a graph of torch.fx, whose hooks torch.export would skip."""

    def __init__(self, model: GraphModule) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.model(*args, **kwargs)


def has_batch(leaf: Any, size: int) -> bool:
    """Return whether this is a tensor with a batch dimension of `size`."""
    return isinstance(leaf, Tensor) and leaf.ndim > 0 and leaf.shape[0] == size


class _Constants(TorchFunctionMode):
    """Notes which ordinary tensors are constant along which dimensions: a program's values cannot be looked at."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        before = [(t.ndim, constant_dims(t)) for t in tensors if not isinstance(t, Signal)]
        result = func(*args, **kwargs)
        if not isinstance(result, Tensor) or isinstance(result, Signal):
            return result
        every = frozenset(range(result.ndim))
        if func in _FILLING:
            dims = every
        elif before and func in _SPREADING:
            added = result.ndim - before[0][0]
            dims = frozenset(added + i for i, n in enumerate(args[0].shape) if isinstance(n, int) and n == 1)
        elif before and find_rule(func) in (pointwise.elementwise, casts.alike):
            dims = every
            for ndim, constant in before:
                added = result.ndim - ndim
                dims &= {*range(added), *(added + i for i in constant)}
        else:
            return result
        setattr(result, NOTE, (version_of(result), dims))
        return result


_FILLING = frozenset(named("zeros", "ones", "full", "new_zeros", "new_ones", "new_full"))
_SPREADING = frozenset(named("interpolate", "repeat"))


def _is_plain(node: torch.fx.Node) -> bool:
    if node.op != "call_function":
        return True
    if isinstance(node.target, OpOverload):
        return node.target.namespace == "aten"
    return getattr(node.target, "__module__", None) == operator.getitem.__module__  # what Python does with sizes
