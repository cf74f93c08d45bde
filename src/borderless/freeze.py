"""A converted model as a program of plain ATen operations, which runs where this library is not installed."""

import copy
import operator
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.overrides import TorchFunctionMode

from borderless.convert import conversion_of
from borderless.errors import ConversionError
from borderless.rules import pointwise
from borderless.rules.registry import find_rule, named
from borderless.rules.uniform import NOTE, constant_dims
from borderless.signal import Signal


def freeze(model: nn.Module, example: Tensor, *, dynamic_batch: bool = False) -> ExportedProgram:
    """Export a converted `model`, in eval mode, for images of the shape of `example`.

    The program computes what the model does, for any images of that size and batch, or of any batch with
    `dynamic_batch` (the example then holds two images or more); a sample's phase is a tensor in it, never a number of
    the example. Save it with `torch.export.save`, run it with `program.module()(images)`. The model is left as it is.

    Raises ConversionError if the model is not converted, if it does not take batches of any size, or if something but
    ATen operations would be in the program.
    """
    if conversion_of(model) is None:
        raise ConversionError(
            f"got a {type(model).__name__} that is not converted; needed: bl.freeze(bl.convert(model, border), example)"
        )
    from torch._dynamo.exc import UserError  # loads the compiler

    shapes = None
    if dynamic_batch:
        if len(example) < 2:
            raise ConversionError(
                f"got an example of shape {tuple(example.shape)} with dynamic_batch=True; needed: two images or more, "
                "because PyTorch takes a batch of one for a constant"
            )
        shapes = ({0: Dim("batch", min=1)},)
    frozen = copy.deepcopy(model).eval()
    try:
        with torch.no_grad(), _Constants():
            program = torch.export.export(frozen, (example,), dynamic_shapes=shapes, strict=False)
    except UserError as error:
        raise ConversionError(
            f"got a {type(model).__name__} that computes with the size of its batch, so dynamic_batch=True cannot be "
            f"kept: {str(error).splitlines()[0]}; freeze it for one batch size"
        ) from error
    foreign = sorted({str(node.target) for node in program.graph.nodes if not _is_plain(node)})
    if foreign:
        raise ConversionError(
            f"got operations that are not ATen's in the exported {type(model).__name__}: {', '.join(foreign)}; "
            "needed: a model of plain torch functions"
        )
    return program


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
        elif func in _SPREADING:
            added = result.ndim - before[0][0]
            dims = frozenset(added + i for i, n in enumerate(args[0].shape) if isinstance(n, int) and n == 1)
        elif before and find_rule(func) in (pointwise.elementwise, pointwise.alike):
            dims = every
            for ndim, constant in before:
                added = result.ndim - ndim
                dims &= {*range(added), *(added + i for i in constant)}
        else:
            return result
        setattr(result, NOTE, (result._version, dims))
        return result


_FILLING = frozenset(named("zeros", "ones", "full", "new_zeros", "new_ones", "new_full"))
_SPREADING = frozenset(named("interpolate", "repeat"))


def _is_plain(node: torch.fx.Node) -> bool:
    if node.op != "call_function":
        return True
    if isinstance(node.target, torch._ops.OpOverload):
        return node.target.namespace == "aten"
    return node.target is operator.getitem
