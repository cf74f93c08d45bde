"""Which rule answers for which torch function. Knows no rule itself: the families register theirs on import."""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import is_tensor_method_or_property

from borderless.torch_internals import OpOverload, OpOverloadPacket, ScriptMethod, builtins_of_nn  # pyright: ignore[reportAttributeAccessIssue]

Rule = Callable[..., Any]

DISPATCHED = "an operator that PyTorch's dispatcher met with a Signal"  # its rule is registered under this key

_PLACES = (torch, torch.Tensor, F, torch.special, torch.linalg, builtins_of_nn)

_RULES: dict[Any, Rule] = {}
_fallbacks: list[Callable[[Any], Rule | None]] = []


def rule(*functions: Any) -> Callable[[Rule], Rule]:
    """Register the decorated function as the rule for each of `functions`, in place of any earlier one."""
    if not functions:
        raise TypeError("got rule() without a function; needed: @rule(torch.some_function, ...)")

    def register(implementation: Rule) -> Rule:
        for function in functions:
            _RULES[function] = implementation
        return implementation

    return register


def fallback(search: Callable[[Any], Rule | None]) -> Callable[[Any], Rule | None]:
    """Register a search that is asked, in the order of registration, for functions without a rule of their own."""
    _fallbacks.append(search)
    return search


def find_rule(function: Any) -> Rule:
    found = _RULES.get(function)
    if found is None:
        found = next((answer for search in _fallbacks if (answer := search(function)) is not None), refuse)
        if is_torch_own(function):  # scripted methods and closures may be new ones at every call
            _RULES[function] = found
    return found


def named(*names: str, inplace: bool = False) -> list[Any]:
    """The functions of these names in `torch`, `torch.Tensor` and `torch.nn.functional`, wherever they exist."""
    everywhere = [*names, *(f"{name}_" for name in names)] if inplace else names
    found = [getattr(place, name) for name in everywhere for place in _PLACES if hasattr(place, name)]
    return [function for function in found if callable(function) and not inspect.ismodule(function)]


def is_torch_own(function: Any) -> bool:
    """Whether this very function is PyTorch's, and does not only bear the name of one that is."""
    return function in _torch_functions()


@cache
def _torch_functions() -> frozenset[Any]:
    return frozenset(
        value for place in _PLACES for name in dir(place) if inspect.isroutine(value := getattr(place, name))
    )


def describe(function: Any) -> str:
    """A function's name as a user would write it."""
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


def refuse(function: Any, *args: Any, **kwargs: Any) -> Any:
    from borderless.signal import first_signal

    signal = first_signal(args, kwargs)
    if signal is None:
        return NotImplemented
    raise signal.scope.unsupported(describe(function))
