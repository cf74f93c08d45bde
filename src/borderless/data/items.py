"""Common parts of data sets: three splits, suffixes of image files, and a seed for each item of each epoch."""

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


@dataclass(kw_only=True)
class DrawnByEpoch:
    """A data set whose items may be drawn anew in each epoch.

    Attributes:
        seed: Seed of the random numbers.
        epoch: Epoch of the training.
    """

    seed: int = 0
    epoch: int = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which decides the random numbers."""
        self.epoch = epoch

    def item_seed(self, index: int) -> int:
        """Return the seed of one item's random numbers in this epoch, whichever process asks for it, and when."""
        return (self.seed * 100_003 + self.epoch) * 10_000_019 + index
