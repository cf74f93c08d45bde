"""Uneven padding: operations whose padding differs at the two ends of an image, and pixels that a network never reads.

A strided operation pads its first cell as configured, and its last one with what the stride leaves of that: on most
image sizes less, sometimes nothing, and sometimes the last cells are not read at all (Alsallakh et al., "Mind the Pad",
ICLR 2021). This depends on the image size alone, so another size can avoid it.

Integers, except for `influence`, which uses gradients.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from borderless.conversion import bordered, conversion_of
from borderless.engine.events import Event
from borderless.errors import ImageError
from borderless.measures.batches import check_images
from borderless.runtime.blame import is_bug
from borderless.runtime.evaluation import evaluating

AXES = ("rows", "columns")


@dataclass(frozen=True)
class UnevenPadding:
    """An operation that pads the two ends of an axis differently.

    Attributes:
        module: Name of the module, "" for the model itself.
        operation: Name of the torch function.
        axis: "rows" or "columns".
        cells: Number of cells of its input along the axis.
        before: Cells of padding that its windows read at the start.
        after: The same at the end; a negative number of cells is left unread there.
    """

    module: str
    operation: str
    axis: str
    cells: int
    before: int
    after: int


def uneven_padding(model: nn.Module, size: Sequence[int], channels: int) -> tuple[UnevenPadding, ...]:
    """Return the operations that pad unevenly on images of `size` (height, width), in the order in which they run.

    There are none in a model that is converted to a border which keeps more or less than its original padding does.
    """
    found: list[UnevenPadding] = []
    _look(model, size, channels, found.append)
    return tuple(found)


class _Found(Exception):
    pass


def _is_even(model: nn.Module, size: Sequence[int], channels: int) -> bool:
    """Return whether there are none; the pass ends at the first, which most often is the first strided operation."""
    found: list[UnevenPadding] = []

    def end(uneven: UnevenPadding) -> None:
        found.append(uneven)
        raise _Found

    try:
        _look(model, size, channels, end)
    except _Found:
        return False
    return not found


def _look(model: nn.Module, size: Sequence[int], channels: int, tell: Callable[[UnevenPadding], Any]) -> None:
    own = conversion_of(model)
    if own is not None and any(axis.keeps != "frame" or axis.is_causal for axis in own.border.axes):
        return

    def look(event: Event) -> None:
        for axis, slide, n in zip(AXES, event.slides, event.source, strict=False):
            # What the last window reads beyond the last cell.
            after = slide.needed((0, slide.frame(n)))[1] - n
            if after != slide.padding and (slide.padding or slide.padding_after or after < 0):
                operation = event.operation.rpartition(".")[2]
                tell(UnevenPadding(event.module, operation, axis, n, slide.padding, after))

    example = next(model.parameters(), torch.empty(0))
    image = torch.zeros(1, channels, *size, dtype=example.dtype, device=example.device)
    with evaluating(model), bordered(model, "zero", observer=look):
        model(image)


def even_sizes(model: nn.Module, size: Sequence[int], channels: int, most: int = 3, within: int = 32) -> list[int]:
    """Return sides of square images on which nothing is padded unevenly, the nearest to `size` first.

    Sizes that the model cannot run on are skipped.

    Args:
        model: Any model that can be converted.
        size: (height, width), whose larger side is the center of the search.
        channels: Number of channels of the images.
        most: Number of sides to return, at most.
        within: Distance to search, in pixels.
    """
    middle = max(size)
    sketch = _without_values(model, size, channels)
    candidates = sorted(range(max(1, middle - within), middle + within + 1), key=lambda side: abs(side - middle))
    found: list[int] = []
    for side in candidates:
        try:
            is_even = _is_even(sketch, (side, side), channels)
        except Exception as error:  # whatever the model raises for a size that it was not made for
            if is_bug(error):
                raise
            continue
        if is_even:
            found.append(side)
            if len(found) == most:
                break
    return found


def _without_values(model: nn.Module, size: Sequence[int], channels: int) -> nn.Module:
    """Return a copy on the meta device, whose passes cost next to nothing, or `model` if it cannot run there."""
    try:
        sketch = copy.deepcopy(model).to("meta")
        uneven_padding(sketch, size, channels)
    except Exception:  # what cannot be copied, or asks for a number on the way; with numbers a fault shows again
        return model
    return sketch


@dataclass(frozen=True)
class Influence:
    """Dependence of a model's output on each row and each column of pixels.

    Attributes:
        rows: The strength for each row, relative to the median.
        columns: The same for each column.
        unread_rows: Rows on which no output depends.
        unread_columns: The same for columns.
    """

    rows: np.ndarray
    columns: np.ndarray
    unread_rows: list[int]
    unread_columns: list[int]


def influence(model: nn.Module, images: Tensor, seed: int = 0) -> Influence:
    """Measure the mean absolute gradient of a random mixture of the outputs, per row and column of pixels.

    Rows and columns without a gradient may still have an influence: a maximum is elsewhere, a unit is dead. So they are
    filled with noise, and those that leave every output unchanged, bit by bit, are unread.

    Args:
        model: Returns one tensor.
        images: (N, C, H, W).
        seed: Seed of the mixture and the noise.

    Raises:
        ImageError: The images do not fit, the model does not return one tensor, or no gradient passes through it.
    """
    check_images(images)
    device = next((parameter.device for parameter in model.parameters()), images.device)
    draw = torch.Generator().manual_seed(seed)
    with evaluating(model), torch.enable_grad():
        pixels = images.detach().to(device).requires_grad_()
        outputs = model(pixels * 1)  # not the leaf itself, which a model may not change in place
        if not isinstance(outputs, Tensor):
            raise ImageError(
                f"Expected one tensor but got {type(outputs).__name__} from {type(model).__name__}; wrap the model."
            )
        mixture = torch.randn(outputs.shape[1:], generator=draw).to(outputs)
        try:
            (gradient,) = torch.autograd.grad((outputs * mixture).sum(), pixels)
        except RuntimeError as error:
            raise ImageError(
                f"Expected a model through which gradients pass but got {type(model).__name__} ({error}). Unread "
                "pixels are found by gradients: remove torch.no_grad() or detach() from its forward"
            ) from error
    strength = gradient.abs().double().mean((0, 1)).cpu().numpy()
    rows, columns = strength.mean(1), strength.mean(0)
    with evaluating(model):
        unread = [
            _blind(model, pixels.detach(), axis, np.flatnonzero(lines == 0).tolist(), draw)
            for axis, lines in ((2, rows), (3, columns))
        ]
    return Influence(_relative(rows), _relative(columns), *unread)


def _blind(model: nn.Module, images: Tensor, axis: int, lines: list[int], draw: torch.Generator) -> list[int]:
    """Return those of `lines` that can be filled with noise, by halves as long as an output changes."""
    if not lines:
        return []
    scale = 10 * float(images.abs().max()) + 1
    noise = scale * torch.randn(images.shape, generator=draw).to(images)
    is_line = torch.zeros(images.shape[axis], dtype=torch.bool, device=images.device)
    is_line[lines] = True
    shape = [-1 if a == axis else 1 for a in range(images.ndim)]
    filled = torch.where(is_line.reshape(shape), noise, images)
    if torch.equal(model(filled), model(images.clone())):
        return lines
    half = len(lines) // 2
    if not half:
        return []
    return [line for part in (lines[:half], lines[half:]) for line in _blind(model, images, axis, part, draw)]


def _relative(strength: np.ndarray) -> np.ndarray:
    middle = float(np.median(strength))
    return strength / middle if middle > 0 else strength
