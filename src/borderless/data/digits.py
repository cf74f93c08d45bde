"""Handwritten digits at any position of an empty canvas.

scikit-learn brings 1,797 digits of 8×8 pixels with its package, so nothing is downloaded. Here they grow to 14 px on a
canvas of 32 px, which leaves 19 × 19 = 361 positions. The canvas is 0 everywhere else, and so is the paper around a
digit: its position is the only difference between images of one digit.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998 (test part), as packaged by
scikit-learn.

Shapes: digits (n, 14, 14) in [0, 1]; labels (n,); positions (n, 2) as (row, column) of a digit's upper left pixel;
placed images (n, 1, height, width).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from borderless.data.items import DrawnByEpoch

DIGIT_PX = 14
CANVAS_PX = (32, 32)
# Where `PlacedDigits` puts every digit, unless it puts them everywhere.
TRAINED_AT = (0, 0)


@dataclass(frozen=True)
class Digits:
    """Digits and their labels: `images` (n, side, side) in [0, 1], `labels` (n,) in 0 to 9."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class DigitSplit:
    """Three sets without a digit in common."""

    train: Digits
    validation: Digits
    test: Digits


def load_digits(size_px: int = DIGIT_PX) -> Digits:
    """Return all 1,797 digits, enlarged bilinearly from 8 to `size_px` pixels a side.

    >>> load_digits().images.shape
    torch.Size([1797, 14, 14])
    """
    from sklearn import datasets  # takes a second to import: only who loads digits pays

    pixels, labels = datasets.load_digits(return_X_y=True)
    images = torch.as_tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    images = F.interpolate(images, size=(size_px, size_px), mode="bilinear", align_corners=False)
    return Digits(images[:, 0], torch.as_tensor(labels, dtype=torch.int64))


def split_digits(digits: Digits, seed: int, fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)) -> DigitSplit:
    """Split digits for training, validation and testing: disjoint, with equal shares of every class, drawn by the seed.

    `fractions` are the three shares and add up to 1. With all 1,797 digits the default gives 1,077, 360 and 360.
    """
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(
            "Expected fractions as three positive numbers that add up to 1 (train, validation, test) but got "
            f"{fractions}"
        )
    from sklearn.model_selection import train_test_split

    validation_count, test_count = (math.ceil(len(digits) * fraction) for fraction in fractions[1:])
    labels = digits.labels.numpy()
    rest, test = train_test_split(range(len(digits)), test_size=test_count, stratify=labels, random_state=seed)
    train, validation = train_test_split(rest, test_size=validation_count, stratify=labels[rest], random_state=seed)
    return DigitSplit(*(Digits(digits.images[part], digits.labels[part]) for part in (train, validation, test)))


def all_positions(canvas: tuple[int, int] = CANVAS_PX, size_px: int = DIGIT_PX) -> Tensor:
    """Return every position at which a digit lies wholly on the canvas, row by row: (positions, 2).

    >>> all_positions().shape
    torch.Size([361, 2])
    """
    rows, columns = canvas[0] - size_px + 1, canvas[1] - size_px + 1
    if rows < 1 or columns < 1:
        raise ValueError(
            f"Expected a canvas at least as large as a digit but got {canvas} for {size_px} px; give a larger canvas"
        )
    return torch.cartesian_prod(torch.arange(rows), torch.arange(columns))


def place_digits(images: Tensor, positions: Tensor | Sequence[int], canvas: tuple[int, int] = CANVAS_PX) -> Tensor:
    """Put each digit on its own empty canvas.

    Args:
        images: (n, h, w).
        positions: One (row, column) for all, or (n, 2), one for each.
        canvas: (height, width) in pixels.

    Returns:
        (n, 1, *canvas), 0 outside the digits.

    Example:
        >>> place_digits(torch.ones(5, 14, 14), (18, 0)).shape
        torch.Size([5, 1, 32, 32])
    """
    if images.ndim != 3:
        raise ValueError(f"Expected digits of shape (n, height, width) but got {tuple(images.shape)}")
    n, height, width = images.shape
    where = torch.as_tensor(positions)
    if where.shape not in {(2,), (n, 2)}:
        raise ValueError(
            f"Expected positions of shape (2,), or ({n}, 2) for the {n} digits, but got {tuple(where.shape)}"
        )
    where = where.expand(n, 2)
    last = torch.tensor([canvas[0] - height, canvas[1] - width])
    if bool(((where < 0) | (where > last)).any()):
        raise ValueError(
            f"Expected digits of {height}×{width} px wholly on the canvas {canvas}, at rows 0 to {int(last[0])} and "
            f"columns 0 to {int(last[1])}, but got rows {int(where[:, 0].min())} to {int(where[:, 0].max())}, columns "
            f"{int(where[:, 1].min())} to {int(where[:, 1].max())}"
        )
    rows = where[:, 0, None, None] + torch.arange(height)[:, None]
    columns = where[:, 1, None, None] + torch.arange(width)
    placed = images.new_zeros(n, 1, *canvas)
    placed[torch.arange(n)[:, None, None], 0, rows, columns] = images
    return placed


@dataclass
class PlacedDigits(DrawnByEpoch):
    """Items (image, label): digits at the training position, or `everywhere`: at another position in each epoch."""

    digits: Digits
    everywhere: bool

    def __len__(self) -> int:
        """Return the number of digits."""
        return len(self.digits)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the image (1, height, width) and the label of a digit."""
        digit, label = self.digits.images[index, None], self.digits.labels[index]
        return place_digits(digit, self._position(index))[0], label

    def _position(self, index: int) -> Tensor | tuple[int, int]:
        if not self.everywhere:
            return TRAINED_AT
        positions = all_positions()
        draw = torch.Generator().manual_seed(self.item_seed(index))
        return positions[torch.randint(len(positions), (), generator=draw)]
