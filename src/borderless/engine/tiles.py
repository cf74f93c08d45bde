"""Backgrounds: what surrounds a window, as the tile that is repeated around it.

A *background* is a tensor (1 or N, C, *period) whose cell i of an axis stands for all frame indices that leave the
remainder i when divided by the period. A constant has the period 1, and stays of size 1 along space wherever
broadcasting does the rest. None is the constant 0.

`axes` are the dimensions of space; ranges hold one `range` of frame indices an axis.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from borderless.engine.geometry import Box
from borderless.errors import ImageError

Ranges = tuple[range, ...]


def surroundings(image: Tensor, values: float | Sequence[float]) -> Tensor:
    """Return what surrounds `image` (N, C, *space), of one value or one per channel: (1, C, 1, …)."""
    values = (values,) if isinstance(values, int | float) else tuple(values)
    channels = image.shape[1]
    if len(values) not in (1, channels):
        raise ImageError(
            f"Expected a background of one number, or one per channel ({channels}), but got {len(values)} numbers"
        )
    color = torch.tensor(values, dtype=image.dtype, device=image.device).expand(channels)
    return color.reshape(1, channels, *[1] * (image.ndim - 2))


def ranges_of(box: Box) -> Ranges:
    """Return the cells of a box."""
    return tuple(range(a, b) for a, b in box)


def periods(background: Tensor, axes: Sequence[int]) -> tuple[int, ...]:
    """Return the period of a background along each of the `axes`."""
    return tuple(background.shape[axis] for axis in axes)


def is_constant(background: Tensor, axes: Sequence[int]) -> bool:
    """Return whether a background is the same along the `axes`."""
    shape = background.shape
    for axis in axes:  # noqa: SIM110  it runs often
        if shape[axis] != 1:
            return False
    return True


def tile(background: Tensor, axes: Sequence[int], ranges: Ranges, *, dense: bool = False) -> Tensor:
    """Return the background on the cells of `ranges`: size 1 along axes where it is constant, unless `dense`.

    axes: dimensions of space, of either sign.
    """
    for axis, cells in zip(axes, ranges, strict=True):
        period = background.shape[axis]
        if period == 1 and not dense:
            continue
        if len(cells) != period or cells.start % period or cells.step != 1:
            indices = torch.tensor([i % period for i in cells], device=background.device)
            background = background.index_select(axis, indices)
    return background


def same_period(backgrounds: Sequence[Tensor], axes: Sequence[Sequence[int]], *, dense: bool = False) -> list[Tensor]:
    """Return the same backgrounds with tiles repeated to a common period; constant axes keep size 1.

    dense: repeat those that are constant along an axis, too.
    """
    counts = (
        [math.lcm(*(b.shape[own[i]] for b, own in zip(backgrounds, axes, strict=True))) for i in range(len(axes[0]))]
        if backgrounds
        else []
    )
    if all(count == 1 for count in counts):
        return list(backgrounds)
    ranges = tuple(range(count) for count in counts)
    return [tile(background, own, ranges, dense=dense) for background, own in zip(backgrounds, axes, strict=True)]


def less(cells: Tensor, background: Tensor) -> Tensor:
    """Return cells - background, as a sum: its gradient for the background is added up without a negated copy."""
    return cells + (-background)
