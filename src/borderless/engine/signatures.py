"""Parameter names of torch functions, so that a call by keyword is the same as a call by position.

Rules take the first argument by position and PyTorch's own names for all the others. PyTorch passes a call on as it was
written; `by_position` brings one with keywords into that form. Builtin functions have no Python signature: theirs are
the schemas of their operators, whose `self` is the `input` of the function.
"""

import inspect
from functools import lru_cache
from itertools import takewhile
from typing import Any, NamedTuple

import torch
from torch import Tensor

from borderless.engine.torch_internals import schema_of

# NumPy's names, which PyTorch's argument parser takes for builtin functions (torch/csrc/utils/python_arg_parser.cpp).
_NUMPY_NAMES = {"axis": "dim", "keepdims": "keepdim", "x": "input", "a": "input", "x1": "input", "x2": "other"}


class Signature(NamedTuple):
    """One overload of a function.

    defaults: its parameters in order, with their defaults. positional: how many of them may be given by position.
    tensors: those that only a tensor can be.
    """

    defaults: dict[str, Any]
    positional: int
    tensors: frozenset[str] = frozenset()

    @property
    def names(self) -> list[str]:
        """The names of its parameters, in order."""
        return list(self.defaults)[: self.positional]

    def accepts(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Return whether a call with these arguments fits."""
        names = self.names
        given = dict(zip(names, args, strict=False)) | kwargs
        return (
            len(args) <= len(names)
            and len(given) == len(args) + len(kwargs)
            and given.keys() <= self.defaults.keys()
            and all(isinstance(given[name], Tensor) for name in self.tensors & given.keys())
        )


@lru_cache(4096)
def signatures(function: Any) -> tuple[Signature, ...]:
    """Return the overloads of `function`, or none where PyTorch does not tell."""
    if is_builtin(function):
        packet = getattr(torch.ops.aten, getattr(function, "__name__", ""), None)
        overloads = [] if packet is None else [getattr(packet, name) for name in packet.overloads()]
        return tuple(_of_schema(schema_of(overload)) for overload in overloads)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return ()
    ordered = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    named = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    return (Signature({p.name: p.default for p in (*ordered, *named)}, len(ordered)),)


def _of_schema(schema: Any) -> Signature:
    arguments = [a for a in schema.arguments if not a.is_out]
    names = ["input" if a.name == "self" else a.name for a in arguments]
    defaults = {name: a.default_value for name, a in zip(names, arguments, strict=True)}
    tensors = frozenset(name for name, a in zip(names, arguments, strict=True) if str(a.type) == "Tensor")
    return Signature(defaults, sum(not a.kwarg_only for a in arguments), tensors)


def is_builtin(function: Any) -> bool:
    """Return whether `function` is implemented in C."""
    return inspect.isbuiltin(function) or inspect.ismethoddescriptor(function)


def by_position(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the same call with PyTorch's names, and with at least its first argument by position."""
    if not _NUMPY_NAMES.keys().isdisjoint(kwargs) and is_builtin(function):
        kwargs = _in_torch_names(function, args, kwargs)
    if args:
        return args, kwargs
    signature = next((s for s in signatures(function) if s.accepts(args, kwargs)), None)
    if signature is None:
        return args, kwargs
    leading = list(takewhile(kwargs.__contains__, signature.names))
    rest = {name: value for name, value in kwargs.items() if name not in leading}
    return tuple(kwargs[name] for name in leading), rest


def _in_torch_names(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """`kwargs` with NumPy's names replaced, unless the function has a parameter of that very name."""
    if any(s.accepts(args, kwargs) for s in signatures(function)):
        return kwargs
    return {_NUMPY_NAMES.get(name, name): value for name, value in kwargs.items()}


def arguments(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Every argument of the call under its name, with the defaults of those that were not given."""
    for signature in signatures(function):
        if signature.accepts(args, kwargs):
            return signature.defaults | dict(zip(signature.names, args, strict=False)) | kwargs
    return dict(kwargs)
