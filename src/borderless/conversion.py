"""Conversion of an unmodified model to a border: a hook turns its images into Signals and its output into tensors.

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

from borderless.engine.border import Border, Borders, Phase
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
    """A conversion of a model; `warned` holds the modules that a warning has named."""

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
        """Turn the output into tensors; without an output: release the maps that the model keeps, after an error."""
        release(module)
        return ordinary(output, on_frame if self.output == "frame" else as_map)


def convert(
    model: Model,
    border: Borders | Border,
    *,
    phase: Phase = "fixed",
    background: float | Sequence[float] | Tensor = 0.0,
    reach: int | None = None,
    strict: bool = False,
    output: Output = "frame",
    images: Images | None = None,
) -> Model:
    """Return a copy of `model` that runs under `border`; the model itself is left as it is.

    Parameter names, device, dtype and mode stay as they are, also through copying, saving and loading. Only a call of
    the model itself runs under the border. `model.forward(...)`, `model.forward_features(...)`, calls of its children,
    and traces (`torch.fx.symbolic_trace`, `create_feature_extractor`) raise ConversionError where a child of the model
    gets an image: put what you call into a small module whose forward calls it, and convert that, or make the feature
    extractor first and convert it. A model without children has no such guard. `torch.compile` of a converted model is
    refused; compile the frozen program: `torch.compile(bl.freeze(model, example).module())`. Feature maps that the
    model keeps on itself, in attributes, lists, tuples and dicts, are tensors after each call.

    A pretrained network relies on its original padding, so its accuracy drops right after conversion; fine-tune it.

    Args:
        model: Any `torch.nn.Module` with convolutions.
        border: A name ("valid", "zero", "reflect", "replicate", "circular", "full", "infinite", "causal"), one for each
            axis, ("zero", "circular") for (height, width), or a `Border` that holds the options as well.
        phase: "fixed", or "adaptive", which chooses, per sample and stride, the sublattice with the most energy: exact
            under "infinite" (any whole-pixel shift), and under "circular" where the total stride divides the image's
            size; approximate elsewhere.
        background: Value around the images under "infinite", in input units: a number, or one per channel.
        reach: Number of cells that a feature map may grow beyond its frame; None: unlimited, exact and more expensive.
        strict: Whether to raise where the model reads absolute position, instead of warning.
        output: "frame" returns tensors of the unmodified model's shapes, "signal" returns dense outputs as Signals.
        images: Arguments of `forward` that are images: names or positions, `("x",)`, or with layouts, `{"wave": "NT"}`,
            `{"x": "NTC"}`, `{"x": "NHWC"}`, `{"x": "NBCHW"}` (B images per sample). By default the first floating-point
            tensor with as many dimensions as the first convolution takes, and others of its size along space. All other
            arguments (text, time steps, labels, masks, hidden states) pass unchanged. A named argument may be a list of
            images, also of smaller ones by a whole stride.

    Returns:
        The converted copy, of the same class. Its output has the shapes and types of the unmodified model's.

    Raises:
        BorderError: The border or an option of it does not exist, or has no effect.
        ConversionError: The model cannot be converted as it is: compiled, scripted, or converted in part.

    Shape:
        Images ``(N, C, *space)`` of floating point, of any size that the model takes.

    Example:
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
    border: Borders | Border,
    *,
    phase: Phase = "fixed",
    background: float | Sequence[float] | Tensor = 0.0,
    reach: int | None = None,
    strict: bool = False,
    output: Output = "frame",
    images: Images | None = None,
) -> Model:
    """Convert `model` in place, with the arguments of `convert`, and return it; an earlier border is replaced."""
    made = make_border(border, phase, background, reach)
    check_convertible(model)
    named = ImageArguments.of(images, model)
    return _attach(model, Conversion(made, strict, _checked_output(output), images=named))


def revert_(model: Model) -> Model:
    """Undo `convert_` in place and return the model.

    Raises:
        ConversionError: The model is not converted.
    """
    if conversion_of(model) is None:
        raise ConversionError(
            "Expected a model that bl.convert or bl.convert_ returned (the module itself, not one around it) but got a "
            f"{type(model).__name__} that is not converted."
        )
    with exclusive(model):
        _detach(model)
    return model


@contextmanager
def bordered(
    model: Model,
    border: Borders | Border,
    *,
    phase: Phase = "fixed",
    background: float | Sequence[float] | Tensor = 0.0,
    reach: int | None = None,
    strict: bool = False,
    output: Output = "frame",
    observer: Any = None,
    images: Images | None = None,
) -> Iterator[Model]:
    """Run `model` under `border` within a with-block, and restore its earlier state afterwards.

    Takes the arguments of `convert`.

    Args:
        model: Any model that `convert` takes.
        border: A name, one for each axis, or a `Border`.
        phase: "fixed" or "adaptive".
        background: Value around the images under "infinite".
        reach: Number of cells that a feature map may grow beyond its frame; None: unlimited.
        strict: Whether to raise where the model reads absolute position.
        output: "frame" or "signal".
        observer: Called with every `Event` of the passes in the block, for measures.
        images: Arguments of `forward` that are images.

    Raises:
        ConversionError: Another thread or asyncio task is inside such a block, or a measure, of the model; give each
            its own copy by `convert`.
    """
    made = make_border(border, phase, background, reach)
    check_convertible(model)
    named = ImageArguments.of(images, model)
    with attached(model, Conversion(made, strict, _checked_output(output), observer=observer, images=named)):
        yield model


@contextmanager
def attached(model: nn.Module, conversion: Conversion) -> Iterator[None]:
    """Run `model` under `conversion` instead of its own, if it has one, within a with-block.

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
    """Return the conversion that `model` itself carries, or None."""
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
    border: Borders | Border, phase: Phase, background: float | Sequence[float] | Tensor, reach: int | None
) -> Border:
    """Return the `Border` that a name and options, or a `Border` without options, stand for."""
    if isinstance(background, Tensor):
        background = background.flatten().tolist()
    color = tuple(background) if isinstance(background, Sequence) else background
    if isinstance(border, Border):
        if (phase, color, reach) != ("fixed", 0.0, None):
            raise BorderError(
                f"Expected options inside Border(...) but got {border!r} and options beside it; move them into it."
            )
        made = border
    else:
        made = Border(border, phase, reach, color)  # pyright: ignore[reportArgumentType]  which makes tuples of lists
    if made.is_adaptive and not made.phase_is_exact:
        warnings.warn(
            f"phase='adaptive' is exact under 'infinite' and 'circular'; under {made.name!r} it is approximate, "
            "because cells come and go at the border",
            ApproximatePhaseWarning,
            stacklevel=3,
        )
    return made


def copied(model: Model) -> Model:
    """Return a copy of a model in the same modes and under the same border.

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
    """Raise ConversionError for a model without convolutions, or one that cannot be converted as it is."""
    if not isinstance(model, nn.Module):
        raise ConversionError(f"Expected a torch.nn.Module but got {type(model).__name__}.")
    if isinstance(model, torch.jit.ScriptModule):
        raise ConversionError(
            f"Expected a Python module but got a TorchScript module ({type(model).__name__}), whose operations "
            "borderless cannot see; convert the module that it was made from."
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
                f"Expected a model without converted parts but got one whose module {name!r} is converted already; "
                f"convert only one of them (bl.revert_(model.{name}) undoes it)."
            )


def _checked_output(output: str) -> Any:
    if output not in OUTPUTS:
        raise BorderError(f"Expected output to be one of {', '.join(OUTPUTS)} but got {output!r}.")
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
