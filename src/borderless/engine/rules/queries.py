"""Questions about a map: attributes, sizes, and values that leave the map."""

from math import prod
from typing import Any

import torch

from borderless.engine.naming import describe, named
from borderless.engine.registry import rule
from borderless.engine.signal import Signal
from borderless.engine.torch_internals import DisableTorchFunctionSubclass, getter
from borderless.errors import SignalError

_ATTRIBUTES = (
    "shape",
    "dtype",
    "device",
    "layout",
    "ndim",
    "is_cuda",
    "is_sparse",
    "is_quantized",
    "is_meta",
    "itemsize",
    "is_nested",
    "is_cpu",
    "is_mps",
    "is_xpu",
    "is_mkldnn",
    "is_sparse_csr",
    "nbytes",
)


@rule(
    *map(getter, _ATTRIBUTES),
    *named("size", "dim", "numel", "nelement", "is_floating_point", "is_complex", "get_device", "element_size"),
    *named("ndimension", "is_same_size"),
    torch.Tensor.__len__,
    needs="nothing",
)
def query(function: Any, signal: Any, *args: Any, **kwargs: Any) -> Any:
    """Shape and type, as the unmodified model would see them."""
    if function is torch.Tensor.__len__:
        return signal.shape[0]
    if function is torch.Tensor.size:
        dim = args[0] if args else kwargs.get("dim")
        return signal.shape if dim is None else signal.shape[dim]
    if function in (torch.Tensor.numel, torch.Tensor.nelement, torch.numel):
        return prod(signal.shape)
    with DisableTorchFunctionSubclass():
        return function(signal, *args, **kwargs)


@rule(
    *named("is_contiguous", "is_inference", "is_pinned", "is_conj", "is_neg"),
    *(getattr(torch.Tensor, name) for name in ("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor")),
    needs="nothing",
)
def query_window(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Any:
    """Return what `function` says of how the window is stored."""
    return function(signal.window, *args, **kwargs)


@rule(
    *named("numpy", "tolist", "item", "is_nonzero"),
    torch.Tensor.__array__,
    torch.Tensor.__bool__,
    torch.Tensor.__float__,
    torch.Tensor.__int__,
    torch.Tensor.__index__,
    needs="nothing",
)
def values(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Any:
    """Return what `function` gives of the map on its frame, where a model asks for numbers."""
    raise SignalError(
        f"Expected an ordinary tensor but got a Signal ({signal!r}) in {describe(function)}; call .crop() for the map "
        "on its frame or .window for all that is stored, or convert with output='frame'."
    )
