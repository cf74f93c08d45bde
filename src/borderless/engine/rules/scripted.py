"""TorchScript functions, whose operators reach a Signal in PyTorch's dispatcher and not in `__torch_function__`.

Operators that act on every cell alike are called as their Python functions are. Autograd is above the dispatcher: it
would record what happens to the frame and nothing of the window, so gradients are refused. The interpreter drops type
and text of an error raised inside it (it says "RuntimeError:" and no more) but lets any result through. So a refusal
travels in the result, and is raised where Python touches that next.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from borderless.engine.naming import describe
from borderless.engine.registry import DISPATCHED, Rule, fallback, find_rule, rule
from borderless.engine.rules.pointwise import elementwise
from borderless.engine.signal import Signal, first_signal
from borderless.engine.torch_internals import DisableTorchFunctionSubclass, ScriptMethod, tree_leaves, tree_map


@fallback
def _scripted_method_rule(function: Any) -> Rule | None:
    return _run_method if isinstance(function, ScriptMethod) else None


def _run_method(method: Any, *args: Any, **kwargs: Any) -> Any:
    """Run a scripted module, which PyTorch offers to `__torch_function__` as a whole: its operators come one by one."""
    with DisableTorchFunctionSubclass():
        return method(*args, **kwargs)


@rule(DISPATCHED)
def run_operator(operator: Any, *args: Any, **kwargs: Any) -> Any:
    """Call an operator of a scripted function by its rule, if it acts on every cell alike."""
    signal = first_signal(args, kwargs)
    assert signal is not None
    error = next((value.error for value in tree_leaves((args, kwargs)) if isinstance(value, _Refused)), None)
    operation = f"{describe(operator)}, called below Python (by a scripted function, for example),"
    if error is None and find_rule(operator) is not elementwise:
        error = signal.scope.unsupported(
            operation,
            "of scripted functions only those that act on every cell alike are known. Call the Python function itself",
        )
    elif error is None and torch.is_grad_enabled() and _require_gradients(args, kwargs):
        error = signal.scope.unsupported(
            operation, "its gradients would be lost. Use torch.no_grad(), or call the Python function itself"
        )
    if error is not None:
        return _refused_result(error, signal, operator, args, kwargs)
    return type(signal).__torch_function__(operator, (), args, kwargs)


class _Refused(Signal):
    """The result of a refused operator: raises `error` when Python touches it."""

    error: Exception

    @property
    def window(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        raise self.error

    def crop(self) -> Tensor:
        raise self.error

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        raise next(value.error for value in tree_leaves((args, kwargs)) if isinstance(value, _Refused))


def _refused_result(
    error: Exception, signal: Signal, operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    def refuse(result: Tensor) -> _Refused:
        made: Any = _Refused(result, (), (), (), None, signal.lattice, signal.scope, ())  # pyright: ignore[reportCallIssue]
        made.error = error
        return made

    with DisableTorchFunctionSubclass():
        args, kwargs = tree_map(_without_cells, (args, kwargs))
    try:
        result = operator(*args, **kwargs)
    except (RuntimeError, NotImplementedError):  # it needs cells: its result is a number, or has as many as there are
        warnings.warn(f"{error}", stacklevel=2)  # which the interpreter is about to drop
        raise error from None
    return tree_map(lambda leaf: refuse(leaf) if isinstance(leaf, Tensor) else leaf, result)


def _without_cells(value: Any) -> Any:
    return torch.empty(tuple(value.shape), dtype=value.dtype, device="meta") if isinstance(value, Tensor) else value


def _require_gradients(args: Any, kwargs: Any) -> bool:
    with DisableTorchFunctionSubclass():
        return any(isinstance(value, Tensor) and value.requires_grad for value in tree_leaves((args, kwargs)))
