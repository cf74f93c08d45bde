"""scikit-learn's digits as images with labels: near the middle among clutter, or anywhere on an empty canvas.

Shapes: items are (image (1, size, size) in [0, 1], label).
"""

from dataclasses import replace

import torch
from torch import Tensor

from borderless.data.digits import DIGIT_PX, Digits, load_digits, place_digits, split_digits
from borderless.data.labeled import Labeled, LabeledSplit


def digits_in_clutter(size_px: int, seed: int, pieces: int = 6) -> LabeledSplit:
    """Return scikit-learn's digits, 14 px and near the middle of (1, size_px, size_px), among pieces of other digits.

    The middle is left free by the pieces, which come from digits of the same split.
    """
    digits = split_digits(load_digits(), seed)
    draw = torch.Generator().manual_seed(seed)
    parts = (_cluttered(part, size_px, pieces, draw) for part in (digits.train, digits.validation, digits.test))
    train, validation, test = (replace(part, seed=seed) for part in parts)
    return LabeledSplit(train, validation, test, tuple("0123456789"))


def digits_anywhere(size_px: int, seed: int) -> LabeledSplit:
    """Return scikit-learn's digits, 14 px, each at one random position of an empty canvas: (1, size_px, size_px)."""
    digits = split_digits(load_digits(), seed)
    draw = torch.Generator().manual_seed(seed)
    train, validation, test = (
        Labeled(
            place_digits(part.images, _drawn_at(len(part), size_px, draw), (size_px, size_px)), part.labels.tolist()
        )
        for part in (digits.train, digits.validation, digits.test)
    )
    return LabeledSplit(train, validation, test, tuple("0123456789"))


def moved_anywhere(image: Tensor) -> Tensor:
    """Return an image (C, height, width) with what is not 0 at another position, drawn at random, wholly inside."""
    rows, columns = (image.any(0).any(axis).nonzero().flatten().tolist() for axis in (1, 0))
    if not rows:
        return image
    cut = image[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    top, left = (int(torch.randint(image.shape[axis] - cut.shape[axis] + 1, ())) for axis in (1, 2))
    moved = torch.zeros_like(image)
    moved[:, top : top + cut.shape[1], left : left + cut.shape[2]] = cut
    return moved


def _drawn_at(count: int, size_px: int, draw: torch.Generator) -> Tensor:
    return torch.randint(size_px - DIGIT_PX + 1, (count, 2), generator=draw)


def _cluttered(digits: Digits, size_px: int, pieces: int, draw: torch.Generator) -> Labeled:
    side, piece = digits.images.shape[1], 6
    middle = (size_px - side) // 2
    images = torch.zeros(len(digits), 1, size_px, size_px)

    def drawn(below: int) -> int:
        return int(torch.randint(below, (), generator=draw))

    for image, digit in zip(images, digits.images, strict=True):
        for _ in range(pieces):
            other = digits.images[drawn(len(digits))]
            row, column = drawn(side - piece + 1), drawn(side - piece + 1)
            top, left = drawn(size_px - piece + 1), drawn(size_px - piece + 1)
            image[0, top : top + piece, left : left + piece] = other[row : row + piece, column : column + piece]
        top, left = (middle - 3 + drawn(7) for _ in range(2))
        image[0, top - 1 : top + side + 1, left - 1 : left + side + 1] = 0
        image[0, top : top + side, left : left + side] = digit
    return Labeled(images, digits.labels.tolist())
