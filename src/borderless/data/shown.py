"""Labeled images as a network sees them, in training and in tests: small ones whole, photographs as crops of 224 px."""

from pathlib import Path

from torch import Tensor

from borderless.data import imagenet
from borderless.data.imagenet import PAPER_CROP_PX
from borderless.data.labeled import Labeled
from borderless.data.labeled_digits import moved_anywhere


def shown(images: Labeled) -> Labeled:
    """Return the images as the network sees them: small ones whole, photographs as crops of 224 px."""
    v2, first = imagenet.transforms(), images.images[0]
    if isinstance(first, Tensor):
        return images.through(v2.RGB())
    crop = imagenet.middle(PAPER_CROP_PX) if isinstance(first, Path) else []
    return images.through(imagenet.shown_through([*crop, v2.RGB()]))


def shown_in_training(images: Labeled, moves: bool) -> Labeled:
    """Return training images as the network sees them: photographs as random crops, which move them in every arm.

    Args:
        images: Images with labels.
        moves: Whether small images are moved at random: digits over their canvas, others by a quarter of their size,
            with zeros behind.
    """
    first = images.images[0]
    v2 = imagenet.transforms()
    if isinstance(first, Path):
        crops = [*imagenet.training_crops(PAPER_CROP_PX), v2.RGB()]
        return images.through(imagenet.shown_through(crops), is_random=True)
    if not moves:
        return shown(images)
    if isinstance(first, Tensor):
        return images.through(v2.Compose([moved_anywhere, v2.RGB()]), is_random=True)
    sides = first.shape[:2]
    crop = v2.RandomCrop(sides, padding=max(sides) // 4)
    return images.through(imagenet.shown_through([v2.ToImage(), v2.RGB(), crop]), is_random=True)
