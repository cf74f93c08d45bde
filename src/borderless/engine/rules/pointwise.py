"""Functions that act on every cell alike: they act on the window and, the same way, on the background.

Elementwise functions of one or several Signals (joined by frame index: the union of the windows where maps may grow,
the intersection under `valid`). PyTorch marks them with `torch.Tag.pointwise`; a short list adds those that it leaves
out.
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from borderless.engine import geometry
from borderless.engine.geometry import Box
from borderless.engine.naming import describe, is_torch_own
from borderless.engine.padding import inside, strips
from borderless.engine.registry import Rule, Traits, declare, fallback
from borderless.engine.relabeled import Relabeled, on_maps
from borderless.engine.rules.joining import (
    LINES_REACH_OUT,
    beside_window,
    from_end,
    is_as_unmodified,
    joint_box,
    joint_field,
    reaches_out,
    read_in,
    surroundings_of,
    widest,
    without_extent,
)
from borderless.engine.signal import Signal, first_signal
from borderless.engine.tiles import is_constant
from borderless.engine.torch_internals import OpOverload, OpOverloadPacket, schema_of, tree_map
from borderless.errors import UnsupportedOperation

_ALSO_POINTWISE = {"hardswish", "hardswish_", "log_sigmoid", "logsigmoid", "softsign", "tanhshrink", "relu6"} | {
    "leaky_relu",  # not tagged by torch 2.8
    "leaky_relu_",
    "copy_",
    "fill_",
    "zero_",
    "_threshold",  # torch.nn.functional.threshold
}
_OPERATORS = {
    "__rsub__": "sub",
    "__rpow__": "pow",
    "__rdiv__": "div",
    "__rtruediv__": "div",
    "__and__": "bitwise_and",
} | {
    "__or__": "bitwise_or",
    "__xor__": "bitwise_xor",
    "__invert__": "bitwise_not",
    "__rfloordiv__": "floor_divide",
    "__rmod__": "remainder",
}


@fallback
def _elementwise_rule(function: Any) -> Rule | None:
    """PyTorch's own functions by the tags of the operator that bears their name; operators by their own tags."""
    if isinstance(function, OpOverload | OpOverloadPacket):
        return elementwise if _is_pointwise(function) else None
    if not is_torch_own(function):
        return None
    name = function.__name__
    name = _OPERATORS.get(name) or (name.strip("_") if name.startswith("__") else name)
    operators = (getattr(torch.ops.aten, candidate, None) for candidate in (name, name.rstrip("_")) if candidate)
    is_pointwise = name in _ALSO_POINTWISE or any(_is_pointwise(o) for o in operators if o is not None)
    return elementwise if is_pointwise else None


def _is_pointwise(operator: OpOverload | OpOverloadPacket) -> bool:
    if isinstance(operator, OpOverloadPacket):
        return any(_is_pointwise(getattr(operator, overload)) for overload in operator.overloads())
    is_listed = operator.namespace == "aten" and schema_of(operator).name.removeprefix("aten::") in _ALSO_POINTWISE
    return is_listed or torch.Tag.pointwise in operator.tags


