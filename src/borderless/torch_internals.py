"""Every private or undocumented name of PyTorch that the package uses, each with what it is needed for.

No other module touches one: `tests/test_torch_internals.py` searches for them, and holds each name here to what the
package relies on. What a new version of PyTorch changes is mended here.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch._C import DisableTorchFunctionSubclass
from torch._ops import OpOverload
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm as AnyBatchNorm
from torch.utils._pytree import tree_any, tree_leaves, tree_map

__all__ = [
    "AnyBatchNorm",
    "DisableTorchFunctionSubclass",
    "OpOverload",
    "batch_norm_update_stats",
    "export_error",
    "getter",
    "make_wrapper_subclass",
    "native_batch_norm_backward",
    "running_modules",
    "tree_any",
    "tree_leaves",
    "tree_map",
    "verify_batch_size",
]

# `DisableTorchFunctionSubclass` (a context): PyTorch answers for a Signal itself, without asking the rules.
# `OpOverload`: what a node of an exported program calls, with the namespace that says whether it is ATen's.
# `AnyBatchNorm`: the common class of BatchNorm1d to 3d and SyncBatchNorm, and of what other libraries derive from it.
# `tree_*`: a model's inputs and outputs may hold tensors in nested lists, tuples and dicts, and in registered classes.

# A tensor of a given shape, type and device without memory of its own: what a Signal is to PyTorch.
make_wrapper_subclass: Callable[..., Any] = Tensor._make_wrapper_subclass

# Refuses batch statistics of a single value per channel, with PyTorch's own words.
verify_batch_size: Callable[[list[int]], None] = F._verify_batch_size  # pyright: ignore[reportAttributeAccessIssue]

# Mean and biased variance per channel in one read, summed in double for float32.
batch_norm_update_stats: Callable[..., tuple[Tensor, Tensor]] = torch.batch_norm_update_stats

# The fused sums over the cells that the gradients of a BatchNorm are made of.
native_batch_norm_backward: Callable[..., tuple[Tensor, Tensor, Tensor]] = torch.ops.aten.native_batch_norm_backward

_CALL_OF_A_MODULE = nn.Module._call_impl.__code__


def running_modules() -> Iterator[nn.Module]:
    """Yield the modules whose calls are running in this thread, the innermost first.

    They are found on the interpreter's stack, so that nothing is attached to a model's modules. The public
    `torch.utils.module_tracker.ModuleTracker` would put hooks on every module of the process, for each pass, and tells
    which modules run but not which of them is the innermost.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is _CALL_OF_A_MODULE:
            yield frame.f_locals["self"]
        frame = frame.f_back


def getter(name: str) -> Any:
    """Return what `__torch_function__` is given when the attribute `name` of a tensor is read."""
    return getattr(Tensor, name).__get__


def export_error() -> type[Exception]:
    """Return the error of `torch.export.export` for a program that the asked-for dynamic shapes do not fit."""
    from torch._dynamo.exc import UserError  # loads the compiler: only who exports pays

    return UserError
