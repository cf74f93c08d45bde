"""Evaluate a model on an object at many positions of a canvas, computing only what the object influences."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from borderless.conversion import check_convertible
from borderless.errors import ConversionError, ImageError
from borderless.placement.known_batches import KnownBatches, known_batches
from borderless.placement.scene import Position, Scene, space_of
from borderless.placement.schedule import Placement
from borderless.placement.single_pass import Pool, SinglePass


def place(
    model: nn.Module,
    patches: Tensor,
    positions: Tensor | Sequence[Sequence[int]],
    canvas: Sequence[int] | None = None,
    background: float | Sequence[float] | Tensor = 0.0,
    *,
    output: str = "",
    pool: Pool | None = None,
    budget_mib: int = 128,
    progress: Callable[[int, int], Any] | None = None,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
) -> Tensor:
    """Return the model's outputs for every patch at every position: (positions, patches, ...).

    The model runs with its original padding or under the border that it was converted to, in eval mode, without
    gradients. The result equals running every canvas whole, up to rounding: the empty canvas runs once, and a patch
    costs the windows that it can influence, as far into the model as they are cheaper than whole feature maps; then all
    canvases run as batches. Where such batches are cheaper from the start, the model remembers it, and later calls of
    the same kind plan nothing. Positions that must have equal outputs run once. Under `valid`, `reflect`, `replicate`
    and `circular`, and with an adaptive phase on a canvas that is not the border's own background, every canvas is run
    whole.

    Args:
        model: A model in eval mode, converted or not.
        patches: The objects, (N, C, H, W), or one, (C, H, W), which drops the second dimension of the result.
        positions: (row, column) of a patch's upper left pixel, one pair per position; pixels outside the canvas are cut
            off.
        canvas: (height, width) of the canvas in pixels.
        background: The rest of the canvas, in input units: a number, one per channel, or an image (C, height, width),
            which also gives the canvas's size.
        output: Name of a module whose output is wanted; "" for the model's own.
        pool: "average" or "max" over space of a feature map; None: the map itself.
        budget_mib: Approximate memory for the windows of one pass, in MiB; the maps of the empty canvas come on top.
        progress: Called with the number of outputs that are computed, and their total.
        args: Further positional arguments of the model, the same for all patches and positions (of batch size 1).
        kwargs: Keyword arguments of the model.

    Raises:
        ImageError: Patches, positions, canvas and background do not fit together.
        ConversionError: The model is in training mode, or `output` names no module of it.

    Example:
        >>> import torch, borderless as bl
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.AdaptiveMaxPool2d(1)).eval()
        >>> bl.place(model, torch.rand(5, 1, 8, 8), [(0, 0), (20, 12)], canvas=(32, 32)).shape
        torch.Size([2, 5, 4, 1, 1])
    """
    known = known_or_checked(model)
    single = patches.ndim == 3
    patches = patches[None] if single else patches
    empty = _empty_canvas(patches, canvas, background)
    where = _checked_positions(positions, space_of(patches), space_of(empty))
    run = SinglePass(model, output, pool, args, kwargs)
    with torch.no_grad():
        placement = Placement(model, run, known, Scene(patches, space_of(patches), empty), budget_mib * 2**20, progress)
        outputs = placement.at(where)
    return outputs[:, 0] if single else outputs


def known_or_checked(model: nn.Module) -> KnownBatches:
    """Return what is known of a model; raise ConversionError for one in training mode, or that cannot be converted."""
    if isinstance(model, nn.Module) and (known := known_batches(model)).kinds:
        return known
    check_convertible(model)
    training = next((name or "the model itself" for name, module in model.named_modules() if module.training), None)
    if training is not None:
        raise ConversionError(
            f"Expected a model in eval mode but got a {type(model).__name__} in training mode ({training}), where "
            "batch statistics would make an object's output depend on the others in its batch; call model.eval() first."
        )
    return known_batches(model)


def _empty_canvas(patches: Tensor, canvas: Sequence[int] | None, background: Any) -> Tensor:
    """Return the canvas, (1, C, height, width), in the patches' type and on their device."""
    if not isinstance(patches, Tensor) or patches.ndim != 4 or 0 in patches.shape or not patches.is_floating_point():
        got = f"{patches.dtype}, {tuple(patches.shape)}" if isinstance(patches, Tensor) else type(patches).__name__
        raise ImageError(
            f"Expected patches as a floating-point tensor (N, C, H, W) or (C, H, W), not empty, but got {got}."
        )
    channels = patches.shape[1]
    values = color_or_image(background)
    if values.ndim > 1:
        if not values.is_floating_point() or values.ndim != 3 or values.shape[0] != channels:
            raise ImageError(
                f"Expected a background that is a floating-point image ({channels}, height, width), a number, or one "
                f"per channel, but got {values.dtype} of shape {tuple(values.shape)} for patches with {channels} "
                "channels."
            )
        if canvas is not None and tuple(canvas) != tuple(values.shape[1:]):
            raise ImageError(
                f"Expected a canvas of the background image's size {tuple(values.shape[1:])} but got "
                f"canvas={tuple(canvas)}; leave canvas out."
            )
        return values.to(patches)[None]
    if canvas is None or len(canvas) != 2 or min(canvas) < 1:
        raise ImageError(
            f"Expected canvas to be (height, width) in pixels but got {canvas!r}; or pass an image as the background."
        )
    if values.numel() not in (1, channels):
        raise ImageError(
            f"Expected a background of one number, one per channel, or an image but got {values.numel()} numbers for "
            f"patches with {channels} channels."
        )
    return values.to(patches).reshape(1, -1, 1, 1).expand(1, channels, *canvas).contiguous()


def color_or_image(background: Any) -> Tensor:
    """Return a background as a tensor; numbers as precise as Python's."""
    return background if isinstance(background, Tensor) else torch.as_tensor(background, dtype=torch.float64)


def _checked_positions(positions: Any, size: tuple[int, int], canvas: tuple[int, int]) -> list[Position]:
    if any(s > n for s, n in zip(size, canvas, strict=True)):
        raise ImageError(
            f"Expected a canvas at least as large as the patches but got patches of {size[0]} × {size[1]} pixels for "
            f"{canvas[0]} × {canvas[1]}."
        )
    where = torch.as_tensor(positions)
    if where.ndim != 2 or where.shape[0] == 0 or where.shape[1] != 2 or where.is_floating_point():
        raise ImageError(
            f"Expected positions as whole numbers, a (row, column) for each, at least one, but got {where.dtype} of "
            f"shape {tuple(where.shape)}."
        )
    pairs = [(int(row), int(column)) for row, column in where.tolist()]
    for i, position in enumerate(pairs):
        if any(p <= -s or p >= n for p, s, n in zip(position, size, canvas, strict=True)):
            raise ImageError(
                f"Expected positions with a pixel of the patch on the canvas but got position {i}, {position}, where a "
                f"patch of {size[0]} × {size[1]} pixels lies wholly outside the canvas of {canvas[0]} × {canvas[1]}."
            )
    return pairs