def elementwise(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Any elementwise function, in place or not, of Signals, ordinary tensors without spatial extent, and numbers."""
    if len(args) == 1 and not any(isinstance(value, Tensor) for value in kwargs.values()):
        return _of_one(function, args[0], kwargs)
    signals = [a for a in (*args, *kwargs.values()) if isinstance(a, Signal)]
    signal = widest(signals)
    aligned = _without_spatial_extent(signal, args, kwargs)
    reason = None if aligned is not None else "an ordinary tensor with a value for each position enters"
    if reason is None and any(
        len(s.frame) == len(signal.frame) and set(s.frame) == {1} != set(signal.frame) for s in signals
    ):
        reason = "a map of a single cell is spread over a larger one"
    if reason is not None:
        return _on_frames(function, signal, reason, args, kwargs)
    assert aligned is not None
    box = joint_box(signals, function)
    args, kwargs = (args, kwargs) if is_as_unmodified(signal, box) else aligned
    is_in_place = acts_in_place(function)
    if len(args) == len(signals) == 2 and is_in_place and _joins_in_parts(*signals):
        return _change_in_parts(function, signal, args[1], kwargs)
    background = None if signal.background is None else _background(function, signal, args, kwargs, is_in_place)
    if background is not None and any(len(s.axes) < len(signal.axes) for s in signals):
        beside = [beside_window(a, signal, box) for a in args]
        beside[0] = beside[0].clone() if is_in_place else beside[0]
        named_ones = {k: beside_window(v, signal, box) for k, v in kwargs.items()}
        if reaches_out(signal, function(*beside, **named_ones), background, box):
            return _on_frames(function, signal, LINES_REACH_OUT, args, kwargs)
    if is_in_place:
        own_window(signal)
    operands = [_read(a, signal, box) for a in args]
    window = function(*operands, **{k: _read(v, signal, box) for k, v in kwargs.items()})
    if not isinstance(window, Tensor):
        return _no_map(function, signal, window)
    if window is operands[0]:  # in place: whoever holds the first operand sees the change
        if args[0] is not signal:
            raise signal.scope.unsupported(describe(function), "it changes an ordinary tensor in place by a map")
        return signal.become(function, window, background, box=box, field=joint_field(signals))
    axes = tuple(axis - signal.ndim + window.ndim for axis in signal.axes)
    return signal.derive(window, background, box=box, axes=axes, field=joint_field(signals))


def _elementwise_seen(function: Any, source: Relabeled, *args: Any, **kwargs: Any) -> Any:
    """Return an elementwise function of tokens or stacks: ordinary tensors take the dimensions of the maps."""
    args, kwargs = tree_map(source.operand, args), tree_map(source.operand, kwargs)
    for value in (*args, *kwargs.values()):
        is_ordinary = isinstance(value, Tensor) and not isinstance(value, Signal)
        if source.tokens is not None and is_ordinary and without_extent(value, source.map) is None:
            raise source.refusal(function, "it has a value for each token (a position embedding, for example)")
    return on_maps(function, source, args, kwargs)


declare(elementwise, Traits(needs="cell", dims=_elementwise_seen))


def _no_map(function: Any, signal: Signal, result: Any) -> Any:
    if result is NotImplemented:  # Python then asks the other operand
        return result
    raise signal.scope.unsupported(describe(function), f"it returns a {type(result).__name__} and not one feature map")


def acts_in_place(function: Any) -> bool:
    """Return whether `function`, one of PyTorch's own, changes its first argument, which an underscore marks."""
    name = function.__name__.partition(".")[0]  # of an operator without its overload
    if name.startswith("__"):
        return name.startswith("__i") and name != "__invert__"
    return name.endswith("_")


def _joins_in_parts(signal: Signal, other: Signal) -> bool:
    """Return whether an in-place function may treat the cells that both store, and the rest of `signal`, one by one."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    if any(edge.keeps in ("inside", "known") for edge in signal.edges) or len(signal.axes) != len(other.axes):
        return False
    if other.box == signal.box or geometry.union([signal.box, other.box]) != signal.box:
        return False
    return all(s.background is None or is_constant(s.background, s.axes) for s in (signal, other))


def _change_in_parts(function: Any, signal: Signal, other: Signal, options: dict[str, Any]) -> Signal:
    """Change `signal` in place by `other`, which is stored on fewer cells, without a padded copy of it."""
    window, axes = own_window(signal), from_end(signal)
    missing = [(a - first, stop - b) for (a, b), (first, stop) in zip(other.box, signal.box, strict=True)]
    around = other.around(signal.box)
    sizes = [window.shape[d] if d in axes else -1 for d in range(-window.ndim, 0)]
    around = around.expand(sizes)
    for strip, outside in zip(strips(window, axes, missing), strips(around, axes, missing), strict=True):
        function(strip, outside, **options)
    function(inside(window, axes, missing), other.window, **options)
    background = None if signal.background is None else _background(function, signal, (signal, other), options, True)
    return signal.become(function, window, background, field=joint_field([signal, other]))


def _of_one(function: Any, signal: Signal, options: dict[str, Any]) -> Any:
    """Return an elementwise function of one Signal and nothing else: no need to align anything."""
    stored = own_window(signal)
    window = function(stored, **options)
    if not isinstance(window, Tensor):
        return _no_map(function, signal, window)
    background = signal.background
    if background is not None:
        background = function(_copied(background) if window is stored else background, **options)
    return signal.become(function, window, background) if window is stored else signal.derive(window, background)


def _copied(background: Tensor) -> Tensor:
    """Return a copy for an in-place function. Its gradients go on also where the function itself is not recorded."""
    with torch.enable_grad() if background.requires_grad else nullcontext():
        return background.clone(memory_format=torch.contiguous_format)


def own_window(signal: Signal) -> Tensor:
    """Return the window, safe to be changed in place."""
    if signal.aliased:
        signal.window, signal.aliased = signal.window.clone(), False
    return signal.window


def _read(value: Any, whole: Signal, box: Box) -> Any:
    return read_in(value, whole, box) if isinstance(value, Signal) else value


def _background(
    function: Any, signal: Signal, args: tuple[Any, ...], kwargs: dict[str, Any], is_in_place: bool
) -> Tensor:
    surroundings = surroundings_of([*args, *kwargs.values()], signal)
    if is_in_place:  # the samples may share the background that changes, and differ in what changes it
        shape = torch.broadcast_shapes(*(value.shape for value in surroundings if isinstance(value, Tensor)))
        surroundings[0] = _copied(surroundings[0].expand(shape))
    named_ones = dict(zip(kwargs, surroundings[len(args) :], strict=True))
    return function(*surroundings[: len(args)], **named_ones)


def _without_spatial_extent(
    signal: Signal, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Return the arguments with each ordinary tensor shrunk to size 1 along space; None where that is impossible."""
    failed = False

    def shrink(value: Any) -> Any:
        nonlocal failed
        if not isinstance(value, Tensor) or isinstance(value, Signal):
            return value
        alike = without_extent(value, signal)
        failed = failed or alike is None
        return alike

    shrunk = tuple(shrink(a) for a in args), {k: shrink(v) for k, v in kwargs.items()}
    return None if failed else shrunk


def _on_frames(function: Any, signal: Signal, reason: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    signal.scope.reads_position(describe(function), reason, signal.frame)

    def crop(value: Any) -> Any:
        return value.crop() if isinstance(value, Signal) else value

    return function(*(crop(a) for a in args), **{k: crop(v) for k, v in kwargs.items()})


def check_parameters(function: Any, signal: Any, *parameters: Any) -> None:
    """Refuse a feature map among the parameters of a function."""
    if not isinstance(signal, Signal) or any(isinstance(value, Signal) for value in parameters):
        raise map_as_parameter(function, signal, *parameters)


def map_as_parameter(function: Any, *values: Any) -> UnsupportedOperation:
    """Return the error for a feature map among the parameters of a function that takes one map alone."""
    signal = first_signal(*values)
    assert signal is not None
    return signal.scope.unsupported(
        describe(function), "a feature map is its parameter (a weight, for example), not only its input"
    )
