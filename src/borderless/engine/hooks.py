"""Hooks that a conversion registers on a model: two on its root, which run the pass, and a guard on each child.

The handles of all of them are kept beside the conversion. They are what removes the hooks, and when a model is loaded
in another process they move PyTorch's count of hooks past these, which hooks of the user would otherwise replace.
"""

import weakref
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.utils.hooks import RemovableHandle

from borderless.engine.outputs import kept_map, release
from borderless.engine.signal import Signal
from borderless.engine.torch_internals import current_graph_task_id, forward_pre_hooks, running_modules
from borderless.errors import ConversionError

_ENDING = "_borderless_ending"  # an attribute of a call's keyword arguments: what runs when they go
# Called for what they hold, never themselves.
_UNCALLED = (nn.ModuleList, nn.ModuleDict)


class Pass(Protocol):
    """The code that runs before and after a model's own."""

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Return the arguments that the model gets instead."""
        ...

    def leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        """Return the output that the caller gets instead."""
        ...


@dataclass
class Hooks:
    """The hooks of a converted model; `conversion` may be exchanged while they stay in their order."""

    conversion: Pass
    handles: list[RemovableHandle] = field(default_factory=list)
    guards: list[RemovableHandle] = field(default_factory=list)

    @classmethod
    def register(cls, model: nn.Module, conversion: Pass) -> "Hooks":
        """Register the pair on `model`, and guards on its parts."""
        made = cls(conversion)
        # First in, last out: the hooks of the user see tensors, on both sides.
        made.handles = [
            model.register_forward_pre_hook(_RootHook(made, "enter"), with_kwargs=True),
            model.register_forward_hook(_RootHook(made, "leave"), with_kwargs=True, prepend=True, always_call=True),
        ]
        return made

    def guard(self, model: nn.Module) -> None:
        """Guard the parts that `model` has now, instead of those that it had."""
        _remove(self.guards)
        for name, part in _called_parts(model):
            guard = Guard(type(model).__name__, name)
            self.guards.append(part.register_forward_pre_hook(guard, with_kwargs=True))

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Run before the model's forward."""
        args, kwargs = self.conversion.enter(module, args, kwargs)
        return args, _until_the_call_ends(kwargs, module)

    def leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        """Run after the model's forward."""
        if (ending := getattr(kwargs, _ENDING, None)) is not None:
            ending.detach()
        return self.conversion.leave(module, args, kwargs, output)

    def remove(self) -> None:
        """Remove the pair and the guards."""
        _remove(self.handles)
        _remove(self.guards)


def hooks_of(model: nn.Module) -> Hooks | None:
    """Return the hooks that a conversion registered on `model` itself, or None."""
    for hook in forward_pre_hooks(model):
        if isinstance(hook, _RootHook):
            return hook.hooks
    return None


def _until_the_call_ends(kwargs: dict[str, Any], module: nn.Module) -> dict[str, Any]:
    """Return `kwargs` of a call, with which go, when the call's frame goes, the maps that `module` has kept.

    PyTorch calls no hook after a KeyboardInterrupt or another exception that is no Exception.
    """
    held = OrderedDict(kwargs)  # a dict that can be watched, and that PyTorch's trees know
    ending = weakref.finalize(held, release, module, partial(kept_map, is_failing=True))
    ending.atexit = False
    setattr(held, _ENDING, ending)
    return held


class _NotScriptable(ConversionError, AttributeError):
    """An AttributeError, so that whoever asks whether a hook has a name hears no."""


class _Hook:
    """A hook of a converted model. TorchScript asks a hook for its name, and would then compile it."""

    @property
    def __name__(self) -> str:
        raise _NotScriptable(
            "Expected plain PyTorch modules but got a converted model, or a part of one, in torch.jit.script. Freeze "
            "it: bl.freeze(model, example), or record it for one size of image with torch.jit.trace(model, example)"
        )


@dataclass(frozen=True, eq=False)
class _RootHook(_Hook):
    hooks: Hooks
    step: Literal["enter", "leave"]

    def __call__(self, *args: Any) -> Any:
        return getattr(self.hooks, self.step)(*args)


@dataclass(frozen=True)
class Guard(_Hook):
    """A hook on a part of a converted model: it refuses images that did not come through the model itself.

    It holds names alone, so that a part can be copied and stored without the rest.
    """

    model: str
    part: str

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> None:
        """Refuse a plain image while the model itself is not running."""
        if next(module.parameters(), None) is None:  # a loss or a metric that the model holds
            return
        if not any(map(_is_plain_map, args)) and not (kwargs and any(map(_is_plain_map, kwargs.values()))):
            return
        if not _is_under_way(module):
            raise ConversionError(
                f"Expected the converted {self.model} to be called itself but got a call of its part {self.part!r} on "
                f"an ordinary tensor, which would run without the border. {way_in(self.model)}"
            )


def way_in(model: str) -> str:
    """Return the advice for code that would run `model` past its conversion."""
    return (
        f"Call {model} itself, not its forward, its parts, or a trace of it; or put what you want to call "
        "(forward_features, say) into a small module whose forward calls it, and convert that; or make the feature "
        "extractor first and convert it: bl.convert(create_feature_extractor(model, ...), border), or timm's "
        "features_only=True"
    )


def _remove(handles: list[RemovableHandle]) -> None:
    while handles:
        handles.pop().remove()


def _called_parts(model: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """Return the direct children of `model`, and instead of those that are mere folders what they hold."""
    parts: list[tuple[str, nn.Module]] = []
    for name, child in model.named_children():
        if isinstance(child, _UNCALLED) or type(child) is nn.Module:
            parts += _called_parts(child, f"{prefix}{name}.")
        elif not isinstance(child, torch.jit.ScriptModule):  # which takes no hooks, and no Signals either
            parts.append((prefix + name, child))
    return parts


def _is_plain_map(value: Any) -> bool:
    """Return whether `value` holds values with a position that no Signal carries, or a tracer's proxy for them."""
    if isinstance(value, Signal):
        return False
    if isinstance(value, Tensor):
        return value.ndim > 2 and value.is_floating_point() and any(size > 1 for size in value.shape[2:])
    if isinstance(value, list | tuple):
        return any(map(_is_plain_map, value))
    if isinstance(value, dict):
        return any(map(_is_plain_map, value.values()))
    return isinstance(value, Proxy)


def _is_under_way(module: nn.Module) -> bool:
    """Return whether a converted model that contains `module` is running: it may have cropped maps to tensors.

    The interpreter's stack knows that for every thread and task, and forgets it with any exception. A backward pass
    computes again what a checkpoint left out, after the model has returned.
    """
    if current_graph_task_id() != -1:
        return True
    converted = (root for root in running_modules() if hooks_of(root) is not None)
    return any(part is module for root in converted for part in root.modules())
