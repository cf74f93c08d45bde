"""Put any model, untouched, under a border: a hook turns its images into Signals and what comes out into tensors.

Nothing in the model is replaced or renamed; the conversion is one pair of forward hooks on the root module, which is
copied and pickled with it. Calling `model(images)` runs them; calling `model.forward(images)` or a submodule does not.
"""

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor, nn

from borderless.borders import Border, BorderName, Phase
from borderless.errors import ApproximatePhaseWarning, BorderError, ConversionError, ImageError
from borderless.rules.uniform import UniformMaps
from borderless.scope import Scope
from borderless.signal import Signal
from borderless.torch_internals import tree_any, tree_map

Model = TypeVar("Model", bound=nn.Module)
Output = Literal["frame", "signal"]
OUTPUTS: tuple[str, ...] = get_args(Output)


@dataclass
class Conversion:
    """What was done to a model. Its two methods are the hooks; `warned` remembers which modules were named already."""

    border: Border
    strict: bool = False
    output: Output = "frame"
    warned: set[str] = field(default_factory=set)
    observer: Any = None

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        scope = Scope(self.border, module, self.strict, self.warned, self.observer)
        if tree_any(lambda leaf: isinstance(leaf, Signal), (args, kwargs)):
            raise ConversionError(
                f"{type(module).__name__} is converted to {self.border!r} and is called inside another converted "
                "model; convert one or the other (bl.revert_ undoes a conversion)"
            )
        entered = tree_map(lambda leaf: _as_signal(leaf, scope), (args, kwargs))
        if not tree_any(lambda leaf: isinstance(leaf, Signal), entered):
            raise ImageError(
                f"{type(module).__name__} got no image; needed: a floating-point tensor (batch, channels, *space)"
                f"{_what_came(args, kwargs)}"
            )
        return entered

    def leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        """Also called, without an output, when the pass ends in an error."""
        UniformMaps.stop(module)
        if self.output == "signal":
            return output
        return tree_map(lambda leaf: leaf.crop() if isinstance(leaf, Signal) else leaf, output)


def convert(
    model: Model,
    border: BorderName | Border,
    *,
    phase: Phase = "fixed",
    background: float | Sequence[float] | Tensor = 0.0,
    reach: int | None = None,
    strict: bool = False,
    output: Output = "frame",
) -> Model:
    """A copy of `model` that runs under `border`; the model itself is left as it is.

    border: a name ("valid", "zero", "reflect", "replicate", "circular", "full", "infinite") or a `Border`, which then
    brings its own phase, background and reach. phase: "adaptive" chooses, per sample and stride, the sublattice with
    the most energy: exact under "infinite" (any whole-pixel shift) and "circular", approximate elsewhere. background:
    what surrounds the images under "infinite": a number or one per channel, in the units of the input. reach: most
    cells that a map may grow beyond its frame. strict: refuse what reads absolute position instead of warning.
    output: "frame" returns tensors of the unmodified model's shapes, "signal" returns dense outputs as Signals.

    Parameter names, device, dtype and mode stay as they are.

    >>> import torch, borderless as bl
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, stride=2, padding=1), torch.nn.AdaptiveAvgPool2d(1))
    >>> bl.convert(model, "infinite", phase="adaptive")(torch.zeros(2, 1, 9, 9)).shape
    torch.Size([2, 4, 1, 1])
    """
    made = make_border(border, phase, background, reach)
    check_convertible(model)
    converted = copy.deepcopy(model)
    return _attach(converted, Conversion(made, strict, _checked_output(output)))


def convert_(
    model: Model,
    border: BorderName | Border,
    *,
    phase: Phase = "fixed",
    background: float | Sequence[float] | Tensor = 0.0,
    reach: int | None = None,
    strict: bool = False,
    output: Output = "frame",
) -> Model:
    """Like `convert`, in place: puts `model` itself under `border`, instead of any earlier one, and returns it."""
    made = make_border(border, phase, background, reach)
    check_convertible(model)
    return _attach(model, Conversion(made, strict, _checked_output(output)))


def revert_(model: Model) -> Model:
    """Undo `convert_` in place; a model that was not converted is an error."""
    if conversion_of(model) is None:
        raise ConversionError(
            f"got a {type(model).__name__} that is not converted; needed: a model that bl.convert or bl.convert_ "
            "returned (the module itself, not one around it)"
        )
    _detach(model)
    return model


@contextmanager
def bordered(
    model: Model,
    border: BorderName | Border,
    *,
    phase: Phase = "fixed",
    background: float | Sequence[float] | Tensor = 0.0,
    reach: int | None = None,
    strict: bool = False,
    output: Output = "frame",
    observer: Any = None,
) -> Iterator[Model]:
    """`model` under `border` for the length of a with-block; whatever it was before is restored afterwards.

    observer: called with every `Event` of the passes in the block, for measures.
    """
    made = make_border(border, phase, background, reach)
    check_convertible(model)
    with attached(model, Conversion(made, strict, _checked_output(output), observer=observer)):
        yield model


