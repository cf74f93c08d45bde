"""Put any model, untouched, under a border: a hook turns its images into Signals and what comes out into tensors.

Nothing in the model is replaced or renamed; the conversion is one pair of forward hooks on the root module, which is
copied and pickled with it, and a guard on each child, which refuses calls past the root (see `hooks`).
"""

import copy
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor, nn

from borderless.engine.border import Border, BorderName, Phase
from borderless.engine.forward_pass import ForwardPass
from borderless.engine.hooks import Hooks, hooks_of
from borderless.engine.image_arguments import ImageArguments, Images
from borderless.engine.inputs import as_signals
from borderless.engine.outputs import on_frame, ordinary, release
from borderless.engine.rules.frame_pools import as_map
from borderless.engine.torch_internals import compile_callback, is_compiled
from borderless.errors import ApproximatePhaseWarning, BorderError, ConversionError
from borderless.runtime.evaluation import exclusive

Model = TypeVar("Model", bound=nn.Module)
Output = Literal["frame", "signal"]
OUTPUTS: tuple[str, ...] = get_args(Output)


@dataclass
class Conversion:
    """What was done to a model. `Hooks` calls its two methods; `warned` remembers which modules were named already."""

    border: Border
    strict: bool = False
    output: Output = "frame"
    warned: set[str] = field(default_factory=set)
    observer: Any = None
    images: ImageArguments | None = None

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Turn the images among the arguments into Signals of a new forward pass."""
        # Dynamo runs what it cannot trace as ordinary Python, and goes on to compile what that calls. The check stands
        # here, because Dynamo would also try to trace a function of its own.
        if torch.compiler.is_dynamo_compiling() or ("torch._dynamo" in sys.modules and callable(compile_callback())):
            raise ConversionError(
                f"Expected plain PyTorch operations but got a converted {type(module).__name__} inside torch.compile. "
                "Freeze it first: torch.compile(bl.freeze(model, example).module())"
            )
        scope = ForwardPass(self.border, module, self.strict, self.warned, self.observer)
        return as_signals(args, kwargs, scope, self.images)

    def leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        """Also called, without an output, when the pass ends in an error."""
        release(module)
        return ordinary(output, on_frame if self.output == "frame" else as_map)


def convert(
    model: Model,
    border: BorderName | Border,
    *,
    phase: Phase = "fixed",
    background: float | Sequence[float] | Tensor = 0.0,
    reach: int | None = None,
    strict: bool = False,
    output: Output = "frame",
    images: Images | None = None,
) -> Model:
    """A copy of `model` that runs under `border`; the model itself is left as it is.

    border: a name ("valid", "zero", "reflect", "replicate", "circular", "full", "infinite") or a `Border`, which then
    brings its own phase, background and reach. phase: "adaptive" chooses, per sample and stride, the sublattice with
    the most energy: exact under "infinite" (any whole-pixel shift) and "circular", approximate elsewhere. background:
    what surrounds the images under "infinite": a number or one per channel, in the units of the input. reach: most
    cells that a map may grow beyond its frame. strict: refuse what reads absolute position instead of warning.
    output: "frame" returns tensors of the unmodified model's shapes, "signal" returns dense outputs as Signals. images:
    which arguments of `forward` are images: names or positions, `("x",)`, or with layouts, `{"wave": "NT"}`, `{"x":
    "NTC"}`, `{"x": "NHWC"}`, or `{"x": "NBCHW"}` for B images per sample. By default the first floating-point tensor
    with as many dimensions as the first convolution takes, and others of its size along space. Everything else passes
    as it is: text, time steps, labels, masks, hidden states. An argument that is named may be a list of images, also
    of smaller ones by a whole stride.

    Parameter names, device, dtype and mode stay as they are, also through copying, saving and loading. Only a call of
    the model itself runs under the border. `model.forward(...)`, `model.forward_features(...)`, calls of its children,
    and traces (`torch.fx.symbolic_trace`, `create_feature_extractor`) raise ConversionError where a child of the model
    gets an image: put what you call into a small module whose forward calls it, and convert that, or make the feature
    extractor first and convert it. A model without children cannot be guarded so. `torch.compile` of a converted model
    is refused; compile what `freeze` makes of it: `torch.compile(bl.freeze(model, example).module())`. Maps that the
    model keeps on itself, in attributes, lists, tuples and dicts, are tensors after each call.

    >>> import torch, borderless as bl
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, stride=2, padding=1), torch.nn.AdaptiveAvgPool2d(1))
    >>> bl.convert(model, "infinite", phase="adaptive")(torch.zeros(2, 1, 9, 9)).shape
    torch.Size([2, 4, 1, 1])
    """
    made = make_border(border, phase, background, reach)
    converted = copied(model)
    check_convertible(converted)
    named = ImageArguments.of(images, converted)
    return _attach(converted, Conversion(made, strict, _checked_output(output), images=named))


def convert_(
    model: Model,
    border: BorderName | Border,
    *,
    phase: Phase = "fixed",
    background: float | Sequence[float] | Tensor = 0.0,
    reach: int | None = None,
    strict: bool = False,
    output: Output = "frame",
    images: Images | None = None,
) -> Model:
    """Like `convert`, in place: puts `model` itself under `border`, instead of any earlier one, and returns it."""
    made = make_border(border, phase, background, reach)
    check_convertible(model)
    named = ImageArguments.of(images, model)
    return _attach(model, Conversion(made, strict, _checked_output(output), images=named))


def revert_(model: Model) -> Model:
    """Undo `convert_` in place; a model that was not converted is an error."""
    if conversion_of(model) is None:
        raise ConversionError(
            f"got a {type(model).__name__} that is not converted; needed: a model that bl.convert or bl.convert_ "
            "returned (the module itself, not one around it)"
        )
    with exclusive(model):
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
    images: Images | None = None,
) -> Iterator[Model]:
    """`model` under `border` for the length of a with-block; whatever it was before is restored afterwards.

    observer: called with every `Event` of the passes in the block, for measures. Raises ConversionError when another
    thread or asyncio task is inside such a block, or a measure, of the model: give each its own copy by `convert`.
    """
    made = make_border(border, phase, background, reach)
    check_convertible(model)
    named = ImageArguments.of(images, model)
    with attached(model, Conversion(made, strict, _checked_output(output), observer=observer, images=named)):
        yield model


@contextmanager
def attached(model: nn.Module, conversion: Conversion) -> Iterator[None]:
    """`model` under `conversion` instead of its own, if it has one, for the length of a with-block.

    Its images are those that its own conversion names, unless the new one names some.
    """
    with exclusive(model):
        before = conversion_of(model)
        if before is not None and conversion.images is None:
            conversion.images = before.images
        try:
            _attach(model, conversion)
            yield
        finally:
            if before is None:
                _detach(model)
            else:
                _attach(model, before)


def conversion_of(model: nn.Module) -> Conversion | None:
    """The conversion that `model` itself carries, or None."""
    hooks = hooks_of(model)
    return None if hooks is None else hooks.conversion  # pyright: ignore[reportReturnType]


def border_of(model: nn.Module) -> Border | None:
    """Return the border that `model` was converted to, or None if it was not converted.

    Args:
        model: The module itself, not one around it (`DistributedDataParallel(model)`, say).

    Example:
        >>> import torch, borderless as bl
        >>> bl.border_of(bl.convert(torch.nn.Conv2d(1, 4, 3), "full"))
        Border('full')
    """
    conversion = conversion_of(model)
    return None if conversion is None else conversion.border


def make_border(
    border: BorderName | Border, phase: Phase, background: float | Sequence[float] | Tensor, reach: int | None
) -> Border:
    """Return the `Border` that a name and options, or a `Border` without options, stand for."""
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


def copied(model: Model) -> Model:
    """Return a copy in the same modes and under the same border.

    torch.fx copies its graphs without hooks and in training mode. A pass that the user interrupted may have left maps
    on `model`, which are no tensors to copy.
    """
    if not isinstance(model, nn.Module):
        return model
    release(model)
    made = copy.deepcopy(model)
    conversion = conversion_of(model)
    if conversion is not None and conversion_of(made) is None:
        _attach(made, copy.deepcopy(conversion))
    made.train(model.training)
    modes = {name: module.training for name, module in model.named_modules()}
    for name, module in made.named_modules():
        module.training = modes.get(name, module.training)
    return made


def check_convertible(model: Any) -> None:
    """Raise ConversionError for what has no convolutions to convert, or cannot be converted as it is."""
    if not isinstance(model, nn.Module):
        raise ConversionError(f"got {type(model).__name__}; needed: a torch.nn.Module")
    if isinstance(model, torch.jit.ScriptModule):
        raise ConversionError(
            f"got a TorchScript module ({type(model).__name__}), whose operations borderless cannot see; needed: the "
            "Python module that it was made from"
        )
    for name, module in model.named_modules():
        if is_compiled(module):
            raise ConversionError(
                f"Expected a model of plain modules but got {f'{name!r} in it' if name else type(model).__name__} "
                "compiled. Convert and freeze before compiling: "
                "torch.compile(bl.freeze(bl.convert(model, border), example).module())"
            )
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
    with exclusive(model):
        hooks = hooks_of(model)
        if hooks is None:
            hooks = Hooks.register(model, conversion)
        hooks.conversion = conversion
        hooks.guard(model)
    return model


def _detach(model: nn.Module) -> None:
    hooks = hooks_of(model)
    if hooks is not None:
        hooks.remove()
