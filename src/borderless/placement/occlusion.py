"""Occlusion maps: how much a model's output changes where a part of the image is hidden.

Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (ECCV 2014), section 2.1. The image is the
canvas, what hides it is the object of a placement, so that a hidden window costs the cells that it influences.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from borderless.engine.image_arguments import first_convolution
from borderless.errors import ImageError
from borderless.placement.place import color_or_image, known_or_checked
from borderless.placement.scene import Position, Scene, space_of
from borderless.placement.schedule import Placement
from borderless.placement.single_pass import Pool, SinglePass


@dataclass(frozen=True)
class OcclusionMap:
    """The outputs of a model for an image of which one window after another is hidden.

    Args:
        outputs: ``(rows, columns, *output)``: one output for each window.
        whole: ``(*output)``: the output of the image itself.
        rows: First pixel of each row of windows.
        columns: First pixel of each column of windows.
        size: (height, width) of a window in pixels.
        image_size: (height, width) of the image.
    """

    outputs: Tensor
    whole: Tensor
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    size: tuple[int, int]
    image_size: tuple[int, int]

    @property
    def drops(self) -> Tensor:
        """The output of the image less that with a window hidden: ``(rows, columns, *output)``."""
        return self.whole - self.outputs

    def per_pixel(self) -> Tensor:
        """Return, for each pixel, the mean drop over all windows that hide it: ``(*output, height, width)``.

        NaN where no window hides a pixel, which a stride beyond the window's size leaves.
        """
        down, across = (
            self._hides(firsts, size, n)
            for firsts, size, n in zip((self.rows, self.columns), self.size, self.image_size, strict=True)
        )
        total = torch.einsum("rc...,rh,cw->...hw", self.drops, down, across)
        return total / (down.sum(0)[:, None] * across.sum(0))

    def _hides(self, firsts: Sequence[int], size: int, n: int) -> Tensor:
        """Return 1 where a window hides a pixel of an axis, else 0: (windows, pixels)."""
        pixels, starts = torch.arange(n), torch.tensor(firsts)[:, None]
        return ((pixels >= starts) & (pixels < starts + size)).to(self.outputs)


def occlude(
    model: nn.Module,
    image: Tensor,
    size: int | Sequence[int] = 32,
    stride: int | Sequence[int] = 8,
    background: float | Sequence[float] | Tensor = 0.0,
    *,
    target: int | Sequence[int] | None = None,
    output: str = "",
    pool: Pool | None = None,
    budget_mib: int = 512,
    progress: Callable[[int, int], Any] | None = None,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
) -> OcclusionMap:
    """Return a model's outputs for an image of which one window after another is hidden.

    The model runs with its original padding or under the border that it was converted to, in eval mode, without
    gradients. The outputs equal those of a loop over hidden images, up to rounding. The image itself runs once; a
    hidden window costs the cells that it influences, as far into the model as that is cheaper than whole feature maps.
    Where whole images are cheaper from the start, the model remembers it: later calls of the same kind plan nothing.

    Args:
        model: A model in eval mode, converted or not.
        image: ``(C, H, W)`` or ``(1, C, H, W)``.
        size: (height, width) of the window in pixels, or one number for both.
        stride: Pixels between windows, (down, across), or one number for both. Windows begin at 0, stride, 2 · stride,
            …; the last ones are cut off at the image's edge, so that every pixel is hidden.
        background: What the window shows, in input units: a number, one per channel, or an image (C, H, W).
        target: Class or channel of the output, or several; None: all.
        output: Name of a module whose output is wanted; "" for the model's own.
        pool: "average" or "max" over space of a feature map; None: the map itself.
        budget_mib: Approximate memory for the feature maps of one pass, in MiB; those of the image come on top.
        progress: Called with the number of windows that are done, and their total.
        args: Further positional arguments of the model (of batch size 1).
        kwargs: Keyword arguments of the model.

    Raises:
        ImageError: Image, window, stride, background and target do not fit together.
        ConversionError: The model is in training mode, or `output` names no module of it.

    Example:
        >>> import torch, borderless as bl
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.AdaptiveMaxPool2d(1)).eval()
        >>> found = bl.occlude(model, torch.rand(1, 32, 48), size=16, stride=8)
        >>> found.outputs.shape, found.per_pixel().shape
        (torch.Size([3, 5, 4, 1, 1]), torch.Size([4, 1, 1, 32, 48]))
    """
    image = _checked_image(image)
    channels = None if target is None else [target] if isinstance(target, int) else list(target)
    if channels is not None and (not channels or not all(isinstance(c, int) for c in channels)):
        raise ImageError(f"Expected target to be a class, several classes, or None for all, but got {target!r}.")
    window, steps = _pair("size", size), _pair("stride", stride)
    check_windows(window, space_of(image))
    run = SinglePass(model, output, pool, args, kwargs, channels)
    hidden = Hidden(model, run, image, window, steps, budget_mib * 2**20, progress)
    outputs, whole = hidden.outputs(_filling(background, image, window))
    outputs, whole = outputs[:, :, 0], whole[0]
    if isinstance(target, int):
        outputs, whole = outputs[:, :, 0], whole[0]
    return OcclusionMap(outputs, whole, hidden.rows, hidden.columns, window, space_of(image))


Filling = Tensor | Callable[[Position], Tensor]


@dataclass(frozen=True)
class Hidden:
    """One window after another of an `image` (1, C, H, W)."""

    model: nn.Module
    run: SinglePass
    image: Tensor
    size: tuple[int, int]
    stride: tuple[int, int]
    budget: int
    progress: Callable[[int, int], Any] | None = None

    @property
    def rows(self) -> tuple[int, ...]:
        """The first pixel of each row of windows."""
        return firsts(self.image.shape[2], self.size[0], self.stride[0])

    @property
    def columns(self) -> tuple[int, ...]:
        """The first pixel of each column of windows."""
        return firsts(self.image.shape[3], self.size[1], self.stride[1])

    def outputs(self, filling: Filling) -> tuple[Tensor, Tensor]:
        """Return the outputs of hidden images, (rows, columns, fillings, …), and that of the image, (1, …).

        filling: what windows show, ``(fillings, C, *size)``, or of a position.
        """
        known = known_or_checked(self.model)
        positions = [(row, column) for row in self.rows for column in self.columns]
        scene = Scene(filling, self.size, self.image)
        placement = Placement(self.model, self.run, known, scene, self.budget, self.progress, needs_canvas=True)
        with torch.no_grad():
            try:
                found = placement.at(positions)
            except RuntimeError as error:
                first, channels = first_convolution(self.model), self.image.shape[1]
                if first is None or first.in_channels == channels:
                    raise
                raise ImageError(
                    f"Expected an image of {first.in_channels} channels, as the first convolution takes them, but got "
                    f"{channels} channels."
                ) from error
            return found.unflatten(0, (len(self.rows), len(self.columns))), placement.of_canvas()


def firsts(n: int, size: int, stride: int) -> tuple[int, ...]:
    """Return the first pixels of windows on an axis of `n`, of which the last may stick out."""
    return tuple(range(0, min(n, n - size + stride), stride))


def patch_of(picture: Tensor, position: Position, size: tuple[int, int]) -> Tensor:
    """Return the window at `position` of a `picture` (N, C, H, W), with zeros where it sticks out."""
    cells = picture[..., position[0] : position[0] + size[0], position[1] : position[1] + size[1]]
    return F.pad(cells, [0, size[1] - cells.shape[3], 0, size[0] - cells.shape[2]])


def check_windows(size: tuple[int, int], image: tuple[int, int]) -> None:
    """Raise ImageError where windows are larger than the image."""
    if any(s > n for s, n in zip(size, image, strict=True)):
        raise ImageError(
            f"Expected a window no larger than the image, {image[0]} × {image[1]} pixels, but got {size[0]} × "
            f"{size[1]}; choose a smaller size."
        )


def _filling(background: Any, image: Tensor, size: tuple[int, int]) -> Filling:
    channels, values = image.shape[1], color_or_image(background)
    if values.ndim > 1:
        picture = values if values.ndim == 4 else values[None]
        if picture.shape != image.shape or not values.is_floating_point():
            raise ImageError(
                f"Expected a background that is a floating-point image of shape {tuple(image.shape[1:])}, a number, or "
                f"one per channel, but got {values.dtype} of shape {tuple(values.shape)}."
            )
        picture = picture.to(image)
        return lambda position: patch_of(picture, position, size)
    if values.numel() not in (1, channels):
        raise ImageError(
            f"Expected a background of one number, one per channel, or an image but got {values.numel()} numbers for "
            f"an image with {channels} channels."
        )
    return values.to(image).reshape(1, -1, 1, 1).expand(1, channels, *size)


def _checked_image(image: Any) -> Tensor:
    """Return an image as (1, C, H, W)."""
    is_one = isinstance(image, Tensor) and (image.ndim == 3 or (image.ndim == 4 and len(image) == 1))
    if not is_one or not image.is_floating_point() or 0 in image.shape:
        got = f"{image.dtype}, {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        raise ImageError(
            f"Expected one image as a floating-point tensor (C, H, W) or (1, C, H, W), not empty, but got {got}."
        )
    return image if image.ndim == 4 else image[None]


def _pair(name: str, value: Any) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, Sequence) else ()
    if len(pair) != 2 or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in pair):
        raise ImageError(
            f"Expected {name} to be a number of pixels, at least 1, or two of them, (height, width), but got {value!r}."
        )
    return pair
