"""Ordinary tensors that are the same at every position, such as a global pool upsampled to join a feature map again.

Such a tensor joins a map as a value for each channel; any other has a value for each position, for which an unlimited
plane has no use. Three things distinguish them: strides of 0, how autograd says the tensor was made, or else its
values. Values decide nothing where gradients go to single cells of it (a position embedding that is still 0 everywhere
is no constant), and there are none while `torch.export` records a program: `freeze` then notes how tensors are made.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from borderless.engine.torch_internals import schema_of, shape_at, spread_from, version_of

NOTE = "_borderless_constant"  # an attribute of a tensor: its version, and the dimensions along which it is constant
_SPREADING = ("Upsample", "AdaptiveAvgPool", "Repeat", "Expand")  # nodes of autograd that know what they have spread
_PLAIN = (Tensor, torch.nn.Parameter)


def is_constant_along(tensor: Tensor, axes: Sequence[int]) -> bool:
    """Return whether an ordinary tensor is known to be constant along `axes` (counted from the end)."""
    if _was_spread(tensor, axes):
        return True
    if not has_values(tensor) or (tensor.requires_grad and not _gradients_go_to_single_cells(tensor.grad_fn, axes)):
        return False
    first = tensor
    for axis in axes:
        first = first.narrow(axis, 0, 1)
    return _is_close(tensor, first)


def constant_dims(tensor: Tensor) -> frozenset[int]:
    """Return the dimensions along which its strides, or a note of what made it, say that `tensor` is constant."""
    shape = enumerate(tensor.shape)  # a size that is a symbol, that of a batch, is left one
    spread = {i for i, n in shape if isinstance(n, int) and (n == 1 or tensor.stride(i) == 0)}
    version, dims = getattr(tensor, NOTE, (None, ()))
    return frozenset(spread.union(dims) if dims and version == version_of(tensor) else spread)


def _was_spread(tensor: Tensor, axes: Sequence[int]) -> bool:
    """Return whether the function that made `tensor` spread it along `axes` from a single cell."""
    if constant_dims(tensor).issuperset(tensor.ndim + axis for axis in axes):
        return True
    node = tensor.grad_fn
    while node is not None and _is_unary(node.name()):
        node = node.next_functions[0][0]
    if node is None or not node.name().startswith(_SPREADING):
        return False
    source = spread_from(node)
    return all(len(source) >= -axis and source[axis] == 1 for axis in axes)


def _gradients_go_to_single_cells(node: Any, axes: Sequence[int]) -> bool:
    """Return whether all that gradients go to, from `node` on, was spread along `axes` from a single cell.

    A position embedding has gradients for every cell.
    """
    waiting, seen = [node], set()
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if node is None or not (_is_pointwise(node.name()) or node.name().startswith(_SPREADING)):
            return False
        for source, number in node.next_functions:
            if source is None:  # no gradients: values tell
                continue
            shape = shape_at(source, number)
            if shape is None or any(len(shape) >= -axis and shape[axis] != 1 for axis in axes):
                waiting.append(source)
    return True


@cache
def _is_pointwise(node: str) -> bool:
    """Return whether an autograd node of this name belongs to a function that treats all cells alike."""
    packet = _operator_of(node)
    return packet is not None and any(
        torch.Tag.pointwise in getattr(packet, overload).tags for overload in packet.overloads()
    )


def _operator_of(node: str) -> Any:
    name = re.sub("(?<=[a-z0-9])(?=[A-Z])", "_", node.partition("Backward")[0]).lower()
    return getattr(torch.ops.aten, name, None)


@cache
def _is_unary(node: str) -> bool:
    """Return whether an autograd node of this name belongs to a function of one tensor that treats all cells alike."""
    packet = _operator_of(node)
    if packet is None or "default" not in packet.overloads():
        return False
    tensors = [a for a in schema_of(packet.default).arguments if "Tensor" in str(a.type)]
    return len(tensors) == 1 and (packet is torch.ops.aten.clone or torch.Tag.pointwise in packet.default.tags)


def has_values(tensor: Tensor) -> bool:
    """Return whether the values of `tensor` may be looked at: not in a program that is recorded, nor under `vmap`."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or tensor.is_meta or type(tensor) not in _PLAIN:
        return False
    try:
        tensor.data_ptr()
    except RuntimeError:  # a tensor of torch.func, which stands for many
        return False
    return True


def _is_close(tensor: Tensor, first: Tensor) -> bool:
    """Return whether all of `tensor` is `first`, up to the rounding of an interpolation."""
    if not tensor.is_floating_point():
        return bool((tensor == first).all())
    exact = torch.finfo(tensor.dtype)
    rounding = exact.eps * (32 if exact.bits >= 32 else 2)  # 15 measured, bicubic
    is_same = torch.isclose(tensor, first, rtol=rounding, atol=0.0, equal_nan=True)
    return bool(is_same.all())
