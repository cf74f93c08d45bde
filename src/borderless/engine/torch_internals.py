"""Every private or undocumented name of PyTorch that the package uses, each with what it is needed for.

No other module touches one: `tests/engine/test_torch_internals.py` searches for them, and holds each name here to what
the package relies on. What a new version of PyTorch changes is mended here.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch._C import DisableTorchFunctionSubclass, ScriptMethod
from torch._C import _are_functorch_transforms_active as is_transformed
from torch._C import _current_graph_task_id as current_graph_task_id
from torch._C import _nn as builtins_of_nn  # pyright: ignore[reportAttributeAccessIssue]
from torch._C._dynamo.eval_frame import get_eval_frame_callback as compile_callback
from torch._ops import OpOverload, OpOverloadPacket
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm as AnyBatchNorm
from torch.utils import _pytree
from torch.utils._pytree import tree_any, tree_flatten, tree_unflatten

__all__ = [
    "HAS_LARGEST_NORM",
    "MARK_OF_BACKWARD_HOOKS",
    "AnyBatchNorm",
    "DisableTorchFunctionSubclass",
    "OpOverload",
    "OpOverloadPacket",
    "ScriptMethod",
    "batch_norm_update_stats",
    "builtins_of_nn",
    "compile_callback",
    "current_graph_task_id",
    "data_dependence_error",
    "export_error",
    "fake_tensor_errors",
    "fake_tensors",
    "forward_of",
    "forward_pre_hooks",
    "getter",
    "is_compiled",
    "is_transformed",
    "make_wrapper_subclass",
    "modules_of",
    "native_batch_norm_backward",
    "running_code",
    "running_modules",
    "schema_of",
    "shape_at",
    "spread_from",
    "tree_any",
    "tree_flatten",
    "tree_leaves",
    "tree_map",
    "tree_unflatten",
    "verify_batch_size",
    "version_of",
]

# `DisableTorchFunctionSubclass` (a context): PyTorch answers for a Signal itself, without asking the rules.
# `OpOverload`, `OpOverloadPacket`: what a node of an exported program and TorchScript call; the namespace says whether
# it is ATen's, the tags whether it is elementwise.
# `ScriptMethod`: what `__torch_function__` is given when a scripted module is called.
# `builtins_of_nn`: the functions behind those of torch.nn.functional.
# `current_graph_task_id`: -1 unless a backward pass is running, which may compute again what a checkpoint left out.
# `is_transformed`: whether torch.func.vmap, grad or another transform is running: tensors then stand for many.
# `compile_callback`: callable while torch.compile watches which frames are run. A builtin, which it cannot trace.
# `AnyBatchNorm`: the common class of BatchNorm1d to 3d and SyncBatchNorm, and of what other libraries derive from it.
# `tree_*`: a model's inputs and outputs may hold tensors in nested lists, tuples and dicts, and in registered classes.


def tree_leaves(tree: Any) -> list[Any]:
    """Return the leaves of nested containers, as PyTorch does, which takes ten times as long for a call's arguments."""
    leaves: list[Any] = []
    _add_leaves(tree, leaves)
    return leaves


def _add_leaves(tree: Any, leaves: list[Any]) -> None:
    kind = type(tree)
    if kind is tuple or kind is list:
        for inner in tree:
            _add_leaves(inner, leaves)
    elif kind is dict:
        for inner in tree.values():
            _add_leaves(inner, leaves)
    elif kind in _LEAVES or isinstance(tree, Tensor):
        leaves.append(tree)
    else:
        leaves.extend(_pytree.tree_leaves(tree))


_LEAVES = (int, float, bool, type(None), str)


