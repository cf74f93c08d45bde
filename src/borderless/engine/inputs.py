"""Entry of a converted model's images, as Signals of a new forward pass."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.fx import Proxy

from borderless.engine.border import Border
from borderless.engine.forward_pass import ForwardPass
from borderless.engine.geometry import Slide, ceil_div
from borderless.engine.hooks import way_in
from borderless.engine.image_arguments import (
    ImageArguments,
    dimensions,
    first_convolution,
    images_per_sample,
    in_layout,
    out_of_layout,
    put_images,
    with_image,
)
from borderless.engine.leaving import LeftCells
from borderless.engine.receptive_field import PIXEL, slid
from borderless.engine.signal import Signal
from borderless.engine.torch_internals import tree_any, tree_leaves
from borderless.errors import BorderlessError, ConversionError, ImageError


def as_signals(
    args: tuple[Any, ...], kwargs: dict[str, Any], scope: ForwardPass, images: ImageArguments | None = None
) -> tuple[Any, Any]:
    """Return a model's arguments with every image as a Signal of the pass `scope`.

    images: which arguments are images; None: see `image_arguments`. Other maps pass as ordinary tensors that are
    watched, so that a convolution of one is named.

    Raises ConversionError inside another converted model and for a list of single images, ImageError without an image
    or for one that cannot be.
    """
    if tree_any(lambda leaf: isinstance(leaf, Signal), (args, kwargs)):
        raise ConversionError(
            f"Expected a model without converted parts but got {type(scope.root).__name__}, converted to "
            f"{scope.border!r} and called inside another converted model; convert only one of them (bl.revert_ undoes "
            "a conversion)."
        )
    if images is None:
        _refuse_single_images(scope, (*args, *kwargs.values()))
    made: list[Signal] = []

    def make(leaf: Tensor, layout: str | None) -> Any:
        made.append(_as_signal(out_of_layout(leaf, layout), scope, made))
        return in_layout(made[-1], layout, images_per_sample(leaf, layout))

    def watch(leaf: Tensor, name: str) -> Tensor:
        if leaf.ndim != (dimensions(scope.root) or leaf.ndim):
            return leaf
        return LeftCells.of(leaf, range(2, leaf.ndim), scope, f"the argument {name!r}, which is not among the images")

    entered = put_images(scope.root, images, args, kwargs, make, watch)
    if not made:
        raise _no_image(scope.root, tree_leaves((args, kwargs)), images)
    return entered


def _as_signal(image: Tensor, scope: ForwardPass, before: list[Signal]) -> Signal:
    """before: the images of the pass so far; a smaller one is a map of theirs, thinned by a whole stride."""
    shape = tuple(image.shape)
    if 0 in shape:
        what = "an empty batch" if shape[0] == 0 else "an image without pixels"
        raise ImageError(
            f"Expected at least one image with at least one pixel but got {what} of shape {shape} for "
            f"{type(scope.root).__name__}."
        )
    parameter = next(scope.root.parameters(), None)
    if parameter is not None and parameter.device != image.device:
        raise ImageError(
            f"Expected the image and the model on one device but got an image on {image.device} and "
            f"{type(scope.root).__name__} on {parameter.device}; move one, for example "
            f"images.to({str(parameter.device)!r})."
        )
    if image.ndim < 3:
        raise ImageError(
            f"Expected images (N, C, *space) but got shape {shape}; for another layout name it, images={{'x': 'NT'}}"
        )
    made, scope.rows = Signal.from_image(image, scope), image.shape[0]
    first = before[0] if before else made
    if first.frame == made.frame or len(first.frame) != len(made.frame):
        return made
    factor = tuple(ceil_div(n, m) for n, m in zip(first.frame, made.frame, strict=True))
    is_part = all(ceil_div(n, f) == m for n, f, m in zip(first.frame, factor, made.frame, strict=True))
    if not is_part or scope.border.is_adaptive:
        raise ImageError(
            f"Expected images of equal sizes, or smaller ones by a whole stride with phase='fixed', but got "
            f"{first.frame} and {made.frame} under {scope.border!r}; leave the second out of images"
        )
    lattice = first.lattice.find_coarser(factor) or first.lattice.make_coarser(factor, None, (0,) * len(factor))
    return made.derive(
        made.window, made.background, lattice=lattice, field=tuple(slid(PIXEL, Slide(1, stride=f)) for f in factor)
    )


def names_of(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    """Return the names of the arguments that are Signals, or hold some."""
    parameters = list(inspect.signature(model.forward).parameters)
    named = [(parameters[min(i, len(parameters) - 1)], value) for i, value in enumerate(args)] + list(kwargs.items())
    return [name for name, value in named if any(isinstance(leaf, Signal) for leaf in tree_leaves(value))]


def _refuse_single_images(scope: ForwardPass, given: tuple[Any, ...]) -> None:
    """Raise ConversionError for images without a batch in a list, as detectors take them."""
    count = dimensions(scope.root)
    if count is None or not given:
        return
    parameter = next(iter(inspect.signature(scope.root.forward).parameters.values()), None)
    annotated = "" if parameter is None else str(parameter.annotation).lower().removeprefix("typing.")
    takes_list = annotated.startswith("list[") and isinstance(given[0], Tensor)
    for value in given:
        single = value[0] if isinstance(value, list | tuple) and value else None
        is_single = isinstance(single, Tensor) and single.is_floating_point() and single.ndim == count - 1 >= 3
        if is_single or takes_list:
            part = _part_of(scope.root)
            got = "a model that takes such a list"
            if isinstance(single, Tensor) and is_single:
                got = f"a list of images such as {tuple(single.shape)}"
            raise ConversionError(
                f"Expected a model of batches but got {got}, as detectors take them: {type(scope.root).__name__} "
                "resizes and pads them itself, and sorts what it finds. Convert the part that takes batches: "
                f"bl.convert_(model{part}, {_as_written(scope.border)}), with output='signal' if heads outside of it "
                "are to go along"
            )


def _as_written(border: Any) -> str:
    """`border` as one writes it in a call."""
    return repr(border.name) if border == Border(border.name) else f"bl.{border!r}"


def _part_of(model: nn.Module) -> str:
    """Return the child that the first convolution is in, as one writes it."""
    first = first_convolution(model)
    return next((f".{name}" for name, child in model.named_children() if first in set(child.modules())), "")


def _no_image(module: nn.Module, arguments: list[Any], images: ImageArguments | None) -> BorderlessError:
    """Return the error for arguments none of which is an image."""
    name = type(module).__name__
    if any(isinstance(argument, Proxy) for argument in arguments):
        return ConversionError(f"Expected images but got a trace by torch.fx of the converted {name}. {way_in(name)}")
    if images is not None:
        return ImageError(
            f"Expected a floating-point image in the arguments {', '.join(map(repr, images.names))} of {name}, which "
            "images= names, but got none"
        )
    tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
    for tensor in tensors:
        if tensor.ndim > 2:
            return ImageError(
                f"Expected a floating-point image, scaled and normalized as {name} expects, but got {tensor.dtype} of "
                f"shape {tuple(tensor.shape)}; convert it, for example images.float() / 255."
            )
    came = f"; got tensors of shape {', '.join(str(tuple(tensor.shape)) for tensor in tensors)}" if tensors else ""
    if any(tensor.ndim == 2 and tensor.is_floating_point() for tensor in tensors):
        came += ". For waveforms (N, T) say so: bl.convert(model, border, images={'x': 'NT'})"
    return ImageError(f"Expected a floating-point tensor (batch, channels, *space) but got no image for {name}{came}")


@contextmanager
def arguments_named(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], images: ImageArguments | None = None
) -> Iterator[None]:
    """Say how arguments are given where a call of `model` with an image, `args` and `kwargs` fails because of them.

    A TypeError of the model's own code stays what it is.
    """
    try:
        yield
    except TypeError as error:
        try:
            call = with_image(model, images, None, args, kwargs)
            inspect.signature(model.forward).bind(*call[0], **call[1])
        except TypeError as reason:
            raise ConversionError(
                f"Expected the arguments of {type(model).__name__}.forward but got an image, args={args!r} and "
                f"kwargs={kwargs!r}: {reason}. Give what comes after the image with args=(…,) or kwargs={{…}}"
            ) from error
        raise
