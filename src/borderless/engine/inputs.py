"""How a converted model's images enter: as Signals of a new forward pass."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.fx import Proxy

from borderless.engine.forward_pass import ForwardPass
from borderless.engine.hooks import way_in
from borderless.engine.signal import Signal
from borderless.engine.torch_internals import tree_any, tree_leaves, tree_map
from borderless.errors import BorderlessError, ConversionError, ImageError


def as_signals(args: tuple[Any, ...], kwargs: dict[str, Any], scope: ForwardPass) -> tuple[Any, Any]:
    """Return a model's arguments with every image, (N, C, *space) in floating point, as a Signal of the pass `scope`.

    Raises ConversionError inside another converted model, ImageError without an image or for one that cannot be.
    """
    if tree_any(lambda leaf: isinstance(leaf, Signal), (args, kwargs)):
        raise ConversionError(
            f"{type(scope.root).__name__} is converted to {scope.border!r} and is called inside another converted "
            "model; convert one or the other (bl.revert_ undoes a conversion)"
        )
    entered = tree_map(lambda leaf: _as_signal(leaf, scope), (args, kwargs))
    if not tree_any(lambda leaf: isinstance(leaf, Signal), entered):
        raise _no_image(scope.root, tree_leaves((args, kwargs)))
    return entered


def _as_signal(leaf: Any, scope: ForwardPass) -> Any:
    if not isinstance(leaf, Tensor) or leaf.ndim < 3 or not leaf.is_floating_point():
        return leaf
    shape = tuple(leaf.shape)
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


def _no_image(module: nn.Module, arguments: list[Any]) -> BorderlessError:
    """What to raise for arguments none of which is an image."""
    name = type(module).__name__
    if any(isinstance(argument, Proxy) for argument in arguments):
        return ConversionError(f"Expected images but got a trace by torch.fx of the converted {name}. {way_in(name)}")
    tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
    for tensor in tensors:
        if tensor.ndim > 2:
            return ImageError(
                f"{name} got an image of {tensor.dtype} and shape {tuple(tensor.shape)}; needed: a floating-point "
                "image, scaled and normalized as the model expects; for example images.float() / 255"
            )
    came = f"; got tensors of shape {', '.join(str(tuple(tensor.shape)) for tensor in tensors)}" if tensors else ""
    return ImageError(f"{name} got no image; needed: a floating-point tensor (batch, channels, *space){came}")


@contextmanager
def arguments_named(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[None]:
    """Say how arguments are given where a call of `model` with an image, `args` and `kwargs` fails because of them.

    A TypeError of the model's own code stays what it is.
    """
    try:
        yield
    except TypeError as error:
        try:
            inspect.signature(model.forward).bind(None, *args, **kwargs)
        except TypeError as reason:
            raise ConversionError(
                f"Expected the arguments of {type(model).__name__}.forward but got an image, args={args!r} and "
                f"kwargs={kwargs!r}: {reason}. Give what comes after the image with args=(…,) or kwargs={{…}}"
            ) from error
        raise


def input_channels(model: nn.Module) -> int:
    """Return how many channels the first convolution of a model takes.

    Raises:
        ConversionError: it has no convolution.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return module.in_channels
    raise ConversionError(
        f"got a {type(model).__name__} without a convolution, so its number of input channels is unknown; "
        "needed: channels=C"
    )
