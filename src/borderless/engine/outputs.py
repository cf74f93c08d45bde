"""Exit of a converted model: ordinary tensors, in whatever its output is, and in what the model keeps on itself.

No tensor leaves as a view with strides of 0, whose cells share their memory: a write to one would be a write to all.
"""

import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, NoneType
from typing import Any

import torch
from torch import Tensor, nn

from borderless.engine.leaving import LeftCells, unwatched
from borderless.engine.signal import Signal
from borderless.engine.torch_internals import tree_flatten, tree_unflatten
from borderless.errors import BorderlessError, ImageError

_ATOMS = frozenset(
    {NoneType, bool, int, float, complex, str, bytes, torch.device, torch.dtype, torch.Size}
    | {torch.SymInt, torch.SymFloat, torch.SymBool, FunctionType, MethodType, BuiltinFunctionType}
)
_OPAQUE = (nn.Module, type, ModuleType)
# Of what a module holds: tensors of its own, and what may hold a map.
_NOT_KEPT = _ATOMS | {Tensor, nn.Parameter, set}
_HOLDERS = (list, tuple, dict, deque)
_LAYERS = frozenset(kind for kind in vars(nn).values() if isinstance(kind, type) and issubclass(kind, nn.Module)) - {
    nn.Module,
    nn.Sequential,
    nn.ModuleList,
    nn.ModuleDict,
}
# What every module has, and no map is kept in, but among the buffers.
_BOOKKEEPING = frozenset(vars(nn.Module()))


def ordinary(output: Any, of_signal: Callable[[Signal], Any]) -> Any:
    """Return `output` with `of_signal` of every Signal in it instead, and no view with strides of 0.

    Containers, dataclasses and other objects are copied where something in them changes, and only then; generators and
    other iterators stay lazy. What was one object stays one.
    """
    made: dict[int, Any] = {}

    def changed(value: Any) -> Any:
        if type(value) in _ATOMS or isinstance(value, _OPAQUE):
            return value
        if id(value) not in made:
            made[id(value)] = value  # for a part that refers to the whole
            made[id(value)] = _changed(value, changed, of_signal)
        return made[id(value)]

    return changed(output)


def _changed(value: Any, changed: Callable[[Any], Any], of_signal: Callable[[Signal], Any]) -> Any:
    if isinstance(value, Signal):
        return of_signal(value)
    if isinstance(value, Tensor):
        return materialized(unwatched(value))
    if isinstance(value, Iterator) and type(value).__module__ in ("builtins", "itertools"):
        return (ordinary(item, of_signal) for item in value)
    parts, structure = tree_flatten(value)
    if not (len(parts) == 1 and parts[0] is value):  # one of PyTorch's containers, or one registered with it
        new = [changed(part) for part in parts]
        return tree_unflatten(new, structure) if _differ(parts, new) else value
    if isinstance(value, list | tuple | set | frozenset):  # of a class of their own
        new = [changed(part) for part in value]
        return type(value)(new) if _differ(value, new) else value
    held = {name: (part, changed(part)) for name, part in _attributes(value).items()}
    items = {key: (part, changed(part)) for key, part in value.items()} if isinstance(value, dict) else {}
    if all(old is new for old, new in (*held.values(), *items.values())):
        return value
    kind: Any = type(value)
    made = kind.__new__(kind)  # copy.copy would call constructors that want arguments
    for name, (_, new) in held.items():
        object.__setattr__(made, name, new)  # of a frozen dataclass too
    put: Any = OrderedDict.__setitem__ if isinstance(value, OrderedDict) else dict.__setitem__
    for key, (_, new) in items.items():
        put(made, key, new)
    return made


def _differ(old: Any, new: Any) -> bool:
    return any(a is not b for a, b in zip(old, new, strict=True))


def _attributes(value: Any) -> dict[str, Any]:
    slots = [getattr(kind, "__slots__", ()) for kind in type(value).__mro__]
    names = [name for some in slots for name in ((some,) if isinstance(some, str) else some)]
    held = {name: getattr(value, name) for name in names if not name.startswith("__") and hasattr(value, name)}
    return {**held, **getattr(value, "__dict__", {})}


def materialized(tensor: Tensor) -> Tensor:
    """`tensor`, or a copy in which each cell has memory of its own."""
    if tensor.layout is torch.strided and any(stride == 0 for stride in tensor.stride()):
        return tensor.clone(memory_format=torch.contiguous_format)
    return tensor


def on_frame(signal: Signal) -> Tensor:
    """Return the map on its frame, in memory of its own."""
    return materialized(signal.crop())


def kept_map(signal: Signal, is_failing: bool = False) -> Tensor:
    """Return what a model goes on to keep of a map: its frame, or its window where the border does not know the frame.

    While a pass ends in an error, or with `is_failing`, this raises none of its own: a map without known cells is kept
    as NaN.
    """
    is_failing = is_failing or sys.exc_info()[1] is not None
    try:
        return on_frame(signal)
    except BorderlessError as error:
        if not is_failing and not isinstance(error, ImageError):
            raise
    try:
        return materialized(signal.window)
    except BorderlessError:
        return torch.full(signal.shape, torch.nan, dtype=signal.dtype, device=signal.device)


def release(model: nn.Module, of_signal: Callable[[Signal], Any] = kept_map) -> None:
    """Put ordinary tensors in the place of all Signals that `model` keeps: in attributes, lists, tuples and dicts.

    This runs after every pass. PyTorch's own layers, which are most of a model, keep no maps unless a hook makes them.
    """
    waiting, seen = [model], set()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        if isinstance(module, torch.jit.ScriptModule):  # holds its attributes elsewhere, and no maps
            continue
        attributes = vars(module)
        for child in attributes["_modules"].values():
            if child is not None and (not _keeps_no_maps(child, vars(child)) or vars(child)["_modules"]):
                waiting.append(child)
        if _keeps_no_maps(module, attributes):
            continue
        for name in attributes.keys() - _BOOKKEEPING:
            _release_from(attributes, name, of_signal, ())
        _release_from(attributes, "_buffers", of_signal, ())


def _keeps_no_maps(module: nn.Module, attributes: dict[str, Any]) -> bool:
    return type(module) in _LAYERS and not attributes["_forward_hooks"] and not attributes["_forward_pre_hooks"]


def _release_from(holder: Any, key: Any, of_signal: Callable[[Signal], Any], around: tuple[Any, ...]) -> None:
    """around: the containers that hold `holder`, so that one which holds itself ends the search."""
    value = holder[key]
    if type(value) in _NOT_KEPT:
        return
    if isinstance(value, Signal):
        holder[key] = of_signal(value)
    elif isinstance(value, LeftCells):
        holder[key] = unwatched(value)
    elif isinstance(value, _HOLDERS) and not any(value is outer for outer in around):
        if _NOT_KEPT.issuperset(map(type, value.values() if isinstance(value, dict) else value)):
            return
        if isinstance(value, tuple):
            holder[key] = ordinary(value, of_signal)
        else:
            for inner in list(value) if isinstance(value, dict) else range(len(value)):
                _release_from(value, inner, of_signal, (*around, value))
