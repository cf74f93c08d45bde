"""Ordinary tensors that are the same at every position: a global pool, upsampled to join a feature map again, is one.

Such a tensor joins a map as a value for each channel; any other has a value for each position, which an endless plane
has no use for. What tells them apart: strides of 0, how autograd says the tensor was made, or else its values. Values
tell nothing where gradients go to the tensor (a position embedding that is still 0 everywhere is no constant), and
there are none while `torch.export` records a program: `Constants` then watches how tensors are made.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

# Nodes of autograd that keep the shape of what they spread, or that itself.
_SPREADING = ("Upsample", "AdaptiveAvgPool", "Repeat", "Expand")
_FILLING = (torch.zeros, torch.ones, torch.full, torch.zeros_like, torch.ones_like, torch.full_like)
_FILLING += (torch.Tensor.new_zeros, torch.Tensor.new_ones, torch.Tensor.new_full)
_NOTE = "_borderless_constant"  # an attribute of a tensor: its version, and the dimensions along which it is constant


def is_constant_along(tensor: Tensor, axes: Sequence[int]) -> bool:
    """Whether an ordinary tensor is known to have the same values everywhere along `axes` (counted from the end)."""
    axes = [axis for axis in axes if tensor.stride(axis) != 0]
    if not axes or _was_spread(tensor, axes):
        return True
    if tensor.requires_grad or not _has_values(tensor):
        return False
    first = tensor
    for axis in axes:
        first = first.narrow(axis, 0, 1)
    return _is_close(tensor, first)


def _was_spread(tensor: Tensor, axes: Sequence[int]) -> bool:
    """Whether the function that made `tensor` spread it along `axes` from a single cell."""
    version, dims = getattr(tensor, _NOTE, (None, ()))
    if dims and version == tensor._version:
        return all(tensor.ndim + axis in dims for axis in axes)
    node = tensor.grad_fn
    if node is None or not node.name().startswith(_SPREADING):
        return False
    source = getattr(node, "_saved_self_sym_sizes", None)
    source = node._saved_self.shape if source is None else source  # pyright: ignore[reportAttributeAccessIssue]
    return all(len(source) >= -axis and source[axis] == 1 for axis in axes)


def _has_values(tensor: Tensor) -> bool:
    """Whether the values of `tensor` may be looked at: not in a program that is recorded, nor under `vmap`."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or tensor.is_meta or type(tensor) not in _PLAIN:
        return False
    try:
        tensor.data_ptr()
    except RuntimeError:  # a tensor of torch.func, which stands for many
        return False
    return True


_PLAIN = (Tensor, torch.nn.Parameter)


def _is_close(tensor: Tensor, first: Tensor) -> bool:
    """Whether all of `tensor` is `first`, up to the rounding of an interpolation."""
    if not tensor.is_floating_point():
        return bool((tensor == first).all())
    exact = torch.finfo(tensor.dtype)
    rounding = exact.eps * (32 if exact.bits >= 32 else 2)  # 15 measured, bicubic
    is_same = torch.isclose(tensor, first, rtol=rounding, atol=0.0, equal_nan=True)
    return bool(is_same.all())


class Constants(TorchFunctionMode):
    """Notes which tensors are constant, and along which dimensions, by the functions that make them."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not isinstance(result, Tensor):
            return result
        if func in _FILLING:
            dims = range(result.ndim)
        elif func in (F.interpolate, torch.Tensor.repeat) and isinstance(args[0], Tensor):
            added = result.ndim - args[0].ndim
            dims = [added + i for i, n in enumerate(args[0].shape) if n == 1]
        else:
            return result
        setattr(result, _NOTE, (result._version, frozenset(dims)))
        return result
