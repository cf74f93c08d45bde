"""PyTorch's functions by their names, and the names of functions as a user would write them."""

import inspect
from functools import cache
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import is_tensor_method_or_property

from borderless.engine.torch_internals import OpOverload, OpOverloadPacket, ScriptMethod, builtins_of_nn  # pyright: ignore[reportAttributeAccessIssue]

_PLACES = (torch, torch.Tensor, F, torch.special, torch.linalg, builtins_of_nn)


def named(*names: str, inplace: bool = False) -> list[Any]:
    """Return the functions of these names in `torch`, `torch.Tensor` and `torch.nn.functional`, wherever they exist."""
    everywhere = [*names, *(f"{name}_" for name in names)] if inplace else names
    found = [getattr(place, name) for name in everywhere for place in _PLACES if hasattr(place, name)]
    return [function for function in found if callable(function) and not inspect.ismodule(function)]


def is_torch_own(function: Any) -> bool:
    """Return whether this very function is PyTorch's, and does not only bear the name of one that is."""
    return function in _torch_functions()


@cache
def _torch_functions() -> frozenset[Any]:
    return frozenset(
        value for place in _PLACES for name in dir(place) if inspect.isroutine(value := getattr(place, name))
    )


def describe(function: Any) -> str:
    """Return a function's name as a user would write it."""
    if isinstance(function, OpOverload | OpOverloadPacket):
        return f"torch.ops.{function}"
    if isinstance(function, ScriptMethod):
        return f"the scripted method {function.name!r}"
    name = getattr(function, "__name__", str(function))
    if name == "__get__":
        return f"the attribute {getattr(function.__self__, '__name__', '?')!r}"
    module = getattr(function, "__module__", None) or ""
    if "functional" in module:
        return f"torch.nn.functional.{name}"
    is_method = hasattr(function, "__name__") and is_tensor_method_or_property(function)
    return f"{'torch.Tensor' if is_method else 'torch'}.{name}"


def describe_node(node: Any) -> str:
    """Return what left its mark on a map, which itself takes no part in autograd."""
    function = getattr(node, "_forward_cls", None)
    if function is None:
        return f"a function that runs below Python (scripted or compiled) and records {node.name()!r}"
    return f"the custom autograd function {function.__name__!r} of {function.__module__}"


def fields_of(value: Any) -> dict[str, Any]:
    """Return the fields of a named tuple by their names."""
    return {name: getattr(value, name) for name in type(value).__annotations__}
