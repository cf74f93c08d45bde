"""Evaluate a model on an object at many positions of a canvas, computing only what the object influences."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from borderless.conversion import check_convertible
from borderless.errors import ConversionError, ImageError
from borderless.placement.schedule import Placement, Position, space_of
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
    """Return the model's answers to every patch at every position: (positions, patches, ...).

    patches: (N, C, H, W), or one (C, H, W), which leaves out the second dimension. positions: (row, column) of a
    patch's upper left pixel; what sticks out of the canvas is cut off. canvas: (height, width) in pixels. background:
    what else is on it, in input units: a number, one per channel, or an image (C, height, width), which brings the
    canvas's size along. output: the name of a module whose output is wanted; "" for the model's own. pool: the average
    or the maximum of a map over space. budget_mib: about how much memory the windows of one pass may take; the maps of
    the empty canvas come on top. progress: called with how many answers are there, and how many there will be.
    args, kwargs: what the model takes after the image, the same for all patches and positions (of batch size 1).

    The model runs with its own padding or under the border that it was converted to, in eval mode, without gradients.
    Equal to running every canvas whole, but for rounding: the empty canvas runs once, and a patch costs the windows
    that it can influence. Positions that must have equal answers run once. Under `valid`, `reflect`, `replicate` and
    `circular`, and with an adaptive phase on a canvas that is not the border's own background, every canvas is run
    whole. Raises ImageError for what does not fit together, ConversionError for a model in training mode.

    >>> import torch, borderless as bl
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.AdaptiveMaxPool2d(1)).eval()
    >>> bl.place(model, torch.rand(5, 1, 8, 8), [(0, 0), (20, 12)], canvas=(32, 32)).shape
    torch.Size([2, 5, 4, 1, 1])
    """
    check_convertible(model)
    _check_mode(model)
    single = patches.ndim == 3
    patches = patches[None] if single else patches
    empty = _empty_canvas(patches, canvas, background)
    where = _checked_positions(positions, space_of(patches), space_of(empty))
    run = SinglePass(model, output, pool, args, kwargs)
    with torch.no_grad():
        answers = Placement(model, run, patches, empty, budget_mib * 2**20, progress).at(where)
    return answers[:, 0] if single else answers


def _check_mode(model: nn.Module) -> None:
    training = next((name or "the model itself" for name, module in model.named_modules() if module.training), None)
    if training is not None:
        raise ConversionError(
            f"got a {type(model).__name__} in training mode ({training}); needed: eval mode, because batch statistics "
            "would make an object's answer depend on the others in its batch; call model.eval() first"
        )


def _empty_canvas(patches: Tensor, canvas: Sequence[int] | None, background: Any) -> Tensor:
    """(1, C, height, width), in the patches' type and on their device."""
    if not isinstance(patches, Tensor) or patches.ndim != 4 or 0 in patches.shape or not patches.is_floating_point():
        got = f"{patches.dtype}, {tuple(patches.shape)}" if isinstance(patches, Tensor) else type(patches).__name__
        raise ImageError(f"got patches of {got}; needed: a floating-point tensor (N, C, H, W) or (C, H, W), not empty")
    channels = patches.shape[1]
    values = torch.as_tensor(background)
    if values.ndim > 1:
        if not values.is_floating_point() or values.ndim != 3 or values.shape[0] != channels:
            raise ImageError(
                f"got a background of {values.dtype} and shape {tuple(values.shape)} for patches with {channels} "
                f"channels; needed: a floating-point image ({channels}, height, width), a number, or one per channel"
            )
        if canvas is not None and tuple(canvas) != tuple(values.shape[1:]):
            raise ImageError(
                f"got canvas={tuple(canvas)} and a background image of {tuple(values.shape[1:])} pixels; needed: equal "
                "sizes, or the image alone"
            )
        return values.to(patches)[None]
    if canvas is None or len(canvas) != 2 or min(canvas) < 1:
        raise ImageError(f"got canvas={canvas!r}; needed: (height, width) in pixels, or an image as the background")
    if values.numel() not in (1, channels):
        raise ImageError(
            f"got a background of {values.numel()} numbers for patches with {channels} channels; needed: one number, "
            "one per channel, or an image"
        )
    return values.to(patches).reshape(1, -1, 1, 1).expand(1, channels, *canvas).contiguous()


def _checked_positions(positions: Any, size: tuple[int, int], canvas: tuple[int, int]) -> list[Position]:
    if any(s > n for s, n in zip(size, canvas, strict=True)):
        raise ImageError(
            f"got patches of {size[0]} × {size[1]} pixels for a canvas of {canvas[0]} × {canvas[1]}; needed: a canvas "
            "at least as large as they are"
        )
    where = torch.as_tensor(positions)
    if where.ndim != 2 or where.shape[0] == 0 or where.shape[1] != 2 or where.is_floating_point():
        raise ImageError(
            f"got positions of {where.dtype} and shape {tuple(where.shape)}; needed: whole numbers, a (row, column) "
            "for each position, at least one"
        )
    pairs = [(int(row), int(column)) for row, column in where.tolist()]
    for i, position in enumerate(pairs):
        if any(p <= -s or p >= n for p, s, n in zip(position, size, canvas, strict=True)):
            raise ImageError(
                f"got position {i}, {position}, where a patch of {size[0]} × {size[1]} pixels lies wholly outside the "
                f"canvas of {canvas[0]} × {canvas[1]}; needed: a pixel of it on the canvas"
            )
    return pairs
