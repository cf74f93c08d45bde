"""Objects, the canvas that they are placed on, and cells of the canvas with an object drawn on them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

Position = tuple[int, int]
Sample = tuple[Position, int]  # a position, and the number of the patch there
Span = tuple[int, int]  # of an object along an axis: the pixels [first, stop)
# The patches (N, C, H, W) that a position has.
Objects = Callable[[Position], Tensor]


@dataclass(frozen=True)
class Scene:
    """Objects and their canvas.

    patches: (N, C, H, W), the same ones at all positions, or those of a position. size: height and width of a patch.
    empty: the canvas without an object, (1, C, H, W).
    """

    patches: Tensor | Objects
    size: tuple[int, int]
    empty: Tensor

    @cached_property
    def count(self) -> int:
        """The number of patches that a position has."""
        return len(self._patches_at((0, 0)))

    @cached_property
    def is_even(self) -> bool:
        """Whether the canvas has one color, and all positions have the same patches."""
        return isinstance(self.patches, Tensor) and bool((self.empty == self.empty[..., :1, :1]).all())

    def is_all(self, color: float | tuple[float, ...]) -> bool:
        """Return whether all of the canvas has a color, a number or one for each channel."""
        values = self.empty.new_tensor(color if isinstance(color, tuple) else (color,))
        return bool((self.empty == values.reshape(1, -1, 1, 1)).all())

    def _patches_at(self, position: Position) -> Tensor:
        return self.patches if isinstance(self.patches, Tensor) else self.patches(position)

    def span(self, position: Position) -> tuple[Span, Span]:
        """Return the pixels of the canvas that a patch covers."""
        (row, column), (height, width), (down, across) = position, self.size, space_of(self.empty)
        return (max(row, 0), min(row + height, down)), (max(column, 0), min(column + width, across))

    def objects(self, samples: Sequence[Sample]) -> Tensor:
        """Return the parts of patches on the canvas, equally large at all positions: (samples, C, height, width)."""
        return torch.stack([self._object(*sample, *self.span(sample[0])) for sample in samples])

    def _object(self, position: Position, n: int, rows: Span, columns: Span) -> Tensor:
        """Return the part of a patch that lies on the canvas, on its `rows` and `columns`."""
        (row, column), (top, bottom), (left, right) = position, rows, columns
        patch = self._patches_at(position)[n]
        if (bottom - top, right - left) == self.size:
            return patch
        return patch[:, top - row : bottom - row, left - column : right - column]

    def drawn(self, samples: Sequence[Sample | None], boxes: Sequence[tuple[Span, ...]]) -> Tensor:
        """Return the cells of the `boxes` of the canvas, all of one size, with a patch on each; None: without one."""
        cells = torch.cat([self.empty[(..., *(slice(a, b) for a, b in box))] for box in boxes])
        return self._draw(samples, cells, [(top, left) for (top, _), (left, _) in boxes])

    def canvases(self, samples: Sequence[Sample | None]) -> Tensor:
        """Return whole canvases with a patch on each, (samples, C, height, width); None: without one."""
        return self._draw(samples, torch.cat([self.empty] * len(samples)), [(0, 0)] * len(samples))

    def _draw(self, samples: Sequence[Sample | None], cells: Tensor, corners: Sequence[Position]) -> Tensor:
        """Draw patches on `cells` of the canvas, whose first pixels are `corners`."""
        for image, sample, (top, left) in zip(cells, samples, corners, strict=True):
            if sample is not None:
                rows, columns = self.span(sample[0])
                image[:, rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left] = self._object(
                    *sample, rows, columns
                )
        return cells


def space_of(images: Tensor) -> tuple[int, int]:
    """Return height and width."""
    return images.shape[-2], images.shape[-1]
