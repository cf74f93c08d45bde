"""Requests for the gradient of a map: `retain_grad` and `.grad`, `register_hook`, `torch.autograd.grad`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from borderless.engine.geometry import Box
from borderless.engine.naming import describe, named
from borderless.engine.reading import read
from borderless.engine.registry import rule
from borderless.engine.signal import Signal, first_signal
from borderless.engine.torch_internals import MARK_OF_BACKWARD_HOOKS, DisableTorchFunctionSubclass, getter
from borderless.errors import SignalError, UnsupportedOperation


@rule(*map(getter, ("requires_grad", "is_leaf")), *named("retain_grad"), getter("retains_grad"), needs="nothing")
def of_cells(function: Any, signal: Signal) -> Any:
    """Return what autograd knows of the stored cells."""
    return function(signal.stored)


@rule(getter("grad_fn"), needs="nothing")
def node(function: Any, signal: Signal) -> Any:
    """Return the node of the stored cells; here PyTorch's backward hooks look for their own, which is beside these."""
    with DisableTorchFunctionSubclass():
        mark = signal.grad_fn
    if mark is not None and mark.name() == MARK_OF_BACKWARD_HOOKS:
        raise UnsupportedOperation(
            "Expected forward hooks but got a full backward hook (register_full_backward_hook or "
            f"register_full_backward_pre_hook) on {signal.scope.describe_module()} under the border "
            f"{signal.border.name!r}: PyTorch would run it without the gradients of feature maps. Use a forward hook, "
            "module.register_forward_hook(lambda module, args, output: output.register_hook(...)), whose gradient is "
            "that of the map on its frame; for the converted model itself, put the hook on torch.nn.Sequential(model)"
        )
    return function(signal.stored)


@rule(getter("grad"), needs="nothing")
def retained(function: Any, signal: Signal) -> Tensor | None:
    """Return the gradient that the stored cells kept, on the frame."""
    gradient = function(signal.stored)
    return None if gradient is None else _on_frame(gradient, signal.axes, signal.box, signal.frame_box)


@rule(*named("register_hook"))
def hooked(function: Any, signal: Signal, hook: Callable[[Tensor], Tensor | None]) -> Any:
    """Register a hook of the user on the stored cells; it gets the gradient on the frame."""
    axes, box, frame, border = signal.axes, signal.box, signal.frame_box, signal.border

    def run(gradient: Tensor) -> Tensor | None:
        made = hook(_on_frame(gradient, axes, box, frame))
        if made is not None and box != frame:
            raise SignalError(
                "Expected a hook that only reads the gradient of a map but got a new gradient for its frame "
                f"{frame}, while the map is stored on {box} under {border!r}. Register the hook on the window, which "
                "is all that is stored: output.window.register_hook(...)"
            )
        return made

    return function(signal.stored, run)


@rule(torch.autograd.grad)
def gradients(function: Any, outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> tuple[Tensor | None, ...]:
    """Gradients for maps, of ordinary tensors."""
    signal = first_signal(outputs)
    if signal is not None:
        raise signal.scope.unsupported(describe(function), "a map is among its outputs; give it map.crop()")
    wanted = tuple(inputs) if isinstance(inputs, list | tuple) else (inputs,)
    found = function(outputs, [w.stored if isinstance(w, Signal) else w for w in wanted], *args, **kwargs)
    return tuple(
        _on_frame(gradient, w.axes, w.box, w.frame_box) if isinstance(w, Signal) and gradient is not None else gradient
        for w, gradient in zip(wanted, found, strict=True)
    )


def _on_frame(gradient: Tensor, axes: tuple[int, ...], box: Box, frame: Box) -> Tensor:
    return read(gradient, axes, box, frame, None)
