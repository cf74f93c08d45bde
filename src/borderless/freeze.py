"""A converted model as a program of plain ATen operations, which runs where this library is not installed."""

import copy
import operator

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from borderless.convert import conversion_of
from borderless.errors import ConversionError
from borderless.torch_internals import OpOverload, export_error


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
        with torch.no_grad():
            program = torch.export.export(frozen, (example,), dynamic_shapes=shapes, strict=False)
    except export_error() as error:
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


def _is_plain(node: torch.fx.Node) -> bool:
    if node.op != "call_function":
        return True
    if isinstance(node.target, OpOverload):
        return node.target.namespace == "aten"
    return node.target is operator.getitem
