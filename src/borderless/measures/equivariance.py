"""Equivariance error: the change of a model's output when its input moves.

Shapes: images (N, C, H, W), placed on a canvas large enough for every shift.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from borderless.errors import ImageError
from borderless.runtime.evaluation import evaluating


def equivariance_error(
    model: nn.Module,
    images: Tensor,
    shifts: Sequence[tuple[int, int]],
    *,
    background: float | Sequence[float] = 0.0,
    canvas: tuple[int, int] | None = None,
) -> Tensor:
    """Measure the relative change of the output under each shift.

    The change is the largest absolute difference from the output without a shift, divided by the largest absolute value
    of that. For an output with spatial axes, (N, C, h, w), the output without a shift is moved likewise and compared
    where both are known. The model runs in eval mode and is left as it was.

    Args:
        model: Returns one tensor.
        images: (N, C, H, W).
        shifts: A list of (dy, dx) in whole pixels, down and right; for an output with spatial axes, multiples of its
            stride.
        background: Value of the canvas around the images: a number, or one per channel, in input units.
        canvas: Size of the canvas (height, width); by default, just large enough for the images at every shift.

    Returns:
        One number per shift, in float64.

    Raises:
        ImageError: The shifts or the canvas do not fit, or the output without a shift is 0 everywhere, so that a
            relative change is not defined.

    Example:
        >>> import torch, borderless as bl
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.AdaptiveMaxPool2d(1)).eval()
        >>> model = bl.convert(model, "infinite")
        >>> bool(bl.equivariance_error(model, torch.rand(1, 1, 8, 8), [(0, 1), (5, 3)]).max() < 1e-6)
        True
    """
    if not shifts:
        raise ImageError("Expected at least one shift (dy, dx), in pixels, but got none.")
    try:
        every = [(0, 0), *((int(dy), int(dx)) for dy, dx in shifts)]
    except (TypeError, ValueError) as error:
        raise ImageError(
            f"Expected a list of shifts (dy, dx), in pixels, but got {shifts!r}; write [(3, 5)]."
        ) from error
    top, left = -min(dy for dy, _ in every), -min(dx for _, dx in every)
    height, width = images.shape[-2:]
    needed = (top + height + max(dy for dy, _ in every), left + width + max(dx for _, dx in every))
    size = needed if canvas is None else canvas
    if size[0] < needed[0] or size[1] < needed[1]:
        raise ImageError(
            f"Expected a canvas of at least {needed} (height, width) for these images and shifts but got {size}."
        )
    color = torch.as_tensor(background, dtype=images.dtype, device=images.device).reshape(1, -1, 1, 1)

    def output(dy: int, dx: int) -> Tensor:
        placed = color.expand(images.shape[0], images.shape[1], *size).clone()
        placed[:, :, top + dy : top + dy + height, left + dx : left + dx + width] = images
        return _as_tensor(model(placed))

    with evaluating(model):
        reference = output(0, 0)
        if not reference.any():
            raise ImageError(
                f"Expected an output with values other than 0 but got a {type(model).__name__} whose output for these "
                "images is 0 everywhere, so a relative change is not defined. Use images that it responds to"
            )
        errors = [_relative_change(output(dy, dx), reference, (dy, dx), size) for dy, dx in every[1:]]
    return torch.stack(errors)


def _as_tensor(output: Any) -> Tensor:
    if not isinstance(output, Tensor):
        raise ImageError(f"Expected a model that returns one tensor but got {type(output).__name__}; wrap the model.")
    return output.double()


def _relative_change(moved: Tensor, reference: Tensor, shift: tuple[int, int], canvas: tuple[int, int]) -> Tensor:
    scale = reference.abs().max()
    if moved.ndim == 4 and max(moved.shape[2:]) > 1:
        for axis, step, size in zip((2, 3), shift, canvas, strict=True):
            stride = round(size / reference.shape[axis])
            if step % stride:
                raise ImageError(
                    f"Expected shifts by multiples of the stride {stride} but got {shift} for an output of "
                    f"{tuple(reference.shape[2:])} cells on a canvas of {canvas} pixels."
                )
            step //= stride
            count = reference.shape[axis] - abs(step)
            moved = moved.narrow(axis, max(step, 0), count)
            reference = reference.narrow(axis, max(-step, 0), count)
    return (moved - reference).abs().max() / scale


def empty_response(model: nn.Module) -> float:
    """Return the unmodified model's output for an empty plane, read far from any edge."""
    return model(torch.zeros(1, 1, 33, 33))[0, 0, 16, 16].item()


def object_response(model: nn.Module, image: Tensor) -> float:
    """Return the unmodified model's largest output for an object, less that for an empty plane, far from any edge."""
    far = 16
    inside = model(nn.functional.pad(image, [far] * 4))[0, 0, far:-far, far:-far]
    return (inside - empty_response(model)).abs().max().item()


def relative_difference(first: np.ndarray, second: np.ndarray, peak: float) -> float:
    """Return the largest difference of two feature maps, as a share of the largest response to the object."""
    return float(np.abs(first - second).max() / peak)
