"""Run a model on images of unequal sizes in one pass, each as if it were alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from borderless.batching.batch_signal import BatchEdge, BatchSignal
from borderless.batching.calls import UnevenPass
from borderless.batching.sizes import numbers_of_images
from borderless.conversion import attached, check_convertible, conversion_of
from borderless.engine.border import Border
from borderless.engine.forward_pass import ForwardPass, SilentPass
from borderless.engine.image_arguments import in_layout, out_of_layout, put_images, with_image
from borderless.engine.inputs import arguments_named
from borderless.engine.outputs import ordinary, release
from borderless.engine.relabeled import Relabeled
from borderless.engine.signal import Signal
from borderless.errors import BatchError


def batched(
    model: nn.Module,
    images: Sequence[Tensor],
    *,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
) -> Any:
    """Evaluate a model on images of unequal sizes in one pass, each as if it were alone.

    The original padding, or the border that the model was converted to, lies at each image's own edge; pools,
    normalizations and batch statistics count an image's own cells; strides and sizes of interpolations are its own.
    Gradients go through. Nothing of the model is changed. A model that joins images after their maps were pooled to
    ordinary tensors, as a mean over the batch does, joins them here too: `testing.assert_batch_independent` names it.

    Args:
        model: Any CNN, converted or not, in eval or training mode.
        images: A list of tensors ``(C, *space)`` of one type, on one device, with equal channels.
        args: What the model takes after the image, the same for all images.
        kwargs: What it takes by name.

    Returns:
        What the model returns, with a list of one tensor per image, ``(C, *space)``, for each dense output, and a
        tensor ``(N, ...)`` for each global one. Images of one size give lists too.

    Raises:
        BatchError: No images, or ones that do not fit together.
        UnsupportedOperation: An operation that cannot run on images of unequal sizes, named with its module.

    Example:
        >>> import torch, borderless as bl
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.MaxPool2d(2))
        >>> [tuple(y.shape) for y in bl.batched(model, [torch.rand(1, 9, 12), torch.rand(1, 14, 7)])]
        [(4, 4, 6), (4, 7, 3)]
    """
    check_convertible(model)
    converted = conversion_of(model)
    named = None if converted is None else converted.images
    layout = None if named is None else named.layouts[0][1]
    maps = _as_maps(images, layout)
    frames = tuple(tuple(one.shape[2:]) for one in maps)
    border = Border("zero") if converted is None else converted.border
    if border.is_adaptive and len(set(frames)) > 1:
        raise BatchError(
            "Expected a model with phase='fixed' for images of unequal sizes but got phase='adaptive', which numbers "
            "the cells of each image by its size. Run the images one by one, or give them one size."
        )
    batch = in_layout(_padded(maps), layout)
    call = _Call(batch, border, frames, converted)
    given = with_image(model, named, batch, args, kwargs or {})
    with attached(model, call), arguments_named(model, args, kwargs or {}, named):  # pyright: ignore[reportArgumentType]
        return model(*given[0], **given[1])


@dataclass
class _Call:
    """The conversion that a model has while it runs on `batch`, all images in one tensor."""

    batch: Tensor
    border: Border
    frames: tuple[tuple[int, ...], ...]
    converted: Any
    images: Any = None
    is_signal: bool = field(init=False)

    def __post_init__(self) -> None:
        self.is_signal = self.converted is not None and self.converted.output == "signal"

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Make a map of the batch of the images."""
        if self.converted is None:
            alone: ForwardPass = SilentPass(self.border, module)
        else:
            alone = ForwardPass(self.border, module, self.converted.strict, self.converted.warned)
        scope = UnevenPass(BatchEdge(self.border), module, alone=alone)

        def make(leaf: Tensor, layout: str | None) -> Any:
            if leaf is not self.batch:
                raise BatchError(
                    f"Expected one argument of images but got another tensor of shape {tuple(leaf.shape)} among those "
                    f"of {type(module).__name__}. Name the images: bl.convert(model, 'zero', images=('x',))."
                )
            return in_layout(BatchSignal.from_images(out_of_layout(leaf, layout), self.frames, scope), layout)

        return put_images(module, self.images, args, kwargs, make)

    def leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:  # noqa: ARG002
        """Return the output with a list for each map of the batch."""
        release(module, self._listed)  # pyright: ignore[reportArgumentType]
        return ordinary(numbers_of_images(output), self._listed)

    def _listed(self, signal: Signal) -> Any:
        whole = signal.map if isinstance(signal, Relabeled) else signal
        if not isinstance(whole, BatchSignal):
            return signal.crop()
        alone = [whole.rows([row]) for row in range(len(whole.frames))]
        if isinstance(signal, Relabeled):
            alone = [Relabeled.of(one, signal.batch, signal.tokens) for one in alone]
            return [one.crop().squeeze(signal.batch).contiguous() for one in alone]
        return alone if self.is_signal else [one.crop()[0].contiguous() for one in alone]


def _as_maps(images: Any, layout: str | None) -> list[Tensor]:
    """Return the images as (1, C, *space)."""
    if isinstance(images, Tensor) or not isinstance(images, Sequence):
        raise BatchError(f"Expected a list of images (C, *space) but got {_described(images)}. Write list(images).")
    if not images:
        raise BatchError("Expected at least one image but got an empty list.")
    for number, image in enumerate(images):
        if not isinstance(image, Tensor) or not image.is_floating_point():
            raise BatchError(
                f"Expected floating-point tensors (C, *space) but got {_described(image)} as image {number}. Scale it "
                "as the model expects; for example image.float() / 255."
            )
    least = 2 if layout is None else len(layout) - 1
    first, maps = images[0], []
    for number, image in enumerate(images):
        if image.ndim < least or image.ndim != first.ndim or 0 in image.shape:
            raise BatchError(
                f"Expected images of {max(first.ndim, least)} dimensions, none of them empty, but got the shape "
                f"{tuple(image.shape)} as image {number}."
            )
        maps.append(out_of_layout(image.unsqueeze(0), layout))
        for name, one, other in (
            ("channels", maps[0].shape[1], maps[-1].shape[1]),
            ("dtype", first.dtype, image.dtype),
            ("device", first.device, image.device),
        ):
            if one != other:
                raise BatchError(f"Expected images of equal {name} but got {one} and, as image {number}, {other}.")
    return maps


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {value.dtype} and shape {tuple(value.shape)}"
    return f"{type(value).__name__} {value!r}"[:80]


def _padded(maps: list[Tensor]) -> Tensor:
    """All images at the start of one tensor, with zeros after them."""
    largest = [max(sizes) for sizes in zip(*(one.shape[2:] for one in maps), strict=True)]
    rows = []
    for one in maps:
        missing = [n - size for n, size in zip(largest, one.shape[2:], strict=True)]
        rows.append(F.pad(one, [amount for n in reversed(missing) for amount in (0, n)]))
    return torch.cat(rows)
