"""A converted model as a program of plain ATen operations, which runs where this library is not installed."""

import copy
import operator

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from borderless.convert import conversion_of
from borderless.errors import ConversionError


def freeze(model: nn.Module, example: Tensor) -> ExportedProgram:
    """Export a converted `model`, in eval mode, for images of the shape of `example`.

    The program computes what the model does, for any images of that size and batch; a sample's phase is a tensor in
    it, never a number of the example. Save it with `torch.export.save`, run it with `program.module()(images)`. The
    model is left as it is.

    Raises ConversionError if the model is not converted, or if something but ATen operations would be in the program.
    """
    if conversion_of(model) is None:
        raise ConversionError(
            f"got a {type(model).__name__} that is not converted; needed: bl.freeze(bl.convert(model, border), example)"
        )
    frozen = copy.deepcopy(model).eval()
    with torch.no_grad():
        program = torch.export.export(frozen, (example,), strict=False)
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
    if isinstance(node.target, torch._ops.OpOverload):
        return node.target.namespace == "aten"
    return node.target is operator.getitem