def tree_map(function: Callable[[Any], Any], tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> Any:
    """Return the containers with function(leaf) for each leaf, and for each container that `is_leaf` says is one."""
    kind = type(tree)
    if is_leaf is None:
        if kind is tuple or kind is list:
            return kind([tree_map(function, inner) for inner in tree])
        if kind is dict:
            return {key: tree_map(function, inner) for key, inner in tree.items()}
        if kind in _LEAVES or isinstance(tree, Tensor):
            return function(tree)
    return _pytree.tree_map(function, tree, is_leaf=is_leaf)


# Whether `lp_pool` knows that a norm of p = ∞ is a maximum: PyTorch 2.8 takes powers of ∞, and 1 comes out everywhere.
HAS_LARGEST_NORM = bool((F.lp_pool1d(torch.full((1, 1, 2), 0.5), torch.inf, 2) == 0.5).all())

# A tensor of a given shape, type and device without memory of its own: what a Signal is to PyTorch.
make_wrapper_subclass: Callable[..., Any] = Tensor._make_wrapper_subclass

# Refuses batch statistics of a single value per channel, with PyTorch's own words.
verify_batch_size: Callable[[list[int]], None] = F._verify_batch_size  # pyright: ignore[reportAttributeAccessIssue]

# Mean and biased variance per channel in one read, summed in double for float32.
batch_norm_update_stats: Callable[..., tuple[Tensor, Tensor]] = torch.batch_norm_update_stats

# The fused sums over the cells that the gradients of a BatchNorm are made of.
native_batch_norm_backward: Callable[..., tuple[Tensor, Tensor, Tensor]] = torch.ops.aten.native_batch_norm_backward

# The node of autograd that full backward hooks of modules put after a module's inputs and outputs, and look for there.
MARK_OF_BACKWARD_HOOKS = "BackwardHookFunctionBackward"

_CALL_OF_A_MODULE = nn.Module._call_impl.__code__


def running_modules() -> Iterator[nn.Module]:
    """Yield the modules whose calls are running in this thread, the innermost first.

    They are found on the interpreter's stack, so that no hook has to run at every module. The public
    `torch.utils.module_tracker.ModuleTracker` would put hooks on every module of the process, for each pass, and tells
    which modules run but not which of them is the innermost.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is _CALL_OF_A_MODULE:
            yield frame.f_locals["self"]
        frame = frame.f_back


def modules_of(model: nn.Module) -> list[nn.Module]:
    """Return what `model.modules()` yields, in another order and a third of the time."""
    found, queue = {id(model)}, [model]
    for module in queue:
        for child in module._modules.values():
            if child is not None and id(child) not in found:
                found.add(id(child))
                queue.append(child)
    return queue


def running_code() -> Iterator[Any]:
    """Yield the code that runs in this thread, from the caller of the caller to the innermost module's call."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_code is not _CALL_OF_A_MODULE:
        yield frame.f_code
        frame = frame.f_back


def forward_of(node: Any) -> Any:
    """Return the code of the forward of the custom Function that a node of autograd's graph belongs to, or None.

    PyTorch runs it with gradients disabled, and tells nobody in which module.
    """
    function = getattr(node, "_forward_cls", None)
    return None if function is None else getattr(inspect.unwrap(function.forward), "__code__", None)


def version_of(tensor: Tensor) -> int:
    """Return how often `tensor` was changed in place."""
    return tensor._version


def schema_of(operator: Any) -> Any:
    """Return the schema of an operator's overload: its name and its arguments."""
    return operator._schema


def have_one_storage(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors, fake ones too, are views of the same memory."""
    return one.untyped_storage()._cdata == other.untyped_storage()._cdata


def forward_pre_hooks(module: nn.Module) -> Iterator[Any]:
    """Yield the functions that run before `module`: those that the user and that this package registered."""
    return iter(module._forward_pre_hooks.values())


def spread_from(node: Any) -> Any:
    """Return the shape of the tensor that a node of autograd's graph has interpolated or expanded."""
    source = getattr(node, "_saved_self_sym_sizes", None)
    return node._saved_self.shape if source is None else source


def shape_at(node: Any, number: int) -> torch.Size | None:
    """Return the shape of a result, by its number, of the function that a node of autograd's graph belongs to.

    None if the node does not tell.
    """
    if (variable := getattr(node, "variable", None)) is not None:  # a tensor that no function has made
        return variable.shape
    results = getattr(node, "_input_metadata", ())
    return torch.Size(results[number].shape) if number < len(results) else None


def getter(name: str) -> Any:
    """Return what `__torch_function__` is given when the attribute `name` of a tensor is read."""
    return getattr(Tensor, name).__get__


def export_error() -> type[Exception]:
    """Return the error of `torch.export.export` for a program that the asked-for dynamic shapes do not fit."""
    from torch._dynamo.exc import UserError  # loads the compiler: only who exports pays

    return UserError


def data_dependence_error() -> type[Exception]:
    """Return the error of `torch.export.export` for a size or a branch that depends on the values of a tensor."""
    from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode  # loads sympy

    return GuardOnDataDependentSymNode


def fake_tensors() -> Any:
    """Return a context in which tensors have a shape and a type, and neither values nor memory."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # loads sympy

    return FakeTensorMode(allow_non_fake_inputs=True)


def fake_tensor_errors() -> tuple[type[Exception], ...]:
    """Return the errors of a fake tensor that is asked for its values, or for what depends on them."""
    from torch._subclasses import fake_tensor

    return fake_tensor.DataDependentOutputException, fake_tensor.DynamicOutputShapeException


def is_compiled(module: nn.Module) -> bool:
    """Return whether `module` is what torch.compile made, or was told to compile itself."""
    is_wrapper = "torch._dynamo" in sys.modules and isinstance(module, torch._dynamo.OptimizedModule)
    return is_wrapper or module._compiled_call_impl is not None