@contextmanager
def attached(model: nn.Module, conversion: Conversion) -> Iterator[None]:
    """`model` under `conversion` instead of its own, if it has one, for the length of a with-block."""
    before = conversion_of(model)
    _attach(model, conversion)
    try:
        yield
    finally:
        _detach(model)
        if before is not None:
            _attach(model, before)


def conversion_of(model: nn.Module) -> Conversion | None:
    """The conversion that `model` itself carries, or None."""
    for hook in model._forward_pre_hooks.values():
        owner = getattr(hook, "__self__", None)
        if isinstance(owner, Conversion):
            return owner
    return None


def make_border(
    border: BorderName | Border, phase: Phase, background: float | Sequence[float] | Tensor, reach: int | None
) -> Border:
    if isinstance(background, Tensor):
        background = background.flatten().tolist()
    colour = tuple(background) if isinstance(background, Sequence) else background
    if isinstance(border, Border):
        if (phase, colour, reach) != ("fixed", 0.0, None):
            raise BorderError(f"got {border!r} and options beside it; needed: the options inside Border(...)")
        made = border
    else:
        made = Border(border, phase=phase, reach=reach, background=colour)
    if made.is_adaptive and not made.phase_is_exact:
        warnings.warn(
            f"phase='adaptive' is exact under 'infinite' and 'circular'; under {made.name!r} it is approximate, "
            "because cells come and go at the border",
            ApproximatePhaseWarning,
            stacklevel=3,
        )
    return made


def check_convertible(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise ConversionError(f"got {type(model).__name__}; needed: a torch.nn.Module")
    if isinstance(model, torch.jit.ScriptModule):
        raise ConversionError(
            f"got a TorchScript module ({type(model).__name__}), whose operations borderless cannot see; needed: the "
            "Python module that it was made from"
        )
    for name, module in model.named_modules():
        if name and conversion_of(module) is not None:
            raise ConversionError(
                f"got a model whose module {name!r} is converted already; convert one or the other "
                f"(bl.revert_(model.{name}) undoes it)"
            )


def _checked_output(output: str) -> Any:
    if output not in OUTPUTS:
        raise BorderError(f"got output={output!r}; it is one of {', '.join(OUTPUTS)}")
    return output


def _attach(model: Model, conversion: Conversion) -> Model:
    _detach(model)
    # First in, last out: the hooks of the user see tensors, on both sides.
    model.register_forward_pre_hook(conversion.enter, with_kwargs=True)
    model.register_forward_hook(conversion.leave, with_kwargs=True, prepend=True, always_call=True)
    return model


def _detach(model: nn.Module) -> None:
    tables = (
        (model._forward_pre_hooks, (model._forward_pre_hooks_with_kwargs,)),
        (model._forward_hooks, (model._forward_hooks_with_kwargs, model._forward_hooks_always_called)),
    )
    for hooks, marks in tables:
        for key in [k for k, hook in hooks.items() if isinstance(getattr(hook, "__self__", None), Conversion)]:
            del hooks[key]
            for mark in marks:
                mark.pop(key, None)


def _as_signal(leaf: Any, scope: Scope) -> Any:
    if not isinstance(leaf, Tensor) or leaf.ndim < 3:
        return leaf
    shape = tuple(leaf.shape)
    if not leaf.is_floating_point():
        raise ImageError(
            f"{type(scope.root).__name__} got an image of {leaf.dtype} and shape {shape}; needed: a floating-point "
            "image, scaled and normalised as the model expects; for example images.float() / 255"
        )
    if 0 in shape:
        what = "an empty batch" if shape[0] == 0 else "an image without pixels"
        raise ImageError(f"{type(scope.root).__name__} got {what} of shape {shape}; needed: at least one of everything")
    parameter = next(scope.root.parameters(), None)
    if parameter is not None and parameter.device != leaf.device:
        raise ImageError(
            f"{type(scope.root).__name__} got an image on {leaf.device} while the model is on {parameter.device}; "
            f"needed: both on one device; for example images.to({str(parameter.device)!r})"
        )
    return Signal.from_image(leaf, scope)


def _what_came(args: Any, kwargs: Any) -> str:
    shapes: list[str] = []
    tree_map(lambda leaf: shapes.append(str(tuple(leaf.shape))) if isinstance(leaf, Tensor) else None, (args, kwargs))
    return f"; got tensors of shape {', '.join(shapes)}" if shapes else ""
