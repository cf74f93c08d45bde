"""Common parts of data sets with classes: three splits, suffixes of image files, and a seed for each item."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")

Items = TypeVar("Items")


@dataclass(frozen=True)
class ClassSplit(Generic[Items]):
    """Three sets without a source in common; `classes`: their names, in the order of the labels."""

    train: Items
    validation: Items
    test: Items
    classes: tuple[str, ...]


ClipSplit = ClassSplit[Any]
"""Data sets of clips that have `clips(index)`: all of an item, as (clips, channels, frames, height, width)."""


def item_seed(seed: int, epoch: int, index: int) -> int:
    """Return the seed of one item's random numbers in one epoch, whichever process asks for it, and when."""
    return (seed * 100_003 + epoch) * 10_000_019 + index
